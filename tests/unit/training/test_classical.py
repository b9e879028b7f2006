from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn import metrics
from torch import Tensor

from twominds.backbones import BackboneStore
from twominds.encoders.classical import ClassicalTextConfig, ClassicalTextEncoder
from twominds.encoders.embedding import embed
from twominds.encoders.points import PointEncoderConfig
from twominds.encoders.statistics import StatisticsEncoderConfig
from twominds.encoders.vector_classifier import VectorClassifier, VectorClassifierConfig
from twominds.errors import ConfigError, TrainingError
from twominds.pipelines.train_view import new_encoder, trained_encoder
from twominds.recipes.catalog import find_recipe
from twominds.recipes.recipe import Recipe
from twominds.records import PRESENT, Features, FloatArray, Labels, Modality, Split, absent
from twominds.tasks import AH_FRAME, MIMICRY, Task
from twominds.training.classical import fit_classical
from twominds.training.examples import Targets
from twominds.training.fit import FitResult
from twominds.training.objective import Objective
from twominds.training.selection import LabelledSplits, SelectionView

ABSENT = Features(clip_id="none", view=Modality.TEXT, presence=absent("no transcript"))


def said(text: str) -> Features:
    values = np.frombuffer(text.encode(), dtype=np.uint8)
    return Features(clip_id=text, view=Modality.TEXT, presence=PRESENT, values=values)


TRAIN = [said(text) for text in ("maybe so", "surely not", "maybe yes", "surely yes", "maybe not", "surely so")]
LABELS = torch.tensor([1, 0, 1, 0, 1, 0])


def encoder() -> ClassicalTextEncoder:
    store = BackboneStore(uri="/nowhere")
    return ClassicalTextEncoder.pretrained(ClassicalTextConfig(), num_outputs=2, store=store, example=TRAIN[0])


def fitted(
    encoder: ClassicalTextEncoder, validation: list[Features], labels: Tensor, *, test: Tensor | None = None
) -> FitResult:
    """Trained on `TRAIN`; under the paper's protocol where labels of the same clips as a test split are given."""
    splits = {Split.TRAIN: (TRAIN, Targets.of_clips(LABELS)), Split.VALIDATION: (validation, Targets.of_clips(labels))}
    if test is not None:
        splits[Split.TEST] = validation, Targets.of_clips(test)
    view = LabelledSplits(splits).for_selection("validation" if test is None else "validation+test")
    return fit_classical(encoder, view, Objective(), seed=0)


def test_validation_is_measured_on_all_its_clips_and_changes_nothing() -> None:
    learned, other = encoder(), encoder()
    validation = [said("maybe"), ABSENT, said("surely"), said("surely, maybe"), said("surely")]
    labels = torch.tensor([1, 1, 0, 0, 1])
    result = fitted(learned, validation, labels)
    fitted(other, validation, 1 - labels)
    assert all(
        torch.equal(a, b) for a, b in zip(learned.state_dict().values(), other.state_dict().values(), strict=True)
    )
    present = [0, 2, 3, 4]
    embeddings = embed(learned, [validation[i] for i in present])
    logits = torch.tensor(np.concatenate([cast(FloatArray, embedding.logits) for embedding in embeddings]))
    assert logits[:2].argmax(dim=1).tolist() == [1, 0]
    f1_score = cast(Any, metrics).f1_score
    predicted = [0] * len(validation)  # the first class is as frequent as the other in training, and is the guess
    for place, i in enumerate(present):
        predicted[i] = int(logits[place].argmax())
    expected = f1_score(labels, predicted, average="macro", labels=[0, 1], zero_division=0)
    assert result.validation_score == result.selection_score == pytest.approx(expected)
    assert result.validation_loss == pytest.approx(float(F.cross_entropy(logits, labels[present])))
    assert (result.best_epoch, result.history) == (0, ())


def test_without_a_validation_clip_there_is_nothing_to_measure() -> None:
    with pytest.raises(TrainingError, match="modality text"):
        fitted(encoder(), [ABSENT], torch.tensor([0]))


def test_what_selects_under_the_papers_protocol_is_the_mean_of_both_splits() -> None:
    validation, labels = [said("maybe"), ABSENT, said("surely")], torch.tensor([1, 0, 0])
    honest, flipped = fitted(encoder(), validation, labels), fitted(encoder(), validation, 1 - labels)
    paper = fitted(encoder(), validation, labels, test=1 - labels)
    assert (honest.validation_score, flipped.validation_score) == (1.0, 0.0)
    assert (paper.validation_score, paper.selection_score) == (1.0, 0.5)
    assert paper.selection_loss == pytest.approx((honest.validation_loss + flipped.validation_loss) / 2)


FACE, NOWHERE = Modality.FACE, BackboneStore(uri="/nowhere")
NO_FACE = Features(clip_id="none", view=FACE, presence=absent("no face"))


def seen(mean: float, *points_s: float) -> Features:
    """A clip with two rows around a mean, that is asked about at some points."""
    rows = np.array([[mean - 1, 0], [mean + 1, 0]], np.float32)
    points = np.array(points_s) if points_s else None
    return Features(
        clip_id=str(mean), view=FACE, presence=PRESENT, values=rows, times_s=np.arange(2.0), points_s=points
    )


def of_points(*classes: int) -> Labels:
    return Labels(values=np.array([[c] for c in classes], np.float32), known=np.array([c >= 0 for c in classes]))


def selection(
    clips: list[Features], labels: list[Labels], task: Task = AH_FRAME
) -> SelectionView[tuple[list[Features], Targets]]:
    """The same clips as training and validation."""
    split = clips, Targets.of(labels, [clip.points_s for clip in clips], task.output)
    return LabelledSplits(dict.fromkeys((Split.TRAIN, Split.VALIDATION), split)).for_selection("validation")


def per_frame(config: VectorClassifierConfig | StatisticsEncoderConfig | PointEncoderConfig) -> Recipe:
    recipe = find_recipe("simple/ah-frame")
    return replace(recipe, encoders={**recipe.encoders, FACE: config})


def test_of_whole_clips_it_learns_and_is_measured_a_row_a_clip() -> None:
    """Clips of high means have a positive point somewhere; what nobody knows of the others is no reason to doubt."""
    clips = [seen(mean, 0.0, 0.5, 1.0) for mean in (0, 1, 2, 8, 9)] + [replace(NO_FACE, points_s=np.arange(3.0))]
    labels = [of_points(0, 0, -1), of_points(0, 0, 0), of_points(-1, 0, -1), of_points(0, 1, 0), of_points(1, 1, -1)]
    settings = VectorClassifierConfig(whole_clip=True, classifier="logistic_regression", c=10.0)
    view = selection(clips, [*labels, of_points(0, 1, 0)])
    encoder, result = trained_encoder(per_frame(settings), FACE, view, NOWHERE, device="cpu")
    assert isinstance(encoder, VectorClassifier)
    twin = VectorClassifier.pretrained(settings, num_outputs=2, store=NOWHERE, example=clips[0])
    twin.learn(clips, torch.tensor([0, 0, 0, 1, 1, 0]), seed=0)
    assert all(
        torch.equal(a, b) for a, b in zip(encoder.state_dict().values(), twin.state_dict().values(), strict=True)
    )
    # Six clips count: five that are right, and one without a face that gets the more frequent class, 0 before 1.
    f1_score = cast(Any, metrics).f1_score
    expected = f1_score([0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0], average="weighted")
    assert result.validation_score == pytest.approx(expected)
    answers = [cast(FloatArray, found.logits).argmax(axis=1).tolist() for found in embed(encoder, clips[:5])]
    assert answers == [[0] * 3] * 3 + [[1] * 3] * 2


def test_of_single_clips_it_goes_the_same_way() -> None:
    clips, labels = [seen(mean) for mean in (0, 1, 8, 9)], [Labels.of_clip(c) for c in (0, 0, 1, 1)]
    recipe = find_recipe("simple/joint")
    recipe = replace(recipe, stages=find_recipe("simple/mimicry").stages)
    recipe = replace(recipe, encoders={**recipe.encoders, FACE: VectorClassifierConfig(c=10.0)})
    view = selection(clips, labels, recipe.task)
    encoder, result = trained_encoder(recipe, FACE, view, NOWHERE, device="cpu")
    assert result.validation_score == 1.0
    assert encoder.embedding_dim == 2


def test_who_may_answer_where_the_task_asks_per_frame() -> None:
    clips = [seen(0, 0.0, 0.5)]
    for config in (VectorClassifierConfig(), StatisticsEncoderConfig()):
        with pytest.raises(ConfigError, match="answers once a clip; ah-frame asks per frame"):
            new_encoder(per_frame(config), FACE, clips, NOWHERE)
    for config in (VectorClassifierConfig(whole_clip=True), PointEncoderConfig()):
        assert new_encoder(per_frame(config), FACE, clips, NOWHERE).view == FACE


def test_of_intensities_there_are_no_classes_to_tell_apart() -> None:
    settings = VectorClassifierConfig(classifier="logistic_regression")
    clips = [seen(0), seen(1)]
    encoder = VectorClassifier.pretrained(settings, num_outputs=6, store=NOWHERE, example=clips[0])
    view = selection(clips, [Labels.of_clip(*np.linspace(0, 1, 6).tolist())] * 2, MIMICRY)
    with pytest.raises(ConfigError, match="tells classes apart, which mimicry is not about"):
        fit_classical(encoder, view, Objective(task=MIMICRY), seed=0)

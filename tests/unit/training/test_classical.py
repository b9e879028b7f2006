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
from twominds.errors import TrainingError
from twominds.records import PRESENT, Features, FloatArray, Modality, Split, absent
from twominds.training.classical import fit_classical
from twominds.training.examples import Targets
from twominds.training.fit import FitResult
from twominds.training.objective import Objective
from twominds.training.selection import LabelledSplits

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

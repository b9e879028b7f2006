"""Rows that blend what encoders say: what is chosen on validation, and for the report on other people."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

from twominds import artifacts
from twominds.pipelines.study.parts import Made
from twominds.pipelines.study.rows import cross_fitted_answers, models_of, save_whole, train_rows
from twominds.recipes.recipe import Recipe
from twominds.recipes.stages import BlendViews, TrainViews
from twominds.records import Modality, Split, View
from twominds.reports.study.rows import ClipEmbeddings, labelled, labelled_points
from twominds.scoring.decision import Decision, Overrule
from twominds.scoring.ensemble import Ensemble
from twominds.scoring.post_processing import Grids, PostProcessing, SaidClip, fit_post_processing
from twominds.tasks import AH_VIDEO
from twominds.training.metrics import macro_f1, metric_of

if TYPE_CHECKING:
    from tests.unit.pipelines.conftest import MadeUpStudy

Tiny = Callable[..., Recipe]
FACE, AUDIO = Modality.FACE, Modality.AUDIO
GRIDS = Grids(weight_step=0.25, thresholds=(0.3, 0.4, 0.5, 0.6))


def blend(tiny: Tiny, *views: View, grids: Grids = GRIDS, **weights: float) -> Recipe:
    recipe = tiny("blend", *views, reports="ensemble", inputs="logits", seeds=(5,))
    stages = TrainViews(), BlendViews(weights=dict(weights))
    return replace(recipe, stages=stages, grids=grids, decision=Decision())


def telling(
    clips: Sequence[ClipEmbeddings], encoder: str, *, wrong: float, loud: float, seed: int
) -> list[ClipEmbeddings]:
    """The clips with an encoder that says the label, but for a share of them, by logits of about `loud`."""
    rng = np.random.default_rng(seed)
    found: list[ClipEmbeddings] = []
    for item in clips:
        own, label = item.by_encoder.get(encoder), item.clip.label
        if own is None or own.logits is None or label is None:
            found.append(item)
            continue
        margin = rng.normal(loud, 0.4) * (1 if (label == 1) != (rng.random() < wrong) else -1)
        logits = np.array([[0.0, margin]], np.float32)
        p = 1 / (1 + np.exp(-margin))
        said = replace(own, logits=logits, probabilities=np.array([[1 - p, p]], np.float32))
        found.append(replace(item, by_encoder={**item.by_encoder, encoder: said}))
    return found


@pytest.fixture
def clips(made_up: "MadeUpStudy", tiny: Tiny) -> list[ClipEmbeddings]:
    made_up.parts(blend(tiny, FACE, AUDIO))
    face, audio = (made_up.part(view).encoder for view in (FACE, AUDIO))
    return telling(telling(made_up.clips(), face, wrong=0.1, loud=1.0, seed=0), audio, wrong=0.6, loud=3.0, seed=1)


def test_a_blend_weighs_who_knows_and_no_test_label_reaches_it(
    made_up: "MadeUpStudy", tiny: Tiny, clips: list[ClipEmbeddings]
) -> None:
    recipe = blend(tiny, FACE, AUDIO)
    row = made_up.models(recipe, clips=clips)["blend"]
    assert train_rows([row], clips, 0.0, lambda: None) == {}
    ensemble = Ensemble.load(row.uri)
    weights = {member.name: member.weight for member in ensemble.config.members}
    assert np.max(weights[FACE]) > np.max(weights[AUDIO])
    assert ensemble.card.metrics["validation_score"] > 0.7
    assert ensemble.card.data["clips"] == {"train": 20, "val": 12}
    relabelled = [
        replace(item, clip=replace(item.clip, labels=None)) if item.clip.split == Split.TEST else item for item in clips
    ]
    other = models_of(
        [recipe], Made(parts=made_up.parts(recipe), runs={}), relabelled, str(made_up.root / "other"), "validation"
    )["blend"]
    train_rows([other], relabelled, 0.0, lambda: None)
    assert artifacts.read_card(other.uri).artifact_id == ensemble.card.artifact_id
    whole = save_whole(row, recipe, str(made_up.root / "whole"))
    assert whole.recipe == "blend"
    assert [*Ensemble.load(str(made_up.root / "whole")).models] == [FACE, AUDIO]


def test_given_weights_stay(made_up: "MadeUpStudy", tiny: Tiny, clips: list[ClipEmbeddings]) -> None:
    recipe = blend(tiny, FACE, AUDIO, grids=Grids(), face=0.2, audio=0.8)
    row = made_up.models(recipe, clips=clips)["blend"]
    train_rows([row], clips, 0.0, lambda: None)
    assert [member.weight for member in Ensemble.load(row.uri).config.members] == [0.2, 0.8]
    assert made_up.models(blend(tiny, FACE, AUDIO), clips=clips)["blend"].uri != row.uri


def test_who_overrules_is_a_member_without_weight(
    made_up: "MadeUpStudy", tiny: Tiny, clips: list[ClipEmbeddings]
) -> None:
    rule = Overrule(member=AUDIO, when="negative")
    recipe = replace(blend(tiny, FACE), decision=Decision(steps=(rule,)))
    assert recipe.views == (FACE, AUDIO)
    row = made_up.models(recipe, clips=clips)["blend"]
    train_rows([row], clips, 0.0, lambda: None)
    ensemble = Ensemble.load(row.uri)
    assert [(member.name, member.weight) for member in ensemble.config.members] == [(FACE, 1.0), (AUDIO, 0.0)]
    audio = made_up.part(AUDIO).encoder
    for item, score in zip(clips, ensemble.score(row.inputs_of(clips)), strict=True):
        said = item.by_encoder[audio].probabilities
        if said is not None and said[0, 1] < 0.5:
            assert getattr(score, "label", None) == 0


def probabilities(item: ClipEmbeddings, encoder: str) -> npt.NDArray[np.float64]:
    said = item.by_encoder[encoder].probabilities
    return np.full((1, 2), np.nan) if said is None else said.astype(np.float64)


def test_answers_of_validation_by_what_was_chosen_on_others(
    made_up: "MadeUpStudy", tiny: Tiny, clips: list[ClipEmbeddings]
) -> None:
    """Against a loop over the people, each of whom is left out once."""
    recipe = blend(tiny, FACE, AUDIO)
    row = made_up.models(recipe, clips=clips)["blend"]
    train_rows([row], clips, 0.0, lambda: None)
    seen = [
        replace(item, clip=replace(item.clip, participant_id=f"p{i % 4}"))
        for i, item in enumerate(labelled(clips, Split.VALIDATION))
    ]
    points = labelled_points(seen, AH_VIDEO)
    found = cross_fitted_answers(row, recipe, seen, points, (0.5, 0.5))
    encoders = [made_up.part(view).encoder for view in (FACE, AUDIO)]
    said = [
        SaidClip(
            by_member=np.stack(
                [
                    np.full((1, 2), np.nan)
                    if (p := item.by_encoder[encoder].probabilities) is None
                    else p.astype(float)
                    for encoder in encoders
                ]
            ),
            points_s=None,
            places=np.zeros(1, np.int64),
            truth=np.array([item.clip.label]),
        )
        for item in seen
    ]
    start = PostProcessing(names=(FACE, AUDIO), weights=(0.5, 0.5), decision=Decision())
    expected: list[int] = []
    for i, own in enumerate(said):
        others = [other for j, other in enumerate(said) if j % 4 != i % 4]
        fitted = fit_post_processing(others, start, GRIDS, metric_of(AH_VIDEO), of_classes=True)
        answer = fitted.answers(own, of_classes=True)
        assert answer is not None
        expected.append(int(answer[0]))
    assert found.predictions.tolist() == [expected]
    assert macro_f1(points.truth, found.predictions[0], 2) > 0.6

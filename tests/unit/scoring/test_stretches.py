"""Clips of which several stretches were looked at: one answer, the mean over them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from tests.unit.scoring.test_ensemble import clip_of, ensemble_of, odds, parts, scored, total

from twominds.fusion.batch import count_points, count_rows, fusion_inputs
from twominds.records import Clip, Embedding, Score, View, clip_labels
from twominds.reports.study.answers import encoder_answers
from twominds.reports.study.points import LabelledPoints
from twominds.tasks import AH_VIDEO

SEVERAL: tuple[View, ...] = ("scene", "face")


def with_stretches(clip: Mapping[View, Embedding], count: int) -> dict[View, Embedding]:
    """Two views look at `count` stretches, the others at the whole."""
    draw = np.random.default_rng(count)

    def rows(embedding: Embedding) -> Embedding:
        assert embedding.vectors is not None
        shape = (count, embedding.vectors.shape[1])
        return replace(embedding, vectors=draw.standard_normal(shape).astype(np.float32))

    return {view: rows(embedding) if view in SEVERAL else embedding for view, embedding in clip.items()}


def alone(clip: Mapping[View, Embedding], row: int) -> dict[View, Embedding]:
    """The clip as if one stretch of it were all."""

    def of_row(embedding: Embedding) -> Embedding:
        assert embedding.vectors is not None
        return replace(embedding, vectors=embedding.vectors[[row if len(embedding.vectors) > 1 else 0]])

    return {view: of_row(embedding) for view, embedding in clip.items()}


def test_each_view_that_looked_once_says_the_same_beside_each_stretch() -> None:
    clips = [with_stretches(clip_of(AH_VIDEO), 3), clip_of(AH_VIDEO, 1)]
    assert [count_rows(clip) for clip in clips] == [3, 1]
    assert [count_points(clip) for clip in clips] == [1, 1]
    inputs = fusion_inputs(clips, ["scene", "text"], "emb")
    assert inputs.mask.all()
    assert inputs.mask.shape == (4, 2)
    text: npt.NDArray[np.float32] = inputs.tokens["text"].numpy()
    assert (text[:3] == text[0]).all()
    np.testing.assert_array_equal(inputs.tokens["scene"].numpy()[:3], clips[0]["scene"].vectors)


def test_the_score_is_the_mean_over_the_stretches_and_others_are_as_they_were() -> None:
    ensemble = ensemble_of(AH_VIDEO)
    clips = [clip_of(AH_VIDEO, 1), with_stretches(clip_of(AH_VIDEO, 2), 5), with_stretches(clip_of(AH_VIDEO, 3), 2)]
    scores = [scored(ensemble, clip) for clip in clips]
    together = ensemble.score(clips)
    for clip, own, score in zip(clips, scores, together, strict=True):
        each = [scored(ensemble, alone(clip, row)).probabilities for row in range(count_rows(clip))]
        np.testing.assert_allclose(own.probabilities, np.mean(each, axis=0), atol=1e-9)
        assert isinstance(score, Score)
        np.testing.assert_allclose(score.probabilities, own.probabilities, atol=1e-7)
        assert own.label == int(own.probabilities[1] >= 0.5)
        assert own.timeline is None
    assert ensemble.probabilities(clips).shape == (2, 3, 2)


def test_contributions_are_of_the_mean_too() -> None:
    score = scored(ensemble_of(AH_VIDEO), with_stretches(clip_of(AH_VIDEO), 4))
    np.testing.assert_allclose(total(parts(score)), odds(score.probabilities[1:]), atol=1e-9)


def test_the_encoder_by_itself_is_the_mean_too() -> None:
    chances = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]], np.float32)
    embedding = replace(with_stretches(clip_of(AH_VIDEO), 3)["face"], probabilities=chances, logits=np.log(chances))
    clip = Clip(clip_id="a", video_uri="", labels=clip_labels(1))
    points = LabelledPoints.of([clip], AH_VIDEO, [None])
    found = encoder_answers([embedding], points, (0.5, 0.5), AH_VIDEO)
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities, [[0.6]], atol=1e-6)
    assert found.predictions.tolist() == [[1]]

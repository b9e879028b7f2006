from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from twominds.errors import ConfigError, SelectionError
from twominds.scoring.decision import Decision, Overrule, Smooth, Threshold
from twominds.scoring.post_processing import (
    Grids,
    PostProcessing,
    SaidClip,
    cross_fitted,
    fit_post_processing,
)
from twominds.training.metrics import metric_of_classes, metric_of_intensities

MACRO, PEARSON = metric_of_classes("macro_f1", 2), metric_of_intensities("pearson", 2)
POINTS_S = np.arange(60) / 10


def clip(
    *positive: npt.NDArray[np.float64], truth: npt.NDArray[np.int64], places: npt.NDArray[np.int64] | None = None
) -> SaidClip:
    """What members say of two classes at `POINTS_S`; of all points (or those of `places`) the truth is known."""
    by_member = np.stack([np.stack([1 - p, p], axis=1) for p in positive])
    places = np.arange(len(truth)) if places is None else places
    return SaidClip(by_member=by_member, points_s=POINTS_S, places=places, truth=truth[places])


def noisy(seed: int, noise: float = 0.35) -> SaidClip:
    """A stretch of A/H of two seconds, of which each point is told with noise."""
    rng = np.random.default_rng(seed)
    truth = ((np.arange(60) >= 20) & (np.arange(60) < 40)).astype(np.int64)
    return clip(np.clip(0.3 + 0.4 * truth + rng.normal(0, noise, 60), 0, 1), truth=truth)


def of(*names: str, weights: tuple[float, ...] = (), decision: Decision | None = None) -> PostProcessing:
    return PostProcessing(
        names=names, weights=weights or (1 / len(names),) * len(names), decision=decision or Decision()
    )


def accuracy(found: PostProcessing, clips: list[SaidClip]) -> float:
    right = [answers_of(found, each) == each.truth.astype(np.int64) for each in clips]
    return float(np.concatenate(right).mean())


def answers_of(found: PostProcessing, of_clip: SaidClip) -> npt.NDArray[np.int64]:
    answers = found.answers(of_clip, of_classes=True)
    assert answers is not None
    return answers


def test_smoothing_is_chosen_where_truth_is_smooth() -> None:
    clips = [noisy(seed) for seed in range(6)]
    start = of("face", decision=Decision(steps=(Smooth(radius=0.0),)))
    found = fit_post_processing(clips, start, Grids(radii=(0.0, 0.5, 1.0, 3.0)), MACRO, of_classes=True)
    assert found.decision.step(Smooth).radius in (0.5, 1.0)
    others = [noisy(seed) for seed in range(6, 12)]
    assert accuracy(found, others) > accuracy(start, others) + 0.1


def test_without_noise_nothing_is_smoothed() -> None:
    """A perfect clip is left as it is: the radius that changes least and the first threshold win among equals."""
    start = of("face", decision=Decision(steps=(Smooth(radius=0.5),)))
    found = fit_post_processing(
        [noisy(0, noise=0.0)], start, Grids(radii=(1.0, 0.0, 0.2), thresholds=(0.5, 0.4, 0.6)), MACRO, of_classes=True
    )
    assert found.decision.step(Smooth).radius == 0.0
    assert found.decision.threshold == 0.5


def test_of_equally_good_thresholds_the_first_is_kept() -> None:
    """ConflictAwareAH's sweep goes up from .25 and replaces the best by what is better alone, never by an equal."""
    clips = [clip(np.array([0.1, 0.42, 0.9, 0.3]), truth=np.array([0, 1, 1, 0]))]
    sweep = tuple(np.nextafter(np.arange(25, 75) / 100, 1).tolist())
    found = fit_post_processing(clips, of("face"), Grids(thresholds=sweep), MACRO, of_classes=True)
    assert found.decision.threshold == pytest.approx(0.30), "above .30 is not what is .30"


def test_radius_and_threshold_are_chosen_together() -> None:
    """Against a loop over both, with scikit-learn's score."""
    from sklearn.metrics import f1_score  # pyright: ignore[reportUnknownVariableType]

    clips = [noisy(seed) for seed in range(3)]
    clips = [replace(each, by_member=each.by_member * np.array([1.0, 0.6])) for each in clips]  # too low by far
    start = of("face", decision=Decision(steps=(Smooth(radius=0.0, unit="points"),)))
    radii, thresholds = (0.0, 2.0, 5.0, 9.0), (0.2, 0.3, 0.4, 0.5)
    truth = np.concatenate([each.truth for each in clips])

    def by_hand(radius: float, threshold: float) -> float:
        answers: list[bool] = []
        for each in clips:
            p = each.by_member[0, :, 1]
            for i in range(len(p)):
                around = p[max(0, i - int(radius)) : i + int(radius) + 1]
                answers.append(bool(np.mean(around) >= threshold))
        return float(f1_score(truth, answers, average="macro"))

    best = max(((r, t) for r in radii for t in thresholds), key=lambda pair: by_hand(*pair))
    found = fit_post_processing(clips, start, Grids(radii=radii, thresholds=thresholds), MACRO, of_classes=True)
    assert (found.decision.step(Smooth).radius, found.decision.threshold) == best


def test_weights_go_to_who_knows_and_a_judge_has_none() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 60)
    knows, guesses, judge = (np.clip(m * (truth - 0.5) + rng.normal(0.5, 0.2, 60), 0, 1) for m in (0.5, 0.0, 0.9))
    start = of("face", "audio", "judge", weights=(0.5, 0.5, 0.0))
    found = fit_post_processing(
        [clip(knows, guesses, judge, truth=truth)], start, Grids(weight_step=0.25), MACRO, of_classes=True
    )
    assert np.max(found.weights[0]) > 0.5
    assert found.weights[2] == 0.0


def test_weights_of_each_intensity_by_itself() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((80, 2))
    noise = rng.random((2, 80, 2))
    noise[0, :, 0], noise[1, :, 1] = truth[:, 0], truth[:, 1]  # each member knows one of them
    clips = [
        SaidClip(by_member=noise[:, [i]], points_s=None, places=np.array([0]), truth=truth[[i]]) for i in range(80)
    ]
    grids = Grids(weight_step=0.5, per_output=True)
    found = fit_post_processing(clips, of("face", "text"), grids, PEARSON, of_classes=False)
    assert found.weights == ((1.0, 0.0), (0.0, 1.0))


def test_the_filter_overrules_where_its_model_is_right() -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 2, 60)
    guesses = rng.random(60)
    sure = np.where(rng.random(60) < 0.5, np.where(truth == 1, 0.85, 0.15), 0.55)  # of half the points it is sure
    rule = Overrule(member="pretrained", confidence=0.95)
    start = of("face", "pretrained", weights=(1.0, 0.0), decision=Decision(steps=(rule,)))
    clips = [clip(guesses, sure, truth=truth)]
    found = fit_post_processing(clips, start, Grids(confidences=(0.7, 0.95)), MACRO, of_classes=True)
    assert found.decision.step(Overrule).confidence == 0.7
    assert accuracy(found, clips) > accuracy(start, clips) + 0.1


def test_points_that_nobody_annotated_are_smoothed_over_but_not_judged() -> None:
    truth = np.zeros(60, np.int64)
    truth[30] = 1
    p = np.zeros(60)
    p[28:33] = 0.9
    seen = clip(p, truth=truth, places=np.array([0, 30]))
    answers = of("face", decision=Decision(steps=(Smooth(radius=2, unit="points"),))).answers(seen, of_classes=True)
    assert answers is not None
    assert answers.tolist() == [0, 1]


def test_a_clip_of_which_nothing_is_said_has_no_answer_and_does_not_count() -> None:
    silent = replace(noisy(0), by_member=np.full((1, 60, 2), np.nan))
    assert of("face").answers(silent, of_classes=True) is None
    grids = Grids(thresholds=(0.3, 0.5))
    both, one = ([noisy(1), silent], [noisy(1)])
    fitted = [fit_post_processing(clips, of("face"), grids, MACRO, of_classes=True) for clips in (both, one)]
    assert fitted[0] == fitted[1]
    with pytest.raises(SelectionError, match="can't be chosen"):
        fit_post_processing([silent], of("face"), grids, MACRO, of_classes=True)


def test_who_alone_sees_a_clip_keeps_a_weight() -> None:
    """Or the clip would lose its answer."""
    truth = np.array([0, 1] * 30)
    right, wrong = np.where(truth == 1, 0.9, 0.1), np.full(60, 0.5)
    alone = clip(right, wrong, truth=truth)
    alone = replace(alone, by_member=np.stack([np.full((60, 2), np.nan), alone.by_member[1]]))
    found = fit_post_processing(
        [clip(right, wrong, truth=truth), alone], of("a", "b"), Grids(weight_step=0.5), MACRO, of_classes=True
    )
    assert found.answers(alone, of_classes=True) is not None


def test_nothing_to_choose_leaves_all_as_it_is() -> None:
    start = of("face", decision=Decision(steps=(Threshold(value=0.3),)))
    assert fit_post_processing([], start, Grids(), MACRO, of_classes=True) is start
    assert not Grids(per_output=True)


@pytest.mark.parametrize(
    ("grids", "told"), [(Grids(radii=(1.0,)), "no smoothing"), (Grids(confidences=(0.5,)), "nobody overrules")]
)
def test_a_grid_needs_its_step(grids: Grids, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        fit_post_processing([noisy(0)], of("face"), grids, MACRO, of_classes=True)


def test_values_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="radii"):
        Grids(radii=(-1.0,))
    with pytest.raises(ConfigError, match="thresholds"):
        Grids(thresholds=(0.5, 1.0))


def test_cross_fitting_answers_nobody_by_what_was_chosen_on_them() -> None:
    """Each person has a threshold of their own; the answers are those of a loop over the folds."""
    truth = np.array([0, 1] * 30)
    levels = {"a": 0.2, "b": 0.4, "c": 0.6}
    people = ["a", "b", "c", "b"]
    clips = [clip(np.where(truth == 1, levels[who], levels[who] - 0.1), truth=truth) for who in people]
    grids = Grids(thresholds=(0.2, 0.4, 0.6))
    found = cross_fitted(clips, people, of("face"), grids, MACRO, of_classes=True)
    for who, own, said in zip(people, clips, found, strict=True):
        others = [other for other, name in zip(clips, people, strict=True) if name != who]
        fitted = fit_post_processing(others, of("face"), grids, MACRO, of_classes=True)
        assert said is not None
        assert np.array_equal(said, answers_of(fitted, own))
    seen = fit_post_processing([clips[0]], of("face"), grids, MACRO, of_classes=True)
    assert found[0] is not None
    assert not np.array_equal(found[0], answers_of(seen, clips[0])), "or it was chosen on itself"


def test_cross_fitting_needs_others() -> None:
    with pytest.raises(SelectionError, match="two people"):
        cross_fitted([noisy(0)] * 2, ["a", "a"], of("face"), Grids(thresholds=(0.3,)), MACRO, of_classes=True)

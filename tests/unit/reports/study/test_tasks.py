"""Reports of tasks per frame and of intensities: against scikit-learn, and against numbers worked out by hand."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
from sklearn import metrics

from twominds.errors import ConfigError
from twominds.records import Clip, Contributions, Labels, Modality, Score, Split, clip_labels
from twominds.reports.study.answers import baselines
from twominds.reports.study.comparison import compare, read_report
from twominds.reports.study.contributions import MeanContribution, group_contributions
from twominds.reports.study.plots import draw_plots
from twominds.reports.study.points import LabelledPoints, constant
from twominds.reports.study.protocol import protocol, sizes
from twominds.reports.study.report import write_report
from twominds.reports.study.results import Answers, RowResult, StudyResults
from twominds.reports.study.scores import score_study
from twominds.reports.study.tables import contribution_cells, markdown, metric_cells, row_cells
from twominds.reports.study.timeline_plots import shown_clips
from twominds.tasks import AH_FRAME, AH_VIDEO, EXPRESSION, MIMICRY, Intensities, Task
from twominds.training.ranking import ChallengeAveragePrecision

if TYPE_CHECKING:
    from tests.unit.reports.study.conftest import MadeUp

Evaluation = Callable[..., "MadeUp"]
Floats = np.ndarray[Any, np.dtype[np.float64]]
sklearn = cast("Any", metrics)


def by_hand(made: "MadeUp", split: Split) -> list[Floats | None]:
    """Of each clip the ensemble's mean [P, K] before anything is decided: weights are a softmax over what is there."""
    found: list[Floats | None] = []
    scores = [model.state_dict()["scores"].double() for model in made.ensemble.models.values()]
    for clip in made.inputs[split]:
        there = torch.tensor([embedding.presence.present for embedding in clip.values()])
        if not there.any():
            found.append(None)
            continue
        logits = torch.stack([torch.from_numpy(e.logits).double() for e in clip.values() if e.logits is not None])
        members = [(own[there].softmax(dim=0)[:, None] * logits).sum(dim=0) for own in scores]
        of_classes = not isinstance(made.task.output, Intensities)
        outputs = [own.softmax(dim=-1) if of_classes else own.sigmoid() for own in members]
        found.append(torch.stack(outputs).mean(dim=0).numpy())
    return found


def decided(outputs: Floats) -> tuple[Floats, list[int]]:
    """The probability of `ah` over two neighbours on each side, and the class without stretches of one frame."""
    smooth = np.array([outputs[max(i - 2, 0) : i + 3, 1].mean() for i in range(len(outputs))])
    labels = [int(p >= 0.5) for p in smooth]
    alone = [label == 1 and labels[max(i - 1, 0) : i + 2].count(1) == 1 for i, label in enumerate(labels)]
    return smooth, [0 if single else label for single, label in zip(alone, labels, strict=True)]


def test_frames_are_scored_where_they_are_labelled_as_they_are_served(made_up_evaluation: Evaluation) -> None:
    made = made_up_evaluation(AH_FRAME)
    results = made.results
    scores = score_study(results)
    train = np.concatenate([clip.labels.classes for clip in results.train.clips if clip.labels])
    share = (train[train >= 0] == 1).mean()
    assert results.prior == pytest.approx((1 - share, share))
    for split in (Split.VALIDATION, Split.TEST):
        truth: list[int] = []
        said: list[int] = []
        chance: list[float] = []
        unanswered: list[int] = []
        for clip, outputs in zip(results.clips[split], by_hand(made, split), strict=True):
            assert clip.labels is not None
            known = np.flatnonzero(clip.labels.known)
            truth += clip.labels.classes[known].tolist()
            if outputs is None:
                said += [int(share > 0.5)] * len(known)
                chance += [share] * len(known)
                unanswered.append(len(known))
            else:
                smooth, labels = decided(outputs)
                said += [labels[i] for i in known]
                chance += smooth[known].tolist()
        served = results.served[split]
        assert served.predictions.tolist() == [said]
        assert served.probabilities is not None
        assert np.isnan(served.probabilities).sum() == sum(unanswered) > 0
        found = scores.headline.splits[split]
        assert found.score.value == pytest.approx(sklearn.f1_score(truth, said, average="weighted"))
        assert found.unseen == len(unanswered) == 1
        assert found.other_metrics == pytest.approx(
            {
                "macro_f1": sklearn.f1_score(truth, said, average="macro"),
                "positive_f1": sklearn.f1_score(truth, said),
                "accuracy": sklearn.accuracy_score(truth, said),
                "average_precision": sklearn.average_precision_score(truth, chance),
                "average_precision_1000": ChallengeAveragePrecision()(truth, chance),
            }
        )
        assert np.array(found.confusion).tolist() == sklearn.confusion_matrix(truth, said).tolist()
        assert scores.people[split] == 7, "a clip of nobody known is one person, not one for each frame"
    assert "12 test clips (" in sizes(scores)
    assert "labelled frames) of 7 people" in sizes(scores)


def test_members_of_a_task_per_frame_decide_over_time_each_by_itself(made_up_evaluation: Evaluation) -> None:
    made = made_up_evaluation(AH_FRAME)
    (single,) = [row for row in made.results.rows if row.recipe == "single"]
    points, clip = made.results.points[Split.TEST], made.inputs[Split.TEST][3]
    by_member = made.ensemble.probabilities([clip])
    rows = dict(points.of_clips())[3]
    for member, outputs in enumerate(by_member):
        _, labels = decided(outputs)
        expected = np.array(labels)[points.places[rows]].tolist()
        assert single.answers[Split.TEST].predictions[member, rows].tolist() == expected
    assert points.places[rows][0] == len(clip["text"].points_s if clip["text"].points_s is not None else []) // 8


def test_groups_of_a_task_per_frame_are_of_clips(made_up_evaluation: Evaluation) -> None:
    results = made_up_evaluation(AH_FRAME).results
    points, served = results.points[Split.TEST], results.served[Split.TEST].predictions[0]
    women = [i for i, clip in enumerate(points.clips) if clip.attributes["gender"] == "Woman"]
    (group,) = [g for g in score_study(results).groups if (g.group, g.split) == ("Woman", Split.TEST)]
    own = np.isin(points.owners, women)
    assert (group.clips, group.people) == (6, 6)
    assert group.score.value == pytest.approx(sklearn.f1_score(points.truth[own], served[own], average="weighted"))


def test_several_classes_are_the_most_probable_ones_and_have_no_reliability(made_up_evaluation: Evaluation) -> None:
    made = made_up_evaluation(EXPRESSION)
    results, scores = made.results, score_study(made.results)
    points = results.points[Split.TEST]
    guess = int(np.argmax(results.prior))
    said: list[int] = []
    for (_, rows), outputs in zip(points.of_clips(), by_hand(made, Split.TEST), strict=True):
        labels = None if outputs is None else outputs.argmax(axis=1)
        said += [guess if labels is None else int(labels[i]) for i in points.places[rows]]
    found = scores.headline.splits[Split.TEST]
    assert results.served[Split.TEST].probabilities is None
    assert found.score.value == pytest.approx(sklearn.f1_score(points.truth, said, average="macro"))
    assert set(found.other_metrics) == {"weighted_f1", "accuracy"}
    assert (np.array(found.confusion).shape, scores.reliability) == ((8, 8), {})
    assert [row.recipe for row in results.rows][:2] == ["majority", "face.a"]
    assert {"confusion", "timelines"} <= {plot.name for plot in draw_plots(scores)}


def test_intensities_are_scored_by_correlation(made_up_evaluation: Evaluation) -> None:
    made = made_up_evaluation(MIMICRY)
    results, scores = made.results, score_study(made.results)
    points = results.points[Split.TEST]
    train = np.concatenate([clip.labels.values for clip in results.train.clips if clip.labels])
    assert results.prior == pytest.approx(train.mean(axis=0, dtype=np.float64), rel=1e-6)
    said = np.array([np.array(results.prior) if o is None else o[0] for o in by_hand(made, Split.TEST)])
    np.testing.assert_allclose(results.served[Split.TEST].predictions[0], said, atol=1e-6)
    found = scores.headline.splits[Split.TEST]
    each = [float(np.corrcoef(said[:, k], points.truth[:, k])[0, 1]) for k in range(6)]
    assert found.score.value == pytest.approx(np.mean(each), abs=1e-6)
    assert [found.other_metrics[f"pearson of {name}"] for name in MIMICRY.names] == pytest.approx(each, abs=1e-6)
    assert (found.confusion, found.unseen, scores.reliability) == (None, 1, {})
    assert [row.recipe for row in results.rows][:2] == ["training mean", "face.a"]
    mean = scores.rows[0].splits[Split.TEST]
    assert (mean.score.value, set(mean.other_metrics.values())) == (0, {0.0})
    names = [plot.name for plot in draw_plots(scores)]
    assert names == ["rows", "seeds", "questions", "people", "drops", "contributions"]


PAIR = Task(name="pair", output=Intensities(names=("Joy", "Pain")), metric="pearson")


def two_intensities() -> StudyResults:
    truth = [(0.0, 0.0), (0.5, 1.0), (1.0, 0.5)]
    clips = [
        Clip(clip_id=f"c{i}", video_uri="", split=Split.TEST, labels=Labels.of_clip(*values), participant_id=f"p{i}")
        for i, values in enumerate(truth)
    ]
    points = {Split.TEST: LabelledPoints.of(clips, PAIR)}
    said = np.array([[(0.0, 0.2), (0.5, 0.2), (1.0, 0.2)]])
    served = {Split.TEST: Answers(predictions=said, probabilities=None, answered=np.array([True, True, False]))}
    row = RowResult(recipe="r", description="", views=(Modality.FACE,), reports="ensemble", answers=served)
    return StudyResults(
        study="pair",
        task=PAIR,
        points=points,
        train=LabelledPoints.of(clips[:2], PAIR),
        prior=(0.25, 0.5),
        rows=(*baselines(LabelledPoints.of(clips[:2], PAIR), points, PAIR), row),
        headline="r",
        headline_is="the only one",
        served=served,
    )


def test_intensities_by_hand(tmp_path: Path) -> None:
    """Joy is right, and Pain a constant: its correlation counts as 0."""
    results = two_intensities()
    scores = score_study(results)
    found = scores.headline.splits[Split.TEST]
    assert found.score.value == 0.5
    assert found.other_metrics == {"ccc": 0.5, "pearson of Joy": 1.0, "pearson of Pain": 0.0}
    assert results.train.prior(PAIR) == (0.25, 0.5)
    assert results.rows[0].answers[Split.TEST].predictions.tolist() == [[[0.25, 0.5]] * 3]
    assert row_cells(scores.headline, scores)["Test PCC [95 % CI]"].startswith("50.00 [")
    header, mean, row = (*metric_cells(scores)[:1], *metric_cells(scores)[1])
    assert header[0] == "Recipe: test"
    assert (mean[1:], row[1:]) == (["0.00"] * 3, ["50.00", "100.00", "0.00"])
    assert "gets the training mean" in protocol(scores)[0]
    write_report(results, str(tmp_path))
    lines = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert [*lines[1]] == [
        *("clip_id", "split", "participant", "label Joy", "label Pain"),
        "predicted Joy",
        "predicted Pain",
    ]
    assert [*lines[1].values()] == ["c1", "test", "p1", "0.5", "1.0", "0.5", "0.2"]
    told = json.loads((tmp_path / "results.json").read_text())
    assert (told["task"], told["metric"], told["rows"][1]["splits"]["test"]["score"]["value"]) == (
        "pair",
        "pearson",
        0.5,
    )
    table = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [(row["metric"], row["test_score"]) for row in table] == [("pearson", "0.00"), ("pearson", "50.00")]
    (paired,) = compare(results, read_report(str(tmp_path))).splits.values()
    assert (paired.clips, paired.difference.value, paired.only_ours) == (3, 0, None)


# --- what is not known is not there ---


def test_points_are_what_is_known_at_the_points_that_are_asked_for() -> None:
    """Labels of frames in order, one of them unknown; a clip that nobody could open has those of the corpus."""
    labels = Labels(values=np.array([[0], [1], [1]], np.float32), known=np.array([True, False, True]))
    clips = [Clip(clip_id=name, video_uri="", labels=labels, participant_id=None) for name in "ab"]
    points = LabelledPoints.of(clips, AH_FRAME, [np.array([0.0, 0.04]), None])
    assert (points.truth.tolist(), points.owners.tolist(), points.places.tolist()) == ([0, 0, 1], [0, 1, 1], [0, 0, 2])
    assert points.times_s.tolist() == pytest.approx([0, np.nan, np.nan], nan_ok=True)
    assert len(set(points.people)) == 2
    assert points.prior(AH_FRAME) == pytest.approx((2 / 3, 1 / 3))
    assert constant((0.5, 0.5), AH_FRAME) == 0, "of equals the first"


def test_the_baseline_of_frames_says_what_it_is_on_the_published_split() -> None:
    def clips(label: int, question: int | None) -> LabelledPoints:
        return LabelledPoints.of(
            [Clip(clip_id="a", video_uri="", labels=clip_labels(label), question=question)], AH_FRAME
        )

    (row,) = baselines(clips(0, 3), {Split.TEST: clips(1, 3)}, AH_FRAME)
    assert (row.recipe, row.answers[Split.TEST].predictions.tolist()) == ("majority", [[0]])
    assert "weighted F1 is .674" in row.description
    (positive,) = baselines(clips(1, 3), {Split.TEST: clips(1, 3)}, AH_FRAME)
    assert ".674" not in positive.description
    assert [r.recipe for r in baselines(clips(0, 3), {Split.TEST: clips(1, 3)}, AH_VIDEO)] == [
        "majority",
        "question only",
    ]
    assert [r.recipe for r in baselines(clips(0, None), {Split.TEST: clips(1, 3)}, AH_VIDEO)] == ["majority"]


# --- what answers are made of ---


def score_of(clip_id: str, face: float | None, text: float, opposed: tuple[Modality, Modality] | None) -> Score:
    own = {Modality.TEXT: (text,)} | ({} if face is None else {Modality.FACE: (face,)})
    return Score(
        clip_id=clip_id,
        probabilities=(0.5, 0.5),
        label=1,
        threshold=0.5,
        seed_probabilities=(0.5,),
        views=(),
        artifact_id="",
        weights="published",
        contributions=Contributions(prior=(0.0,), by_modality=own, opposed=opposed),
    )


def test_contributions_by_hand(made_up_evaluation: Evaluation) -> None:
    up, down = (Modality.TEXT, Modality.FACE), (Modality.FACE, Modality.TEXT)
    clips = [
        Clip(clip_id=f"c{i}", video_uri="", labels=clip_labels(i % 2), question=1 + i // 2, attributes={})
        for i in range(4)
    ]
    results = replace(
        made_up_evaluation(AH_VIDEO).results,
        points={Split.TEST: LabelledPoints.of(clips, AH_VIDEO)},
        scores={
            Split.TEST: (
                *(score_of("c0", -1.0, 0.5, up), score_of("c1", 2.0, 1.0, None)),
                *(score_of("c2", None, -3.0, None), score_of("c3", 1.0, -0.5, down)),
            )
        },
    )
    found = {(group.grouping, group.group): group for group in group_contributions(results)}
    assert list(found) == [
        *(("all", "all clips"), ("true class", "no_ah"), ("true class", "ah")),
        *(("question", "1"), ("question", "2")),
    ]
    every = found["all", "all clips"]
    face = every.by_modality[Modality.FACE]
    assert (face.mean, face.absolute, face.clips) == (pytest.approx(2 / 3), pytest.approx(4 / 3), 3)
    assert every.by_modality[Modality.TEXT] == MeanContribution(mean=-0.5, absolute=1.25, clips=4)
    assert (every.clips, every.opposed) == (4, {"face – text": 2})
    ah, second = found["true class", "ah"], found["question", "2"]
    assert (ah.by_modality[Modality.FACE].mean, ah.by_modality[Modality.TEXT].mean) == (1.5, 0.25)
    assert (second.by_modality[Modality.FACE].clips, second.opposed) == (1, {"face – text": 1})


@pytest.mark.parametrize("task", [AH_VIDEO, AH_FRAME, EXPRESSION, MIMICRY], ids=lambda task: task.name)
def test_contributions_are_those_of_the_scores(made_up_evaluation: Evaluation, task: Task) -> None:
    results = made_up_evaluation(task).results
    scores = score_study(results)
    said = [
        score.contributions.by_modality[Modality.TEXT]
        for found in results.scores.values()
        for score in found
        if score and score.contributions and Modality.TEXT in score.contributions.by_modality
    ]
    assert len(said) == 20, "one clip of each split has no text, and one has nothing"
    every = scores.contributions[0].by_modality[Modality.TEXT]
    assert (every.mean, every.absolute) == (pytest.approx(np.mean(said)), pytest.approx(np.abs(said).mean()))
    header, (first, *_) = contribution_cells(scores)
    assert header == ["Grouping", "Group", "Clips", "face", "text", "Opposed"]
    assert first[:3] == ["all", "all clips", "22"]
    assert first[4] == f"{every.mean:+.3f} ({every.absolute:.3f})"
    groups = [group.group for group in scores.contributions if group.grouping == "true class"]
    assert groups == {"ah-video": ["no_ah", "ah"], "ah-frame": ["ah somewhere"]}.get(task.name, groups[:0])
    assert "## Contributions of the modalities" in markdown(scores)


# --- over time ---


def test_timelines_are_of_the_clips_with_most_segments_and_name_nobody(
    made_up_evaluation: Evaluation, tmp_path: Path
) -> None:
    made = made_up_evaluation(AH_FRAME)
    results = made.results
    shown = shown_clips(results, Split.TEST)
    counts = {
        i + 1: len(score.timeline.segments)
        for i, score in enumerate(results.scores[Split.TEST])
        if score and score.timeline
    }
    assert [clip.number for clip in shown] == sorted(clip.number for clip in shown)
    assert sorted(len(clip.timeline.segments) for clip in shown) == sorted(counts.values())[-4:]
    labels = results.clips[Split.TEST][shown[0].number - 1].labels
    assert labels is not None
    expected = np.where(labels.known, labels.values[:, 0], np.nan)
    np.testing.assert_array_equal(shown[0].truth[:, 0], expected)
    write_report(results, str(tmp_path))
    page = (tmp_path / "report.html").read_text()
    assert '<figure id="timelines">' in page
    assert "person-" not in page
    assert "test-0" not in page
    assert f"clip {shown[0].number} has {counts[shown[0].number]} decided segments" in page
    lines = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    points = results.points[Split.VALIDATION]
    assert (lines[0]["clip_id"], int(lines[0]["point"])) == ("val-00", points.places[0])
    assert float(lines[0]["time_s"]) == points.times_s[0] == points.places[0] / 5
    assert len(lines) == len(points) + len(results.points[Split.TEST])
    other = read_report(str(tmp_path))
    (_, paired) = compare(results, other).splits.values()
    assert (paired.clips, paired.points, paired.elsewhere) == (12, len(results.points[Split.TEST]), 0)
    assert (paired.difference.value, paired.only_ours, paired.only_theirs) == (0, 0, 0)
    with pytest.raises(ConfigError, match="is of the task ah-frame, this one of mimicry"):
        compare(made_up_evaluation(MIMICRY).results, other)


def test_a_task_per_clip_has_no_timeline(made_up_evaluation: Evaluation) -> None:
    assert shown_clips(made_up_evaluation(AH_VIDEO).results, Split.TEST) == []

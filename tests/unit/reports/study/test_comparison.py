"""Two reports in pairs, against counts and figures worked out by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from twominds.errors import ConfigError, MissingInputError
from twominds.records import Clip, Modality, Split, clip_labels
from twominds.reports.study.comparison import compare, read_report
from twominds.reports.study.points import LabelledPoints
from twominds.reports.study.report import write_report
from twominds.reports.study.results import Answers, RowResult, StudyResults
from twominds.tasks import AH_VIDEO

LABELS = [1, 0, 1, 0, 1, 0]
OURS, THEIRS = [1, 0, 1, 0, 0, 0], [1, 1, 0, 0, 1, 0]
"""Ours is right on all but number 4; theirs on all but numbers 1 and 2."""


def report(
    predicted: list[int], labels: list[int] = LABELS, *, prefix: str = "clip", name: str = "ours"
) -> StudyResults:
    clips = tuple(
        Clip(
            clip_id=f"{prefix}-{i}",
            video_uri="",
            split=Split.TEST,
            labels=clip_labels(label),
            participant_id=f"p{i // 2}",
        )
        for i, label in enumerate(labels)
    )
    said = np.array([predicted], dtype=np.int64)
    answers = {
        Split.TEST: Answers(
            predictions=said, probabilities=said.astype(np.float64), answered=np.ones(len(predicted), np.bool_)
        )
    }
    row = RowResult(
        recipe="ensemble",
        description="",
        views=(Modality.FACE, Modality.TEXT),
        reports="ensemble",
        answers=answers,
        artifact_id=f"id-{name}",
    )
    return StudyResults(
        study=name,
        task=AH_VIDEO,
        points={Split.TEST: LabelledPoints.of(clips, AH_VIDEO)},
        train=LabelledPoints.of((), AH_VIDEO),
        prior=(0.5, 0.5),
        rows=(row,),
        headline="ensemble",
        headline_is="the ensemble",
        served=answers,
    )


def macro_f1(labels: list[int], predicted: list[int]) -> float:
    pairs = list(zip(labels, predicted, strict=True))
    f1 = [2 * pairs.count((c, c)) / (labels.count(c) + predicted.count(c)) for c in (0, 1)]
    return sum(f1) / 2


def test_the_difference_is_paired_and_counts_who_alone_is_right(tmp_path: Path) -> None:
    write_report(report(THEIRS, name="theirs"), str(tmp_path))
    other = read_report(str(tmp_path))
    assert (other.name, other.selected_on) == ("theirs: ensemble (id-theirs)", "validation")
    (paired,) = compare(report(OURS), other).splits.values()
    assert (paired.clips, paired.people, paired.elsewhere, paired.only_ours, paired.only_theirs) == (6, 3, 0, 2, 1)
    assert paired.ours.value == pytest.approx(macro_f1(LABELS, OURS))
    assert paired.theirs.value == pytest.approx(macro_f1(LABELS, THEIRS))
    assert paired.difference.value == pytest.approx(macro_f1(LABELS, OURS) - macro_f1(LABELS, THEIRS))
    # Of 27 equally frequent resamples of three people the extremes are those of one person three times.
    by_person = [
        macro_f1(LABELS[i : i + 2], OURS[i : i + 2]) - macro_f1(LABELS[i : i + 2], THEIRS[i : i + 2]) for i in (0, 2, 4)
    ]
    assert paired.difference.interval == pytest.approx((min(by_person), max(by_person)))


def test_equal_reports_differ_in_nothing(tmp_path: Path) -> None:
    write_report(report(OURS), str(tmp_path))
    (paired,) = compare(report(OURS), read_report(str(tmp_path))).splits.values()
    assert (paired.difference.value, paired.difference.interval, paired.difference.p_value) == (0, (0, 0), 1)
    assert (paired.only_ours, paired.only_theirs) == (0, 0)


def test_clips_of_one_report_alone_do_not_count_and_are_told(tmp_path: Path) -> None:
    whole = report(THEIRS)
    four = np.ones(4, np.bool_)
    fewer = {Split.TEST: Answers(predictions=np.array([THEIRS[:4]]), probabilities=np.zeros((1, 4)), answered=four)}
    row = replace(whole.rows[0], answers=fewer)
    points = {Split.TEST: LabelledPoints.of(whole.clips[Split.TEST][:4], AH_VIDEO)}
    write_report(replace(whole, points=points, rows=(row,), served=fewer), str(tmp_path))
    (paired,) = compare(report(OURS), read_report(str(tmp_path))).splits.values()
    assert (paired.clips, paired.elsewhere, paired.only_ours, paired.only_theirs) == (4, 2, 2, 0)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    write_report(report(THEIRS), str(tmp_path))
    with pytest.raises(ConfigError, match="2 clips of the split test have another label"):
        compare(report(OURS, [0, 1, *LABELS[2:]]), read_report(str(tmp_path)))
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare(report(OURS, prefix="another"), read_report(str(tmp_path)))
    (tmp_path / "scores.csv").unlink()
    with pytest.raises(MissingInputError, match=r"no report of `jobs/evaluate\.py` at"):
        read_report(str(tmp_path))


def test_the_report_has_the_comparison_and_no_name_of_a_clip_in_it(tmp_path: Path) -> None:
    write_report(report(THEIRS, name="theirs"), str(tmp_path / "theirs"))
    summary = write_report(report(OURS), str(tmp_path / "ours"), read_report(str(tmp_path / "theirs")))
    facts = dict(summary.facts)
    assert facts["compared with"] == "theirs: ensemble (id-theirs)"
    assert facts["  on test"].startswith("82.86 against 66.67, difference +16.19 [")
    assert facts["  on test"].endswith("of 6 clips 2 only this one gets right, 1 only the other")
    for name in ("table.md", "results.json", "report.html"):
        text = (tmp_path / "ours" / name).read_text()
        assert "theirs: ensemble (id-theirs)" in text
        assert "clip-" not in text

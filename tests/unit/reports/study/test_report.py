"""A study's report against a small table worked out by hand."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from upath import UPath

from twominds.recipes.recipe import PublishedScores
from twominds.records import Clip, Modality, Split, clip_labels
from twominds.reports.study.csv_tables import as_csv, group_rows, table_rows
from twominds.reports.study.points import LabelledPoints
from twominds.reports.study.protocol import banners, protocol
from twominds.reports.study.reliability import reliability
from twominds.reports.study.report import FILES, write_report
from twominds.reports.study.results import Answers, RowResult, StudyResults
from twominds.reports.study.scores import score_study
from twominds.reports.study.tables import markdown, row_cells
from twominds.tasks import AH_VIDEO

ODD = "<script>alert('1 | 2')</script> & $x_1$"


def clips(split: Split, labels: list[int], people: list[str | None]) -> tuple[Clip, ...]:
    return tuple(
        Clip(
            clip_id=f"{split}-{i}",
            video_uri=f"{split}-{i}.mp4",
            split=split,
            labels=clip_labels(label),
            participant_id=person,
            question=1 + i // 2,
            attributes={"gender": "Woman" if i < 3 else "Man"} if i else {},
        )
        for i, (label, person) in enumerate(zip(labels, people, strict=True))
    )


CLIPS = {
    Split.VALIDATION: clips(Split.VALIDATION, [1, 0], ["v1", "v2"]),
    Split.TEST: clips(Split.TEST, [1, 0, 1, 0], ["t1", "t1", "t2", None]),
}


def answers(*predictions: list[int], probabilities: list[float] | None = None) -> Answers:
    predicted = np.array(predictions, dtype=np.int64)
    given = predicted.astype(np.float64) if probabilities is None else np.array([probabilities] * len(predicted))
    return Answers(predictions=predicted, probabilities=given, answered=np.asarray(~np.isnan(given).all(axis=0)))


MAJORITY = RowResult(
    recipe="majority",
    description="always 0",
    views=(),
    reports="encoder",
    answers={Split.VALIDATION: answers([0, 0]), Split.TEST: answers([0, 0, 0, 0])},
)
FACE = RowResult(
    recipe="r/1",
    description="right on validation, half right on test",
    views=(Modality.FACE,),
    reports="encoder",
    answers={Split.VALIDATION: answers([1, 0]), Split.TEST: answers([1, 1, 0, 0])},
    published=PublishedScores(validation=65.29, test=60.05, how="It took the mean of validation and public test."),
    artifact_id="a1",
)
TEXT = RowResult(
    recipe="r/2",
    description=ODD,
    views=(Modality.TEXT,),
    reports="encoder",
    answers={Split.VALIDATION: answers([1, 1]), Split.TEST: answers([1, 0, 1, 0])},
    artifact_id="a2",
)
FUSION = RowResult(
    recipe="r/3",
    description="two seeds",
    views=(Modality.FACE, Modality.TEXT),
    reports="single",
    answers={
        Split.VALIDATION: answers([1, 0], [1, 1]),
        Split.TEST: answers([1, 0, 0, 0], [1, 1, 0, 0], probabilities=[0.9, 0.2, 0.4, np.nan]),
    },
    published=PublishedScores(validation=85.38, test=79.94, private=68.32),
    without={Modality.FACE: {Split.VALIDATION: 0.5, Split.TEST: 0.25}},
    seeds=(1, 2),
    parameters=1234,
    artifact_id="a3",
)
RESULTS = StudyResults(
    study="r/all",
    task=AH_VIDEO,
    points={split: LabelledPoints.of(found, AH_VIDEO) for split, found in CLIPS.items()},
    train=LabelledPoints.of(clips(Split.TRAIN, [0, 0, 1], ["p", "q", "r"]), AH_VIDEO),
    prior=(2 / 3, 1 / 3),
    rows=(MAJORITY, FACE, TEXT, FUSION),
    headline="r/3",
    headline_is="the one that is best on what selects",
    served={
        Split.VALIDATION: answers([1, 0]),
        Split.TEST: answers([1, 0, 0, 0], probabilities=[0.9, 0.2, 0.4, np.nan]),  # seed 1
    },
    failures=3,
)
# Seed 1 on test: class 0 has TP 2, FP 1; class 1 has TP 1, FN 1. Seed 2: one right and one wrong of each class.
SEED_1 = (4 / 5 + 2 / 3) / 2
TEST_MF1 = (SEED_1 + 1 / 2) / 2


@pytest.fixture(scope="module")
def folder() -> UPath:
    """Not on a disk: to the report an object store is like any folder."""
    folder = UPath("memory://study-report/folder")
    write_report(RESULTS, str(folder))
    return folder


def only(split: Split) -> StudyResults:
    rows = tuple(replace(row, answers={split: row.answers[split]}) for row in RESULTS.rows)
    return replace(RESULTS, points={split: RESULTS.points[split]}, rows=rows, served={split: RESULTS.served[split]})


def test_scores_by_hand() -> None:
    scores = {score.row.recipe: score for score in score_study(RESULTS).rows}
    fusion = scores["r/3"].splits[Split.TEST]
    assert fusion.score.value == pytest.approx(TEST_MF1)
    assert fusion.by_model == pytest.approx((SEED_1, 0.5))
    assert fusion.spread == pytest.approx((SEED_1 - 0.5) / 2)
    assert fusion.confusion == ((1.5, 0.5), (1.0, 1.0))
    assert fusion.unseen == 1
    assert fusion.score.interval is not None
    assert fusion.score.interval[0] <= TEST_MF1 <= fusion.score.interval[1]
    assert scores["r/3"].average == pytest.approx((TEST_MF1 + (1 + 1 / 3) / 2) / 2)
    assert [score.section for score in scores.values()] == ["baseline", "unimodal", "unimodal", "multimodal"]


def test_best_unimodal_row_is_chosen_on_validation() -> None:
    """Text is perfect on test, but face is what validation chooses."""
    scores = score_study(RESULTS)
    assert scores.best_unimodal == "r/1"
    face, text, fusion = scores.rows[1:]
    assert face.over_unimodal is None
    assert text.over_unimodal is not None
    assert text.over_unimodal.value == pytest.approx(1 - 0.5)
    assert fusion.over_unimodal is not None
    assert fusion.over_unimodal.value == pytest.approx(TEST_MF1 - 0.5)
    assert fusion.over_unimodal.interval is not None
    low, high = fusion.over_unimodal.interval
    assert low <= TEST_MF1 - 0.5 <= high


def test_a_pair_beside_a_triple_is_ablation() -> None:
    triple = replace(FUSION, recipe="r/4", views=(Modality.FACE, Modality.AUDIO, Modality.TEXT))
    scores = score_study(replace(RESULTS, rows=(*RESULTS.rows, triple)))
    assert [score.section for score in scores.rows[-2:]] == ["ablation", "multimodal"]
    assert markdown(scores).index("## Multimodal") < markdown(scores).index("## Ablation")


def test_groups_by_hand() -> None:
    groups = {(g.grouping, g.group, g.split): g for g in score_study(RESULTS).groups}
    # Question 1 on test: seed 1 right twice, seed 2 once, (1 + 1/3) / 2; question 2: 0, 0 for 1, 0, twice 1/3.
    one, two = groups["question", "1", Split.TEST], groups["question", "2", Split.TEST]
    assert (one.clips, one.people, one.score.interval) == (2, 1, None)
    assert one.score.value == pytest.approx((1 + 1 / 3) / 2)
    assert (two.clips, two.people, two.score.value) == (2, 2, pytest.approx(1 / 3))
    man = groups["gender", "Man", Split.TEST]  # one clip, of class 0, both seeds right
    assert (man.clips, man.score.value) == (1, 0.5)
    assert man.notes == ("fewer than 10 clips", "fewer than 5 people", "a class is missing and counts as 0")
    assert groups["gender", "Woman", Split.TEST].clips == 2  # of the first clip the corpus does not say
    assert ("gender", "Man", Split.VALIDATION) not in groups


def test_reliability_by_hand() -> None:
    found = reliability(np.array([[1.0, 0.95, 0.25, np.nan]]), np.array([1, 0, 0, 1]))
    assert found.counts == (0, 0, 1, 0, 0, 0, 0, 0, 0, 2)
    assert found.probability[9] == pytest.approx(0.975)
    assert found.frequency[9] == pytest.approx(0.5)
    # A third of the answers is off by 0.25, two thirds by 0.475.
    assert found.ece == pytest.approx((0.25 + 2 * 0.475) / 3)
    assert found.unseen == 1


def test_scores_of_every_clip(folder: UPath) -> None:
    rows = list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))
    assert [row["clip_id"] for row in rows] == ["val-0", "val-1", "test-0", "test-1", "test-2", "test-3"]
    assert [(row["label"], row["predicted"], row["probability"], row["participant"]) for row in rows[2:]] == [
        ("1", "1", "0.9", "t1"),
        ("0", "0", "0.2", "t1"),
        ("1", "0", "0.4", "t2"),
        ("0", "0", "", ""),  # without a score, the majority; and nobody knows who it is
    ]


def test_csv(folder: UPath) -> None:
    rows = {row["recipe"]: row for row in csv.DictReader((folder / "table.csv").read_text().splitlines())}
    fusion = rows["r/3"]
    assert list(rows) == ["majority", "r/1", "r/2", "r/3"]
    assert rows["r/2"]["description"] == ODD
    assert (fusion["modalities"], fusion["models"], fusion["section"]) == ("face text", "2", "multimodal")
    assert (fusion["test_score"], fusion["test_seed_std"], fusion["test_clips"]) == ("61.67", "11.67", "4")
    assert float(fusion["test_ci_low"]) <= 61.67 <= float(fusion["test_ci_high"])
    assert fusion["mean_score"] == "64.17"
    assert [fusion[f"paper_{name}"] for name in ("validation", "test", "mean", "private")] == [
        *("85.38", "79.94", "82.66", "68.32")
    ]
    assert (fusion["best_unimodal"], fusion["test_minus_best_unimodal"]) == ("r/1", "11.67")
    assert 0 < float(fusion["p_value"]) <= 1
    assert (fusion["parameters"], fusion["selected_on"], fusion["weights"]) == ("1234", "validation", "published")
    assert fusion["artifact_id"] == "a3"
    assert rows["r/1"]["paper_private"] == rows["r/1"]["test_minus_best_unimodal"] == ""
    groups = list(csv.DictReader((folder / "groups.csv").read_text().splitlines()))
    assert {"grouping": "question", "group": "2", "split": "test", "clips": "2", "people": "2"}.items() <= next(
        row for row in groups if (row["group"], row["split"]) == ("2", "test")
    ).items()


def test_markdown_escapes_and_keeps_its_columns(folder: UPath) -> None:
    text = (folder / "table.md").read_text()
    table = [line for line in text[: text.index("## Other metrics")].splitlines() if line.startswith("| ")]
    by_recipe = {cells[1].strip(): len(cells) for cells in (re.split(r"(?<!\\)\|", line) for line in table)}
    assert {by_recipe[name] for name in ("majority", "r/1", "r/2", "r/3 (headline)")} == {17}
    assert "<script" not in text
    assert "85.38 / 79.94 / 82.66 / 68.32" in text
    assert re.search(r"\| 61\.67 \[\d+\.\d\d, \d+\.\d\d\] \|", text)
    assert "| r/3 | face | 50.00 | -16.67 | 25.00 | -36.67 |" in text  # without face
    assert "> **Quarantine: 3 clips" in text


class Page(HTMLParser):
    """Everything that a browser would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_page_is_self_contained_and_has_every_figure(folder: UPath) -> None:
    text = (folder / "report.html").read_text()
    page = Page()
    page.feed(text)
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe", "object"} & set(tags)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert all((image["src"] or "").startswith("data:image/svg+xml;base64,") for image in images)
    assert all(len(image["alt"] or "") > 20 for image in images)
    assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?https?:", text)
    figures = [attributes["id"] for tag, attributes in page.tags if tag == "figure"]
    assert figures == ["rows", "seeds", "confusion", "reliability", "questions", "people", "drops"]
    assert "&lt;script&gt;alert(" in text
    for cell in ("61.67 [", "+11.67 [", "85.38 / 79.94 / 82.66 / 68.32", "Quarantine: 3 clips"):
        assert cell in text
    assert "Debug weights" not in text
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_json_holds_every_number(folder: UPath) -> None:
    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads((folder / "results.json").read_text(), parse_constant=refuse)
    fusion = found["rows"][3]
    assert fusion["splits"]["test"]["score"]["value"] == pytest.approx(TEST_MF1)
    assert fusion["splits"]["test"]["by_model"] == pytest.approx([SEED_1, 0.5])
    assert found["modality_drop"][0]["change"]["test"] == pytest.approx(0.25 - TEST_MF1)
    assert (found["headline"], found["best_unimodal"], found["quarantined"]) == ("r/3", "r/1", 3)
    assert "t1" not in (folder / "results.json").read_text()  # nobody's id


def test_files(folder: UPath) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_same_results_same_bytes_and_no_figure_of_what_is_not_there() -> None:
    from twominds.reports.study.plots import draw_plots

    small = only(Split.TEST)
    scores = score_study(replace(small, rows=(FACE, replace(MAJORITY, description=ODD)), headline="r/1"))
    scores = replace(scores, groups=())
    once, again = draw_plots(scores), draw_plots(scores)
    assert [plot.name for plot in once] == ["rows", "confusion", "reliability"]
    assert [plot.svg for plot in once] == [plot.svg for plot in again]


def test_only_validation_compares_nothing() -> None:
    scores = score_study(only(Split.VALIDATION))
    cells = row_cells(scores.headline, scores)
    assert (cells["Test MF1 [95 % CI]"], cells["Mean"], cells["Test − best unimodal [95 % CI]"]) == ("–", "–", "–")
    assert any("Rows are not compared" in text for text in protocol(scores))
    header, *rows = table_rows(scores)
    assert {len(row) for row in rows} == {len(header)}


def test_one_person_and_no_probability_leave_gaps() -> None:
    one = tuple(replace(clip, participant_id="t1", question=None, attributes={}) for clip in CLIPS[Split.TEST])
    blind = replace(FUSION, answers={Split.TEST: answers([0] * 4, probabilities=[np.nan] * 4)}, without={})
    scores = score_study(replace(RESULTS, points={Split.TEST: LabelledPoints.of(one, AH_VIDEO)}, rows=(blind,)))
    assert scores.reliability[Split.TEST].ece is None
    assert row_cells(scores.headline, scores)["Test MF1 [95 % CI]"] == "33.33"
    assert as_csv(group_rows(scores)).count("\n") == 1
    assert "Modality drop" not in markdown(scores)


def test_banners_and_protocol_say_who_was_selected_on_what() -> None:
    honest = score_study(RESULTS)
    (quarantine,) = banners(honest)
    assert quarantine.startswith("Quarantine: 3 clips could not be processed. Those with a label count all the same")
    said = " ".join(protocol(honest))
    assert "selected on validation: every row" in said
    assert "Test is only reported" in said
    assert "mean of validation and public test" in said
    assert "4 test clips of 3 people" in said
    papers = replace(FUSION, selected_on="validation+test", weights="debug")
    branded = score_study(replace(RESULTS, rows=(MAJORITY, FACE, TEXT, papers), failures=0))
    first, second = banners(branded)
    assert first.startswith("Selected on validation+test: the test labels chose r/3.")
    assert "seeded random backbones are behind r/3." in second
    assert "say nothing about the paper's system" in second
    assert "Test is only reported" not in " ".join(protocol(branded))


def test_every_table_of_a_study_says_what_its_rows_were_selected_on() -> None:
    place = UPath("memory://study-report/branded")
    rows = [replace(row, selected_on="validation+test") for row in (FACE, TEXT, FUSION)]
    write_report(replace(RESULTS, rows=(MAJORITY, *rows)), str(place))
    table = list(csv.DictReader((place / "table.csv").read_text().splitlines()))
    assert [row["selected_on"] for row in table] == ["", *["validation+test"] * 3]
    found = json.loads((place / "results.json").read_text())
    assert [row["selected_on"] for row in found["rows"]] == [None, *["validation+test"] * 3]
    assert "Selected on validation+test" in found["banners"][0]
    for name in ("table.md", "report.html"):
        text = (place / name).read_text()
        assert text.count("Selected on validation+test: the test labels chose every row.") == 1
        assert len(re.findall(r"(\||>) ?validation\+test ?(\||<)", text)) == 3, "in the line of every row"


def test_no_labelled_clip_is_no_report() -> None:
    with pytest.raises(ValueError, match="validation or test"):
        score_study(replace(RESULTS, points={Split.TEST: LabelledPoints.of((), AH_VIDEO)}))


def test_what_a_row_lacks_is_said_in_the_row_and_before_any_number() -> None:
    lost = replace(FUSION, recipe="r/4", answers={}, without={}, artifact_id="", note="The audio encoder diverged.")
    fewer = replace(FUSION, recipe="r/5", note="1 of 2 seeds. Seed 2: The training loss is nan.")
    scores = score_study(replace(RESULTS, rows=(*RESULTS.rows, lost, replace(lost, recipe="r/6"), fewer)))
    assert [text for text in banners(scores) if text.startswith("Not whole")] == [
        "Not whole: r/4, r/6. The audio encoder diverged.",
        "Not whole: r/5. 1 of 2 seeds. Seed 2: The training loss is nan.",
    ]
    assert not any(text.startswith("Not whole") for text in banners(score_study(RESULTS)))
    assert "Not there" not in row_cells(score_study(RESULTS).rows[0], score_study(RESULTS))
    cells = {score.row.recipe: row_cells(score, scores) for score in scores.rows}
    assert [cells[name]["Not there"] for name in ("r/3", "r/4", "r/5")] == ["–", lost.note, fewer.note]
    empty = ("Validation MF1 [95 % CI]", "Test MF1 [95 % CI]", "Mean", "Seeds' SD: val / test", "Weights", "Artifact")
    assert {cells["r/4"][name] for name in empty} == {"–"}
    assert cells["r/5"] | {"Recipe": "r/3", "Not there": "–"} == cells["r/3"]
    header, *rows = csv.reader(as_csv(table_rows(scores)).splitlines())
    by_recipe = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert {name: row["note"] for name, row in by_recipe.items() if row["note"]} == {
        "r/4": lost.note,
        "r/6": lost.note,
        "r/5": fewer.note,
    }
    assert (by_recipe["r/4"]["test_score"], by_recipe["r/4"]["models"]) == ("", "0")


def test_a_report_is_written_although_a_row_lacks_everything(tmp_path: Path) -> None:
    lost = replace(FUSION, recipe="r/4", answers={}, without={}, note="The audio encoder diverged.")
    write_report(replace(RESULTS, rows=(*RESULTS.rows, lost)), str(tmp_path))
    found = json.loads((tmp_path / "results.json").read_text())["rows"][-1]
    assert (found["recipe"], found["note"], found["splits"]) == ("r/4", "The audio encoder diverged.", {})
    for name in ("table.md", "report.html"):
        assert "The audio encoder diverged." in (tmp_path / name).read_text()

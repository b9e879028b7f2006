import json
from dataclasses import replace

import pytest
from tests.unit.reports.study.test_report import FACE, FUSION, MAJORITY, RESULTS, TEXT, answers
from upath import UPath

from twominds.recipes.recipe import PublishedScores
from twominds.records import Modality
from twominds.reports.study.csv_tables import table_rows
from twominds.reports.study.protocol import protocol
from twominds.reports.study.report import write_report
from twominds.reports.study.scores import score_study
from twominds.reports.study.tables import metric_cells, row_cells


def test_what_a_paper_prints_by_another_metric_says_which() -> None:
    published = PublishedScores(validation=77.16, metric="accuracy", others={"positive_f1": 29.4})
    rows = (MAJORITY, replace(FACE, published=published), TEXT, FUSION)
    scores = score_study(replace(RESULTS, rows=rows))
    cells = row_cells(scores.rows[1], scores)
    assert cells["Paper: val / test / mean / private"] == "77.16 / – / – / – (accuracy)"
    header, others = metric_cells(scores)
    assert [row[0] for row in others] == ["majority", "r/1", "r/2", "r/3"], "every row"
    assert others[1][header.index("F1 of the positive class")] == "100.00 / 50.00 (paper: 29.40)"
    assert "Validation, chosen on other people [95 % CI]" not in cells


def test_answers_that_were_chosen_on_other_people_have_a_column() -> None:
    rows = (MAJORITY, FACE, TEXT, replace(FUSION, cross_fitted=answers([1, 1])))
    scores = score_study(replace(RESULTS, rows=rows))
    column = "Validation, chosen on other people [95 % CI]"
    assert row_cells(scores.rows[3], scores)[column].startswith("33.33")  # F1 of 2/3 and of 0
    assert row_cells(scores.rows[1], scores)[column] == "–"
    header, *cells = table_rows(scores)
    crossed = [row[header.index("validation_cross_fitted")] for row in cells]
    assert crossed == ["", "", "", "33.33"]


def test_what_the_usual_threshold_gives_stands_beside_the_chosen_one() -> None:
    """By hand: of the chances .9, .2, .4, none the first alone is half or more; the last keeps its answer, 0."""
    rows = (MAJORITY, FACE, TEXT, replace(FUSION, chosen_after=True))
    scores = score_study(replace(RESULTS, rows=rows))
    column = "With the threshold 0.5: val / test"
    at_half = (4 / 5 + 2 / 3) / 2  # of class 0 three are said and two right, of class 1 one and that is right
    assert row_cells(scores.rows[3], scores)[column] == f"{100 * (1 + 1 / 3) / 2:.2f} / {100 * at_half:.2f}"
    assert row_cells(scores.rows[1], scores)[column] == "–"
    header, *cells = table_rows(scores)
    assert [row[header.index("test_at_half")] for row in cells] == ["", "", "", f"{100 * at_half:.2f}"]
    plain = score_study(RESULTS)
    assert column not in row_cells(plain.rows[3], plain)
    folder = UPath("memory://study-report/at-half")
    write_report(replace(RESULTS, rows=rows), str(folder))
    told = json.loads((folder / "results.json").read_text())["rows"]
    assert [row["at_half"].get("test") for row in told] == [None, None, None, pytest.approx(at_half)]


def test_a_row_is_an_ablation_beside_larger_rows_of_its_own_system_alone() -> None:
    views = Modality.SCENE, *FUSION.views
    other = replace(FUSION, recipe="other/1", views=views)
    rows = (MAJORITY, FACE, TEXT, FUSION, other)
    assert [row.section for row in score_study(replace(RESULTS, rows=rows)).rows][3:] == ["multimodal", "multimodal"]
    rows = (MAJORITY, FACE, TEXT, FUSION, replace(other, recipe="r/4"))
    assert [row.section for row in score_study(replace(RESULTS, rows=rows)).rows][3:] == ["ablation", "multimodal"]


def test_the_protocol_says_what_was_chosen_on_validation_and_how_the_paper_came_by_its_numbers() -> None:
    published = PublishedScores(validation=65.29, how="The paper drew lots.")
    rows = (MAJORITY, replace(FACE, published=published, chosen_after=True), TEXT, FUSION)
    told = protocol(score_study(replace(RESULTS, rows=rows)))
    (after,) = [text for text in told if text.startswith("What follows the models")]
    assert "was chosen on validation, too: r/1." in after
    assert after.endswith(
        "The column 'With the threshold 0.5' has what the same probabilities give without that choice."
    )
    assert told[-1] == "The paper drew lots."
    crossed = protocol(score_study(replace(RESULTS, rows=(*rows[:3], replace(FUSION, cross_fitted=answers([1, 1]))))))
    assert any("tries it on others" in text for text in crossed)
    assert not any("What follows the models" in text for text in protocol(score_study(RESULTS)))

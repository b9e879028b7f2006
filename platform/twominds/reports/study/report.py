"""The report of a study, or of one ensemble: tables to paste and to compute with, everything as JSON, and a page.

    table.md       Table 1 and ablation, other metrics, modality drop, contributions, protocol
    table.csv      every row
    groups.csv     the headline row per question, gender, age range and ethnicity
    scores.csv     what the ensemble that is saved says of every labelled clip (or frame)
    results.json   every number, in [0, 1]
    report.html    all of it with figures, in one file that loads nothing from anywhere

Rows are scored by the task's metric, which every file names. Numbers are in percent with two decimals, as papers print
them (correlations times 100), except in `scores.csv` and `results.json`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from posixpath import commonpath
from typing import TYPE_CHECKING

from rich.table import Column, Table
from upath import UPath

from twominds.reports.page import render
from twominds.reports.study.cells import NONE, estimate, points
from twominds.reports.study.comparison import RESULTS, SCORES, Comparison, OtherReport
from twominds.reports.study.csv_tables import as_csv, group_rows, score_rows, table_rows
from twominds.reports.study.metric_words import words
from twominds.reports.study.protocol import banners, protocol, sizes, split_name
from twominds.reports.study.results import StudyResults
from twominds.reports.study.scores import REPORTED, StudyScores, score_study
from twominds.reports.study.tables import (
    about_contributions,
    comparison_cells,
    contribution_cells,
    drop_cells,
    group_cells,
    in_words,
    markdown,
    metric_cells,
    paper,
    row_cells,
    sections,
    unseen,
)
from twominds.reports.summary import Summary
from twominds.storage import write_whole
from twominds.training.bootstrap import RESAMPLES, SEED

if TYPE_CHECKING:
    from twominds.reports.charts import Plot

WHOLE_NAME = 20
"""Longest name of a recipe that is printed in one line; where one is longer names fold, so that numbers fit beside."""

FILES = ("table.md", "table.csv", "groups.csv", SCORES, RESULTS, "report.html")


def write_report(results: StudyResults, uri: str, other: OtherReport | None = None) -> Summary:
    """Writes the report.

    Args:
        results: Every row's answers. A split may be missing; without test there is no comparison of rows.
        uri: Folder, local or s3://.
        other: Another report, whose ensemble is compared with that of the headline row.

    Raises:
        ValueError: neither validation nor test has a clip.
        ConfigError: the other report has none of the clips, or other labels.
    """
    from twominds.reports.study.plots import draw_plots  # brings matplotlib with it

    scores = score_study(results, other)
    tables = (as_csv(rows) for rows in (table_rows(scores), group_rows(scores), score_rows(results)))
    texts = (markdown(scores), *tables, _json(scores), _page(scores, draw_plots(scores)))
    for name, text in zip(FILES, texts, strict=True):
        write_whole(UPath(uri) / name, text.encode())
    summary = Summary(title=f"Report of {results.study}", where=f"{uri}/report.html", tables=[_terminal_table(scores)])
    for banner in banners(scores):
        summary.add("beware", banner)
    summary.add("clips", sizes(scores))
    if scores.comparison:
        summary.add("compared with", scores.comparison.other.name)
        for split, paired in scores.comparison.splits.items():
            summary.add(f"  on {split_name(split)}", in_words(paired))
    summary.add("best unimodal row", scores.best_unimodal or "none")
    summary.add("in quarantine", results.failures)
    summary.add("files", ", ".join(FILES))
    return summary


def _page(scores: StudyScores, plots: "Sequence[Plot]") -> str:
    return render(
        "study/report.html.j2",
        scores=scores,
        banners=banners(scores),
        protocol=protocol(scores),
        sizes=sizes(scores),
        sections=[(title, [row_cells(row, scores) for row in rows]) for title, rows in sections(scores)],
        groups=group_cells(scores),
        drops=drop_cells(scores),
        metrics=metric_cells(scores),
        contributions=contribution_cells(scores),
        about_contributions=about_contributions(scores),
        comparison=comparison_cells(scores.comparison, scores) if scores.comparison else None,
        metric=words(scores.task.metric),
        plots={plot.name: plot for plot in plots},
        headline=row_cells(scores.headline, scores),
    )


def _json(scores: StudyScores) -> str:
    results = scores.results
    rows = [
        {
            "recipe": score.row.recipe,
            "section": score.section,
            "description": score.row.description,
            "modalities": score.row.views,
            "reports": score.row.reports,
            "seeds": score.row.seeds,
            "splits": {split: asdict(found) for split, found in score.splits.items()},
            "cross_fitted": score.cross_fitted and asdict(score.cross_fitted),
            "at_half": dict(score.at_half),
            "mean_score": score.average,
            "over_best_unimodal_on_test": score.over_unimodal and asdict(score.over_unimodal),
            "published_percent": score.row.published and asdict(score.row.published),
            "parameters": score.row.parameters,
            "selected_on": score.row.selected_on if score.row.views else None,
            "weights": score.row.weights if score.row.views and score.row.answers else None,
            "artifact_id": score.row.artifact_id,
            "note": score.row.note,
        }
        for score in scores.rows
    ]
    whole = {
        "study": results.study,
        "task": results.task.name,
        "metric": results.task.metric,
        "headline": results.headline,
        "best_unimodal": scores.best_unimodal,
        "banners": banners(scores),
        "protocol": protocol(scores),
        "clips": {"train": len(results.train.clips)}
        | {split: len(results.points[split].clips) for split in scores.splits},
        "points": {"train": len(results.train)} | {split: len(results.points[split]) for split in scores.splits},
        "people": scores.people,
        "quarantined": results.failures,
        "bootstrap": {"resamples": RESAMPLES, "seed": SEED, "unit": "participant"},
        "rows": rows,
        "groups": [asdict(group) for group in scores.groups],
        "reliability": {split: asdict(found) for split, found in scores.reliability.items()},
        "modality_drop": [
            {"recipe": drop.recipe, "view": drop.view, "score": drop.score, "change": drop.change}
            for drop in scores.drops
        ],
        "contributions": [asdict(group) for group in scores.contributions],
        "comparison": scores.comparison and _json_comparison(scores.comparison),
    }
    return json.dumps(whole, indent=2, allow_nan=False) + "\n"


def _json_comparison(comparison: Comparison) -> dict[str, object]:
    """Without what each clip was answered."""
    other = {
        "name": comparison.other.name,
        "place": comparison.other.place,
        "selected_on": comparison.other.selected_on,
    }
    return {"other": other, "splits": {split: asdict(paired) for split, paired in comparison.splits.items()}}


def _terminal_table(scores: StudyScores) -> Table:
    any_paper = any(score.row.published for score in scores.rows)
    theirs = [Column("paper\n(val /\ntest)", overflow="fold")] if any_paper else []
    title = f"{words(scores.task.metric).axis} [95 % CI over people]"
    title = title[0].upper() + title[1:]
    places = [score.row.recipe.rpartition("/")[0] for score in scores.rows if "/" in score.row.recipe]
    system = commonpath(places) if places else ""
    if system:  # a terminal has 80 columns, and rows of one system begin alike: it is the end that tells them apart
        title += f"\nof {system}"
    names = [score.row.recipe.removeprefix(f"{system}/") for score in scores.rows]
    name = Column("recipe", no_wrap=max(map(len, names)) <= WHOLE_NAME, overflow="fold")
    measured = [Column(split_name(split), no_wrap=True) for split in REPORTED]
    table = Table(name, *measured, *theirs, Column("no score\n(val /\ntest)", overflow="fold"), title=title)
    for called, score in zip(names, scores.rows, strict=True):
        cells = [called]
        found = [score.splits.get(split) for split in REPORTED]
        cells += [NONE if split is None else estimate(split.score, digits=1) for split in found]
        if any_paper:
            cells += [" / ".join(points(value) for value in paper(score.row)[:2]) if score.row.published else NONE]
        table.add_row(*cells, unseen(score))
    return table

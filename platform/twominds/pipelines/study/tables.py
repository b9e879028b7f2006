"""The tables of a study's report, for people (Markdown, the page) and for programs (CSV).

Numbers are in percent with two decimals, as papers print them.
"""

import csv
import html
import io
from collections.abc import Sequence

from twominds.pipelines.study.protocol import banners, protocol, split_name
from twominds.pipelines.study.results import RowResult
from twominds.pipelines.study.scores import REPORTED, RowScore, StudyScores
from twominds.training.bootstrap import Difference, Estimate

NONE = "–"
"""In a cell that has nothing to say."""


def row_cells(score: RowScore, scores: StudyScores) -> dict[str, str]:
    """A row as people read it, by the titles of the columns."""
    row, over = score.row, score.over_unimodal
    found = [score.splits.get(split) for split in REPORTED]
    several = any(len(split.by_model) > 1 for split in found if split)
    validation, test = (NONE if split is None else estimate(split.mf1) for split in found)
    theirs = " / ".join(points(value) for value in paper(row))
    spread = " / ".join(percent(None if split is None else split.spread) for split in found)
    return {
        "Recipe": row.recipe,
        "Description": row.description,
        "Modalities": ", ".join(row.modalities) or "none",
        "Validation MF1 [95 % CI]": validation,
        "Test MF1 [95 % CI]": test,
        "Mean": percent(score.average),
        "Paper: val / test / mean / private": theirs if row.published else NONE,
        "Test − best unimodal [95 % CI]": "reference" if row.recipe == scores.best_unimodal else _difference(over),
        "p": NONE if over is None or over.p_value is None else f"{over.p_value:.3f}",
        "Seeds' SD: val / test": spread if several else NONE,
        "Parameters": f"{row.parameters:,}" if row.parameters else NONE,
        "Selected on": row.selected_on if row.modalities else "training labels",
        "Weights": row.weights if row.modalities else NONE,
        "Artifact": row.artifact_id or NONE,
    }


def paper(row: RowResult) -> tuple[float | None, float | None, float | None, float | None]:
    """Validation, test, their mean and the private test split, in percent."""
    published = row.published
    if published is None:
        return None, None, None, None
    return published.validation, published.test, (published.validation + published.test) / 2, published.private


def sections(scores: StudyScores) -> list[tuple[str, list[RowScore]]]:
    """Table 1 in its parts, then the ablation."""
    titles = {"baseline": "Baselines", "unimodal": "Unimodal", "multimodal": "Multimodal", "ablation": "Ablation"}
    found = [(title, [row for row in scores.rows if row.section == name]) for name, title in titles.items()]
    return [(title, rows) for title, rows in found if rows]


def markdown(scores: StudyScores) -> str:
    """Table 1 in its parts, ablation, modality drop and protocol."""
    lines = [f"# {_md(scores.results.study)}", ""]
    lines += [line for banner in banners(scores) for line in (f"> **{_md(banner)}**", "")]
    for title, rows in sections(scores):
        cells = [row_cells(row, scores) for row in rows]
        for row in cells:
            row["Recipe"] += " (headline)" if row["Recipe"] == scores.results.headline else ""
        lines += [f"## {title}", "", *_md_table([*cells[0]], [[*row.values()] for row in cells]), ""]
    lines += ["Macro F1 (MF1) in percent. The headline row is the one that is best on what selects.", ""]
    if scores.drops:
        lines += ["## Modality drop", "", *_md_table(*drop_cells(scores)), ""]
    lines += ["## Protocol", "", *(f"- {_md(text)}" for text in protocol(scores)), ""]
    return "\n".join(lines)


def _md_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell if line is lines[1] else _md(cell) for cell in line)} |" for line in lines]


def _md(text: str) -> str:
    """As text of one line, which starts no column and no HTML."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", r"\|")


def table_rows(scores: StudyScores) -> list[list[str]]:
    """Every row with all its numbers; the first line is the header."""
    header = ["recipe", "section", "description", "modalities", "models"]
    for split in REPORTED:
        header += [
            f"{split_name(split)}_{what}" for what in ("clips", "mf1", "ci_low", "ci_high", "seed_std", "unseen")
        ]
    header += ["mean_mf1", "paper_validation", "paper_test", "paper_mean", "paper_private", "best_unimodal"]
    header += ["test_minus_best_unimodal", "difference_ci_low", "difference_ci_high", "p_value"]
    header += ["parameters", "selected_on", "weights", "artifact_id"]
    rows = [header]
    for score in scores.rows:
        row, over = score.row, score.over_unimodal
        models = max((len(found.by_model) for found in score.splits.values()), default=0)
        cells = [row.recipe, score.section, row.description, " ".join(row.modalities), str(models)]
        for split in REPORTED:
            if (found := score.splits.get(split)) is None:
                cells += [""] * 6
                continue
            spread = percent(found.spread, "") if len(found.by_model) > 1 else ""
            numbers = [percent(found.mf1.value, ""), *_bounds(found.mf1), spread]
            cells += [str(len(scores.results.clips[split])), *numbers, str(found.unseen)]
        cells += [percent(score.average, ""), *(points(value, "") for value in paper(row))]
        cells += [scores.best_unimodal or "", *([percent(over.value, ""), *_bounds(over)] if over else [""] * 3)]
        cells += ["" if over is None or over.p_value is None else f"{over.p_value:.4f}", str(row.parameters)]
        rows.append([*cells, *((row.selected_on, row.weights) if row.modalities else ("", "")), row.artifact_id])
    return rows


def group_rows(scores: StudyScores) -> list[list[str]]:
    """The headline row per group; the first line is the header."""
    rows = [["grouping", "group", "split", "clips", "people", "mf1", "ci_low", "ci_high", "notes", "selected_on"]]
    selected_on = scores.headline.row.selected_on
    for score in scores.groups:
        counts = [str(score.clips), str(score.people)]
        numbers = [percent(score.mf1.value), *_bounds(score.mf1)]
        notes = "; ".join(score.notes)
        rows.append([score.grouping, score.group, split_name(score.split), *counts, *numbers, notes, selected_on])
    return rows


def group_cells(scores: StudyScores) -> tuple[list[str], list[list[str]]]:
    """The groups of the headline row as people read them: header and rows."""
    header = ["Grouping", "Group", "Split", "Clips", "People", "MF1 [95 % CI]", "Notes"]
    return header, [
        [
            *(score.grouping, score.group, split_name(score.split), str(score.clips), str(score.people)),
            estimate(score.mf1),
            "; ".join(score.notes),
        ]
        for score in scores.groups
    ]


def drop_cells(scores: StudyScores) -> tuple[list[str], list[list[str]]]:
    """The modality-drop table: header and rows."""
    columns = [f"{split_name(split).capitalize()} {what}" for split in scores.splits for what in ("MF1", "change")]
    rows: list[list[str]] = []
    for drop in scores.drops:
        numbers = [(percent(drop.mf1.get(split)), signed(drop.change.get(split))) for split in scores.splits]
        rows.append([drop.recipe, str(drop.modality), *(cell for pair in numbers for cell in pair)])
    return ["Recipe", "Without", *columns], rows


def as_csv(rows: Sequence[Sequence[str]]) -> str:
    """The lines as a CSV file."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def estimate(mf1: Estimate) -> str:
    """In percent, with its interval where there is one."""
    low, high = _bounds(mf1)
    return f"{100 * mf1.value:.2f} [{low}, {high}]" if low else f"{100 * mf1.value:.2f}"


def _difference(over: Difference | None) -> str:
    if over is None:
        return NONE
    low, high = _bounds(over)
    return f"{signed(over.value)} [{low}, {high}]" if low else signed(over.value)


def _bounds(of: Estimate | Difference) -> tuple[str, str]:
    return ("", "") if of.interval is None else (f"{100 * of.interval[0]:.2f}", f"{100 * of.interval[1]:.2f}")


def percent(share: float | None, none: str = NONE) -> str:
    """In percent."""
    return none if share is None else f"{100 * share:.2f}"


def points(number: float | None, none: str = NONE) -> str:
    """What is in percent already."""
    return none if number is None else f"{number:.2f}"


def signed(share: float | None) -> str:
    """A difference, in percentage points."""
    return NONE if share is None else f"{100 * share:+.2f}"

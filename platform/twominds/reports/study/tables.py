"""The tables of a study's report, for people (Markdown, the page) and for programs (CSV).

Numbers are in percent with two decimals, as papers print them.
"""

import csv
import html
import io
from collections.abc import Sequence

import numpy as np

from twominds.reports.study.comparison import Comparison, Paired
from twominds.reports.study.protocol import banners, protocol, split_name
from twominds.reports.study.results import RowResult, StudyResults
from twominds.reports.study.scores import REPORTED, RowScore, StudyScores
from twominds.training.bootstrap import Difference, Estimate

NONE = "–"
"""In a cell that has nothing to say."""


def row_cells(score: RowScore, scores: StudyScores) -> dict[str, str]:
    """A row as people read it, by the titles of the columns."""
    row, over = score.row, score.over_unimodal
    any_paper = any(each.published for each in scores.results.rows)
    any_note = any(each.note for each in scores.results.rows)
    found = [score.splits.get(split) for split in REPORTED]
    several = any(len(split.by_model) > 1 for split in found if split)
    validation, test = (NONE if split is None else estimate(split.mf1) for split in found)
    theirs = " / ".join(points(value) for value in paper(row))
    spread = " / ".join(percent(None if split is None else split.spread) for split in found)
    return {
        "Recipe": row.recipe,
        "Description": row.description,
        "Modalities": ", ".join(row.views) or "none",
        "Validation MF1 [95 % CI]": validation,
        "Test MF1 [95 % CI]": test,
        "Mean": percent(score.average),
        "No score: val / test": unseen(score),
        **({"Paper: val / test / mean / private": theirs if row.published else NONE} if any_paper else {}),
        "Test − best unimodal [95 % CI]": "reference" if row.recipe == scores.best_unimodal else difference(over),
        "p": p_value(over),
        "Seeds' SD: val / test": spread if several else NONE,
        "Parameters": f"{row.parameters:,}" if row.parameters else NONE,
        "Selected on": row.selected_on if row.views else "training labels",
        "Weights": row.weights if row.views and row.answers else NONE,
        "Artifact": row.artifact_id or NONE,
        **({"Not there": row.note or NONE} if any_note else {}),
    }


def unseen(score: RowScore) -> str:
    """How many clips of validation and test have no score; of a baseline, which needs none, nothing."""
    if not score.row.views:
        return NONE
    return " / ".join(str(score.splits[split].unseen) if split in score.splits else NONE for split in REPORTED)


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
    lines += [f"Macro F1 (MF1) in percent. The headline row is {scores.results.headline_is}.", ""]
    if scores.comparison:
        title = f"## Compared with {_md(scores.comparison.other.name)}"
        lines += [title, "", *_md_table(*comparison_cells(scores.comparison)), ""]
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
    header += ["mean_score", "paper_validation", "paper_test", "paper_mean", "paper_private", "best_unimodal"]
    header += ["test_minus_best_unimodal", "difference_ci_low", "difference_ci_high", "p_value"]
    header += ["parameters", "selected_on", "weights", "artifact_id", "note"]
    rows = [header]
    for score in scores.rows:
        row, over = score.row, score.over_unimodal
        models = max((len(found.by_model) for found in score.splits.values()), default=0)
        cells = [row.recipe, score.section, row.description, " ".join(row.views), str(models)]
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
        made_by = (row.selected_on, row.weights) if row.views and row.answers else ("", "")
        rows.append([*cells, *made_by, row.artifact_id, row.note])
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


def comparison_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The comparison with another report as people read it: header and rows."""
    header = ["Split", "Clips", "People", "This MF1 [95 % CI]", "Other MF1 [95 % CI]", "Difference [95 % CI]", "p"]
    header += ["Only this is right", "Only the other is right", "Clips in one report alone"]
    return header, [
        [
            *(split_name(split), str(paired.clips), str(paired.people)),
            *(
                estimate(paired.ours),
                estimate(paired.theirs),
                difference(paired.difference),
                p_value(paired.difference),
            ),
            *(str(paired.only_ours), str(paired.only_theirs), str(paired.elsewhere)),
        ]
        for split, paired in comparison.splits.items()
    ]


def in_words(paired: Paired) -> str:
    """The comparison on one split in a line."""
    alone = f"; {paired.elsewhere} clips are in one report alone" if paired.elsewhere else ""
    over = f"{difference(paired.difference)}, p {p_value(paired.difference)}; of {paired.clips} clips"
    return (
        f"{percent(paired.ours.value)} against {percent(paired.theirs.value)}, difference {over} "
        f"{paired.only_ours} only this one gets right, {paired.only_theirs} only the other{alone}"
    )


def score_rows(results: StudyResults) -> list[list[str]]:
    """What the ensemble that is saved says of every labelled clip; the first line is the header.

    The prediction for a clip without a score is the training majority, and its probability is empty.
    """
    rows = [["clip_id", "split", "participant", "label", "predicted", "probability"]]
    for split, clips in results.clips.items():
        said = results.served[split]
        for clip, predicted, chance in zip(clips, said.predictions[0], said.probabilities[0], strict=True):
            probability = "" if np.isnan(chance) else repr(float(chance))
            known = [clip.clip_id, str(split), clip.participant_id or "", str(clip.label)]
            rows.append([*known, str(predicted), probability])
    return rows


def drop_cells(scores: StudyScores) -> tuple[list[str], list[list[str]]]:
    """The modality-drop table: header and rows."""
    columns = [f"{split_name(split).capitalize()} {what}" for split in scores.splits for what in ("MF1", "change")]
    rows: list[list[str]] = []
    for drop in scores.drops:
        numbers = [(percent(drop.mf1.get(split)), signed(drop.change.get(split))) for split in scores.splits]
        rows.append([drop.recipe, str(drop.view), *(cell for pair in numbers for cell in pair)])
    return ["Recipe", "Without", *columns], rows


def as_csv(rows: Sequence[Sequence[str]]) -> str:
    """The lines as a CSV file."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def estimate(mf1: Estimate, digits: int = 2) -> str:
    """In percent, with its interval where there is one."""
    value, *bounds = (f"{100 * share:.{digits}f}" for share in (mf1.value, *(mf1.interval or ())))
    return f"{value} [{', '.join(bounds)}]" if bounds else value


def difference(over: Difference | None) -> str:
    """In percentage points, with its interval where there is one."""
    if over is None:
        return NONE
    low, high = _bounds(over)
    return f"{signed(over.value)} [{low}, {high}]" if low else signed(over.value)


def p_value(over: Difference | None) -> str:
    """The p value of a difference as text; a dash where there is no difference."""
    return NONE if over is None or over.p_value is None else f"{over.p_value:.3f}"


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

"""How much of its clips a folder of results covers: what lacks a label or a modality, in each split, and why."""

from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from twominds.records import Split, View
from twominds.reports.summary import Summary
from twominds.results import tables
from twominds.results.labelled import clip_rows, is_labelled
from twominds.results.tables import Row

SHOWN_REASONS = 3
WORDS_WANTED = (
    "Words come from a column `transcript` of the table, or from a speech recogniser in the bundle: "
    "`python jobs/fetch_models.py --help` says how."
)


def add_coverage(summary: Summary, uri: str, views: Sequence[View]) -> None:
    """Adds a table of what the clips of a folder lack to a job's summary, and a line for each modality that some lack.

    Args:
        summary: The job's summary, to which it is added.
        uri: Folder of features, embeddings or scores, whose clips in quarantine count as well.
        views: Those that the folder holds.
    """
    rows = clip_rows(uri, [*tables.LABEL_COLUMNS, *(f"{m}_{name}" for m in views for name in ("present", "reason"))])
    summary.tables.append(coverage_table(rows, views))
    for view in views:
        reasons = Counter(row[f"{view}_reason"] for row in rows if _lacks(row, view))
        if not reasons:
            continue
        shown = [f"{count} x {reason}" for reason, count in reasons.most_common(SHOWN_REASONS)]
        more = ["..."] if len(reasons) > SHOWN_REASONS else []
        summary.add(f"without {view}", f"{reasons.total()} of {len(rows)}: {'; '.join([*shown, *more])}")
        if any(reason.startswith("no transcript was given") for reason in reasons):
            summary.notes = [*summary.notes, WORDS_WANTED]


def coverage_table(rows: Sequence[Row], views: Sequence[View]) -> Table:
    """Per split, and for all together, how many clips there are and how many of them lack what.

    Args:
        rows: As `clip_rows` gives them, with `label` and each modality's presence. A clip in quarantine counts as that
            alone: its modalities are unknown rather than absent.
        views: The views that have a column.
    """
    table = Table("split", "clips", "in quarantine", "label", *views, title="Clips, and how many of them lack what")
    for column in table.columns[1:]:
        column.justify = "right"
    splits = {name: [row for row in rows if row["split"] == split] for split, name in _SPLITS.items()}
    splits = {name: found for name, found in splits.items() if found}
    for name, found in [*splits.items(), *([("all", rows)] if len(splits) != 1 else [])]:
        lacking = [sum(_lacks(row, view) for row in found) for view in views]
        aside, unlabelled = sum(bool(row["error"]) for row in found), sum(not is_labelled(row) for row in found)
        table.add_row(name, str(len(found)), *(str(count) for count in (aside, unlabelled, *lacking)))
    return table


_SPLITS = {**{split: split.value for split in Split}, None: "none"}


def _lacks(row: Row, view: View) -> bool:
    return not row["error"] and not row[f"{view}_present"]

"""The tables of batch scoring: one line for each clip that was asked for, whatever became of it."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa

from twominds.artifacts import Card
from twominds.records import Failure, View, modality_of
from twominds.results.tables import Row
from twominds.scoring.ensemble import training_prior
from twominds.tasks import Classes


def submission(clip_ids: Sequence[str], scored: Mapping[str, Row], card: Card) -> str:
    """One line a clip, as challenges take it: CSV.

    Of classes: `id`, `p0`, `p1`, ... with the probabilities, which sum to exactly 1, and `pred`, the decided class. Of
    a task per frame they are means over the clip, without `pred`: each frame's are in `timeline/points.parquet`. Of
    intensities: `Filename` and a column for each.

    Args:
        clip_ids: The clips, in the order of the lines.
        scored: Cells of `score_rows.SCORE_FIELDS` by clip id. A clip that is not there has what the training labels
            say: the classes' shares and their majority (of equals the first), or the mean intensities.
        card: The ensemble's card.
    """
    prior, of_classes = training_prior(card), isinstance(card.task.output, Classes)
    guess: Row = {"probabilities": prior, "predicted": prior.index(max(prior))}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    decides = ["pred"] * (of_classes and not card.task.per_frame)
    names = [f"p{i}" for i in range(card.task.num_outputs)] if of_classes else card.task.names
    writer.writerow(["id" if of_classes else "Filename", *names, *decides])
    for clip_id in clip_ids:
        row = scored.get(clip_id, guess)
        values = _summing_to_one(row["probabilities"]) if of_classes else [f"{v:.9f}" for v in row["probabilities"]]
        writer.writerow([clip_id, *values, *([row["predicted"]] if decides else [])])
    return buffer.getvalue()


def _summing_to_one(probabilities: Sequence[float]) -> list[str]:
    """Decimals, not floats, are what must add up: nine digits of each, the first class takes the rest."""
    rest = [round(p * 10**9) for p in probabilities[1:]]
    return [f"{d // 10**9}.{d % 10**9:09d}" for d in (10**9 - sum(rest), *rest)]


def segments(clip_ids: Sequence[str], scored: Mapping[str, Row], card: Card) -> str:
    """The stretches of one class that a task per frame found, as CSV: `id`, `start_s`, `end_s`, `label`, `probability`.

    Args:
        clip_ids: The clips, in the order of the lines.
        scored: Cells of `score_rows.SCORE_FIELDS` by clip id.
        card: The ensemble's card.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["id", "start_s", "end_s", "label", "probability"])
    for clip_id in clip_ids:
        found: Row = scored.get(clip_id, {}).get("timeline") or {}
        for segment in cast("list[Row]", found.get("segments") or []):
            times = [f"{segment[name]:.3f}" for name in ("start_s", "end_s")]
            writer.writerow([clip_id, *times, card.task.names[segment["label"]], f"{segment['probability']:.6f}"])
    return buffer.getvalue()


def timeline_table(clip_ids: Sequence[str], scored: Mapping[str, Row], card: Card) -> pa.Table:
    """One row for each point of a task per frame.

    Columns: `id`; `time_s`; `p_CLASS` (or the intensity's name) for each output; of classes `label`, the decided one.

    Args:
        clip_ids: The clips, in the order of the rows.
        scored: Cells of `score_rows.SCORE_FIELDS` by clip id.
        card: The ensemble's card.
    """
    of_classes = isinstance(card.task.output, Classes)
    columns: dict[str, list[Any]] = {"id": [], "time_s": []}
    columns |= {(f"p_{name}" if of_classes else name): [] for name in card.task.names}
    if of_classes:
        columns["label"] = []
    for clip_id in clip_ids:
        found = scored.get(clip_id, {}).get("timeline")
        if not found:
            continue
        outputs = np.asarray(found["outputs"]).reshape(len(found["points_s"]), -1)
        columns["id"].extend([clip_id] * len(outputs))
        columns["time_s"].extend(found["points_s"])
        for name, values in zip(list(columns)[2:], outputs.T, strict=False):
            columns[name].extend(values.tolist())
        if of_classes:
            columns["label"].extend(card.task.names[label] for label in cast("list[int]", found["labels"]))
    types = {"id": pa.string(), "label": pa.string()}
    fields = [pa.field(name, types.get(name, pa.float64())) for name in columns]
    return pa.Table.from_pydict(columns, schema=pa.schema(fields))


def details(
    clip_ids: Sequence[str],
    scored: Mapping[str, Row],
    failures: Mapping[str, Failure],
    card: Card,
    views: Sequence[View],
) -> str:
    """What is known of each clip, for people and spreadsheets, as CSV. A cell that has nothing to say is empty.

    The columns: `id`; `answer`, the name of the class; `p_CLASS`, the probability of each class; `abstains`, whether
    the answer is better left to a person; `threshold`, the probability from which the last class is the answer; for
    each modality `MODALITY`, whether it was there, `MODALITY_reason`, why not, and `MODALITY_probability`, what its
    encoder by itself gives the last class; for each modality and class (or intensity) `MODALITY_adds_CLASS`, what the
    modality contributes to the score, in log-odds of the class or in the intensity's own numbers, and `prior_CLASS`,
    what is said without any; `opposed`, the two modalities that pull in opposite directions; `transcript_source`;
    `warnings`, what was left out of the clip; `failed_in`, the stage, and `error`, why there is no score; `ensemble`
    and `weights`, what it was scored with.

    Args:
        clip_ids: The clips, in the order of the lines.
        scored: Cells of `score_rows.scored_columns` by clip id.
        failures: Why the other clips have no score, by clip id.
        card: The ensemble's card.
        views: What it looks at.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _columns(card, views), restval="", lineterminator="\n")
    writer.writeheader()
    for clip_id in clip_ids:
        cells: dict[str, object] = {"id": clip_id, "ensemble": card.artifact_id, "weights": card.weights}
        if clip_id in scored:
            cells |= _score_cells(scored[clip_id], card, views)
        elif clip_id in failures:
            cells |= {"failed_in": failures[clip_id].stage, "error": failures[clip_id].reason}
        writer.writerow(cells)
    return buffer.getvalue()


def _adders(views: Sequence[View]) -> list[str]:
    return [f"{modality}_adds" for modality in dict.fromkeys(modality_of(view) for view in views)]


def _asked_about(card: Card) -> tuple[str, ...]:
    """What contributions are to: the last of two classes, each of several, or each intensity."""
    return card.task.names[-1:] if card.task.is_binary else card.task.names


def _columns(card: Card, views: Sequence[View]) -> list[str]:
    classes = [f"p_{name}" for name in card.task.names]
    of_each = [f"{view}{suffix}" for view in views for suffix in ("", "_reason", "_probability")]
    added = [f"{who}_{name}" for who in ["prior", *_adders(views)] for name in _asked_about(card)]
    last = [*added, "opposed", "transcript_source", "warnings", "failed_in", "error", "ensemble", "weights"]
    return ["id", "answer", *classes, "abstains", "threshold", *of_each, *last]


def _score_cells(row: Row, card: Card, views: Sequence[View]) -> dict[str, object]:
    cells: dict[str, object] = {
        "answer": "" if row["predicted"] is None else card.task.names[row["predicted"]],
        "abstains": _yes_or_no(row["abstains"]),
        "threshold": row["threshold"] if card.task.is_binary else "",
        "transcript_source": row.get("transcript_source") or "",
        "warnings": " ".join(row.get("warnings") or ()),
    }
    cells |= {f"p_{name}": p for name, p in zip(card.task.names, row["probabilities"], strict=True)}
    if found := row.get("contributions"):
        of_each = {"prior": found["prior"], **{f"{m['modality']}_adds": m["values"] for m in found["modalities"]}}
        for who, values in of_each.items():
            cells |= {f"{who}_{name}": value for name, value in zip(_asked_about(card), values, strict=True)}
        cells["opposed"] = " and ".join(found["opposed"] or ())
    for view in views:
        own = row[f"{view}_probabilities"]
        cells |= {
            str(view): _yes_or_no(row[f"{view}_present"]),
            f"{view}_reason": row[f"{view}_reason"],
            f"{view}_probability": "" if own is None or not card.task.is_binary else np.mean(own[1::2]),
        }
    return cells


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"

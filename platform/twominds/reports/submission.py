"""The tables of batch scoring: one line for each clip that was asked for, whatever became of it."""

import csv
import io
from collections.abc import Mapping, Sequence

from twominds.artifacts import Card
from twominds.records import Failure, View
from twominds.results.tables import Row
from twominds.scoring.ensemble import class_shares


def submission(clip_ids: Sequence[str], scored: Mapping[str, Row], card: Card) -> str:
    """The challenge's CSV, `id,p0,p1,pred`, with probabilities that add up to exactly 1.

    Args:
        clip_ids: In the order of the lines.
        scored: Cells of `tables.SCORE_FIELDS` by clip id. A clip that is not there has the classes' shares of the
            training labels, and their majority (of equals the first).
        card: Of the ensemble.
    """
    shares = class_shares(card)
    guess = {"probabilities": shares, "predicted": shares.index(max(shares))}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["id", *(f"p{i}" for i in range(card.task.num_outputs)), "pred"])
    for clip_id in clip_ids:
        row = scored.get(clip_id, guess)
        # Decimals, not floats, are what must add up: nine digits of each, the first class takes the rest.
        rest = [round(p * 10**9) for p in row["probabilities"][1:]]
        digits = [10**9 - sum(rest), *rest]
        writer.writerow([clip_id, *(f"{d // 10**9}.{d % 10**9:09d}" for d in digits), row["predicted"]])
    return buffer.getvalue()


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
    encoder by itself gives the last class; `transcript_source`; `warnings`, what was left out of the clip;
    `failed_in`, the stage, and `error`, why there is no score; `ensemble` and `weights`, what it was scored with.

    Args:
        clip_ids: In the order of the lines.
        scored: Cells of `tables.scored_columns` by clip id.
        failures: Why the other clips have no score, by clip id.
        card: Of the ensemble.
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


def _columns(card: Card, views: Sequence[View]) -> list[str]:
    classes = [f"p_{name}" for name in card.task.names]
    of_each = [f"{view}{suffix}" for view in views for suffix in ("", "_reason", "_probability")]
    last = ["transcript_source", "warnings", "failed_in", "error", "ensemble", "weights"]
    return ["id", "answer", *classes, "abstains", "threshold", *of_each, *last]


def _score_cells(row: Row, card: Card, views: Sequence[View]) -> dict[str, object]:
    cells: dict[str, object] = {
        "answer": card.task.names[row["predicted"]],
        "abstains": _yes_or_no(row["abstains"]),
        "threshold": row["threshold"],
        "transcript_source": row.get("transcript_source") or "",
        "warnings": " ".join(row.get("warnings") or ()),
    }
    cells |= {f"p_{name}": p for name, p in zip(card.task.names, row["probabilities"], strict=True)}
    for view in views:
        own = row[f"{view}_probabilities"]
        cells |= {
            str(view): _yes_or_no(row[f"{view}_present"]),
            f"{view}_reason": row[f"{view}_reason"],
            f"{view}_probability": "" if own is None else own[-1],
        }
    return cells


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"

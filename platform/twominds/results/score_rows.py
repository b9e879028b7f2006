"""Scores as rows of a table: the answer, what it is made of, and the timeline of a task per frame."""

from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa

from twominds.records import Contributions, Score, Timeline, View
from twominds.results.tables import SENTENCES, TIMES, WITHOUT_WORDS, Row

SCORE_FIELDS = [
    pa.field("probabilities", pa.list_(pa.float64())),
    pa.field("predicted", pa.int32()),
    pa.field("threshold", pa.float64()),
    pa.field("abstains", pa.bool_()),
    pa.field("seed_probabilities", pa.list_(pa.float64())),
    pa.field("artifact_id", pa.string()),
    pa.field("weights", pa.string()),
    pa.field("warnings", SENTENCES),
    pa.field(
        "contributions",
        pa.struct(
            [
                ("prior", pa.list_(pa.float64())),
                ("modalities", pa.list_(pa.struct([("modality", pa.string()), ("values", pa.list_(pa.float64()))]))),
                ("opposed", pa.list_(pa.string())),
                ("interaction", pa.float64()),
            ]
        ),
    ),
    pa.field(
        "timeline",
        pa.struct(
            [
                ("points_s", TIMES),
                ("outputs", pa.list_(pa.float64())),
                ("labels", pa.list_(pa.int32())),
                (
                    "segments",
                    pa.list_(
                        pa.struct(
                            [
                                ("start_s", pa.float64()),
                                ("end_s", pa.float64()),
                                ("label", pa.int32()),
                                ("probability", pa.float64()),
                            ]
                        )
                    ),
                ),
            ]
        ),
    ),
]
"""What is kept of a score: of a timeline the outputs of all points, one after another."""


def scored_columns(views: Sequence[View]) -> list[str]:
    """What is kept of a scored clip: its score, where its words are from, and what each view says or why not."""
    opinions = (f"{view}_{name}" for view in views for name in ("present", "reason", "probabilities"))
    return [*WITHOUT_WORDS, "transcript_source", *opinions, *(field.name for field in SCORE_FIELDS)]


def score_to_row(score: Score) -> Row:
    """A score as the cells of `SCORE_FIELDS`."""
    return {
        "probabilities": score.probabilities,
        "predicted": score.label,
        "threshold": score.threshold,
        "abstains": score.abstains,
        "seed_probabilities": score.seed_probabilities,
        "artifact_id": score.artifact_id,
        "weights": score.weights,
        "warnings": score.warnings,
        "contributions": score.contributions and _contributions_cell(score.contributions),
        "timeline": score.timeline and _timeline_cell(score.timeline),
    }


def _contributions_cell(contributions: Contributions) -> Row:
    return {
        "prior": contributions.prior,
        "modalities": [{"modality": str(m), "values": v} for m, v in contributions.by_modality.items()],
        "opposed": contributions.opposed and [str(view) for view in contributions.opposed],
        "interaction": contributions.interaction,
    }


def _timeline_cell(timeline: Timeline) -> Row:
    return {
        "points_s": timeline.points_s,
        "outputs": timeline.outputs.ravel(),
        "labels": timeline.labels,
        "segments": [asdict(segment) for segment in timeline.segments],
    }

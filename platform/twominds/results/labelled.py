"""What of a folder's labelled clips training, tuning and choosing may read: no other split leaves the disk for them.

Every labelled clip counts, also one that could not be processed: nothing is learned from it, and where a model is
measured the training majority is its answer.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from twominds.artifacts import fingerprint
from twominds.records import Clip, Failure, Split
from twominds.results import tables
from twominds.results.quarantine import nameless, quarantined_clips
from twominds.results.tables import Row
from twominds.tasks import Intensities, Task
from twominds.training.selection import LabelledSplits, SelectionProtocol, SelectionView, visible_splits


def clip_rows(uri: str, columns: Sequence[str], splits: Sequence[Split] | None = None) -> list[Row]:
    """Every clip of a folder of features or embeddings (of some splits), sorted by id: those in quarantine, too.

    Beside `columns` a row has `error_stage` and `error`, which are "" unless the clip is in quarantine. Then there is
    what the corpus says of it, its modalities are absent for that reason, and whatever else was asked for is None.
    """
    fine = {"error_stage": "", "error": ""}
    rows = {row["clip_id"]: row | fine for row in tables.read_rows(uri, columns, splits)}
    for clip, failure in quarantined_clips(uri):
        if splits is None or clip.split in splits:
            rows.setdefault(clip.clip_id, _absent(clip, nameless(clip, failure), columns))
    return [rows[clip_id] for clip_id in sorted(rows)]


def _absent(clip: Clip, failure: Failure, columns: Sequence[str]) -> Row:
    known = tables.clip_to_row(clip)
    for view in (name.removesuffix("_present") for name in columns if name.endswith("_present")):
        known |= {f"{view}_present": False, f"{view}_reason": failure.reason}
    row = {name: known.get(name) for name in ("clip_id", "split", *columns)}
    return row | {"error_stage": failure.stage, "error": failure.reason}


def labelled_rows(uri: str, columns: Sequence[str], protocol: SelectionProtocol) -> SelectionView[list[Row]]:
    """The labelled clips of a folder of features or embeddings as `clip_rows`, with `columns` and the label.

    Raises:
        SelectionError: a split that the protocol needs has no labelled clip.
    """
    splits = {
        split: [row for row in clip_rows(uri, [*tables.LABEL_COLUMNS, *columns], [split]) if is_labelled(row)]
        for split in visible_splits(protocol)
    }
    return LabelledSplits({split: rows for split, rows in splits.items() if rows}).for_selection(protocol)


def labels_fingerprint(uri: str, protocol: SelectionProtocol, *, words: bool = True) -> str:
    """Digest of the clips that the protocol sees, their splits and labels, and sources of those that were processed.

    Args:
        uri: Folder of features or embeddings.
        protocol: Says which splits are seen.
        words: Whether what is trained hangs on the corpus's words.
    """
    rows = clip_rows(uri, [*tables.LABEL_COLUMNS, "source"], visible_splits(protocol))
    known = [[row["clip_id"], row["split"], labels_json(tables.clip_from_row(row))] for row in rows]
    return fingerprint(known, [None if row["error"] else _made_of(row, words=words) for row in rows])


def is_labelled(row: Row) -> bool:
    """Whether the corpus says something of any of the clip's points."""
    labels = tables.labels_from_row(row)
    return labels is not None and bool(labels.known.any())


def labels_json(clip: Clip) -> int | list[object] | None:
    """A clip's labels as JSON; of one class per clip its index alone, which digests of older versions are of."""
    label, labels = clip.label, clip.labels
    if labels is None or label is not None:
        return label
    times = [None if array is None else array.tolist() for array in (labels.times_s, labels.ends_s)]
    return [labels.values.tolist(), labels.known.tolist(), *times]


def _made_of(row: Row, *, words: bool) -> list[str]:
    source: dict[str, str] = row.get("source") or {}
    return [source.get("video", ""), source.get("words", "") if words else ""]


def clip_counts(task: Task, train: Tensor, validation: Tensor) -> dict[str, Any]:
    """What a card says of the labels, [N] or [N, K], that a model was made of.

    The classes' shares in training, or the mean intensities, are what is said of a clip that can't be scored
    (`scoring.ensemble.training_prior`).
    """
    counted = {str(Split.TRAIN): len(train), str(Split.VALIDATION): len(validation)}
    clips = {"points" if task.per_frame else "clips": counted}
    if isinstance(task.output, Intensities):
        means = train.double().mean(dim=0)
        return {**clips, "train_means": {name: float(means[i]) for i, name in enumerate(task.names)}}
    counts = train.bincount(minlength=task.num_outputs)
    return {**clips, "train_labels": {name: int(counts[i]) for i, name in enumerate(task.names)}}

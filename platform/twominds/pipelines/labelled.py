"""What of a folder's labelled clips training, tuning and choosing may read: no other split leaves the disk for them."""

from collections.abc import Sequence

from twominds.artifacts import fingerprint
from twominds.pipelines import tables
from twominds.pipelines.tables import Row
from twominds.training.selection import LabelledSplits, SelectionProtocol, SelectionView, visible_splits


def labelled_rows(uri: str, columns: Sequence[str], protocol: SelectionProtocol) -> SelectionView[list[Row]]:
    """The labelled clips of a folder of features or embeddings, with `columns` and the label.

    Raises:
        SelectionError: a split that the protocol needs has no labelled clip.
    """
    splits = {
        split: [row for row in tables.read_rows(uri, ["label", *columns], [split]) if row["label"] is not None]
        for split in visible_splits(protocol)
    }
    return LabelledSplits({split: rows for split, rows in splits.items() if rows}).for_selection(protocol)


def labels_fingerprint(uri: str, protocol: SelectionProtocol) -> str:
    """Of the clips that the protocol sees, with their splits, labels and sources: others do not bear on a training."""
    rows = tables.read_rows(uri, ["label", "source"], visible_splits(protocol))
    return fingerprint([[row["clip_id"], row["split"], row["label"], row.get("source")] for row in rows])

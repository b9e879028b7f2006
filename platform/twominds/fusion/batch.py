"""What a fusion model takes: one token per view and point, and a mask that says which are there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from twominds.errors import ArtifactError, MissingInputError
from twominds.records import Embedding, FloatArray, View

InputKind = Literal["emb", "prob", "logits", "emb+prob", "pooled"]
"""Which part of an `Embedding` is the token: the encoder's embedding, its class probabilities, its logits, embedding
and probabilities side by side, or the pooled features of the frozen backbone (no trained encoder in the path)."""


@dataclass(frozen=True, kw_only=True)
class FusionInputs:
    """Tokens of N points. Rows whose mask is False hold zeros that no model may read."""

    tokens: dict[View, Tensor]
    """float32 [N, D_m] per view, in the order of the mask's columns."""
    mask: Tensor
    """bool [N, M]: True where the view's modality is present."""

    def __len__(self) -> int:
        """Number of points."""
        return self.mask.shape[0]

    @property
    def dims(self) -> dict[View, int]:
        """D_m per view, in the order of the mask's columns."""
        return {view: token.shape[-1] for view, token in self.tokens.items()}

    def any_present(self) -> Tensor:
        """Whether each point [N] has any modality at all. One that has none can't be trained on or scored."""
        return self.mask.any(dim=1)

    def select(self, indices: Tensor) -> "FusionInputs":
        """The points at `indices` (int [B]) or where `indices` is True (bool [N])."""
        tokens = {view: token[indices] for view, token in self.tokens.items()}
        return FusionInputs(tokens=tokens, mask=self.mask[indices])

    def to(self, device: str | torch.device) -> "FusionInputs":
        """The same on `device`."""
        tokens = {view: token.to(device) for view, token in self.tokens.items()}
        return FusionInputs(tokens=tokens, mask=self.mask.to(device))


def fusion_inputs(
    embeddings: Sequence[Mapping[View, Embedding]],
    views: Sequence[View],
    kind: InputKind,
    dims: Mapping[View, int] | None = None,
) -> FusionInputs:
    """Stack the embeddings of the points of several clips, clip after clip, into the inputs of a fusion model.

    Args:
        embeddings: one mapping per clip; a view that is not in it counts as absent. A clip has the rows that
            `count_rows` says; a view that looked at it once says the same in each.
        views: which ones, in the order of the model's tokens.
        kind: which part of the embeddings is the token.
        dims: D_m of the model that takes the inputs; None: taken from the embeddings (when training).

    Raises:
        MissingInputError: a present embedding does not carry the part that `kind` asks for, or, without `dims`, a
            view is absent from every clip.
        ArtifactError: an embedding is not as long as `dims` says.
    """
    counts = [count_rows(clip) for clip in embeddings]
    first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    tokens: dict[View, Tensor] = {}
    mask = np.zeros((first[-1], len(views)), np.bool_)
    for column, view in enumerate(views):
        found = [_token(clip.get(view), kind, row) for row, clip in enumerate(embeddings)]
        dim = dims[view] if dims is not None else next((v.shape[1] for v in found if v is not None), None)
        if dim is None:
            raise MissingInputError(f"No clip has the modality of {view}. Leave it out of the fusion's views.")
        stacked = np.zeros((first[-1], dim), dtype=np.float32)
        for row, vectors in enumerate(found):
            if vectors is None:
                continue
            if len(vectors) == 1 and count_points(embeddings[row]) == 1:
                vectors = np.broadcast_to(vectors, (counts[row], vectors.shape[1]))
            if vectors.shape != (counts[row], dim):
                raise ArtifactError(
                    f"The {view} input '{kind}' has {vectors.shape[-1]} values where the fusion model takes {dim}: "
                    "it was trained on other encoders or another backbone bundle. Embed again, or fuse again."
                )
            stacked[first[row] : first[row + 1]] = vectors
            mask[first[row] : first[row + 1], column] = True
        tokens[view] = torch.from_numpy(stacked)
    return FusionInputs(tokens=tokens, mask=torch.from_numpy(mask))


def count_points(clip: Mapping[View, Embedding]) -> int:
    """P of a clip: how many times the task asks about it."""
    return next((len(found.points_s) for found in clip.values() if found.points_s is not None), 1)


def count_rows(clip: Mapping[View, Embedding]) -> int:
    """How many rows a clip has: P, or, where it is asked about as a whole, the most stretches that a view looked at."""
    return max(count_points(clip), *(found.stretches for found in clip.values() if found.presence.present), 1)


def _token(embedding: Embedding | None, kind: InputKind, row: int) -> FloatArray | None:
    """The tokens [P, D] of one view of one clip; None when it is absent."""
    if embedding is None or not embedding.presence.present:
        return None
    parts = {
        "emb": (embedding.vectors,),
        "prob": (embedding.probabilities,),
        "logits": (embedding.logits,),
        "emb+prob": (embedding.vectors, embedding.probabilities),
        "pooled": (None if embedding.pooled is None else embedding.pooled[None],),
    }[kind]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        raise MissingInputError(
            f"The {embedding.view} embedding of clip number {row} does not carry what the input kind '{kind}' "
            "needs. Pooled features are made by `python jobs/preprocess.py --pooled` alone (into a folder without "
            "others) and carried along by `jobs/embed.py`; all else is made by `jobs/embed.py`. Or choose another "
            "input kind."
        )
    return found[0] if len(found) == 1 else np.concatenate(found, axis=1)

"""What a fusion model takes: one token per modality and clip, and a mask that says which are there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from twominds.errors import ArtifactError, MissingInputError
from twominds.records import Embedding, FloatArray, Modality

InputKind = Literal["emb", "prob", "logits", "emb+prob", "pooled"]
"""Which part of an `Embedding` is the token: the encoder's embedding, its class probabilities, its logits, embedding
and probabilities side by side, or the pooled features of the frozen backbone (no trained encoder in the path)."""


@dataclass(frozen=True, kw_only=True)
class FusionInputs:
    """Tokens of N clips. Rows whose mask is False hold zeros that no model may read."""

    tokens: dict[Modality, Tensor]
    """float32 [N, D_m] per modality, in the order of the mask's columns."""
    mask: Tensor
    """bool [N, M]: True where the modality is present."""

    def __len__(self) -> int:
        """Number of clips."""
        return self.mask.shape[0]

    @property
    def dims(self) -> dict[Modality, int]:
        """D_m per modality, in the order of the mask's columns."""
        return {modality: token.shape[-1] for modality, token in self.tokens.items()}

    def any_present(self) -> Tensor:
        """Whether each clip [N] has any modality at all. One that has none can't be trained on or scored."""
        return self.mask.any(dim=1)

    def select(self, indices: Tensor) -> "FusionInputs":
        """The clips at `indices` (int [B]) or where `indices` is True (bool [N])."""
        tokens = {modality: token[indices] for modality, token in self.tokens.items()}
        return FusionInputs(tokens=tokens, mask=self.mask[indices])

    def to(self, device: str | torch.device) -> "FusionInputs":
        """The same on `device`."""
        tokens = {modality: token.to(device) for modality, token in self.tokens.items()}
        return FusionInputs(tokens=tokens, mask=self.mask.to(device))


def fusion_inputs(
    embeddings: Sequence[Mapping[Modality, Embedding]],
    modalities: tuple[Modality, ...],
    kind: InputKind,
    dims: Mapping[Modality, int] | None = None,
) -> FusionInputs:
    """Stack the embeddings of N clips into the inputs of a fusion model.

    Args:
        embeddings: one mapping per clip; a modality that is not in it counts as absent.
        modalities: which modalities, in the order of the model's tokens.
        kind: which part of the embeddings is the token.
        dims: D_m of the model that takes the inputs; None: taken from the embeddings (when training).

    Raises:
        MissingInputError: a present embedding does not carry the part that `kind` asks for, or, without `dims`, a
            modality is absent from every clip.
        ArtifactError: an embedding is not as long as `dims` says.
    """
    vectors = {m: [_token(clip.get(m), kind, row) for row, clip in enumerate(embeddings)] for m in modalities}
    tokens: dict[Modality, Tensor] = {}
    for modality, column in vectors.items():
        dim = dims[modality] if dims is not None else next((len(v) for v in column if v is not None), None)
        if dim is None:
            raise MissingInputError(f"No clip has the modality {modality}. Leave it out of the fusion's modalities.")
        stacked = np.zeros((len(column), dim), dtype=np.float32)
        for row, vector in enumerate(column):
            if vector is None:
                continue
            if vector.shape != (dim,):
                raise ArtifactError(
                    f"The {modality} input '{kind}' has {vector.shape[-1]} values where the fusion model takes {dim}: "
                    "it was trained on other encoders or another backbone bundle. Embed again, or fuse again."
                )
            stacked[row] = vector
        tokens[modality] = torch.from_numpy(stacked)
    present = [[column[row] is not None for column in vectors.values()] for row in range(len(embeddings))]
    mask = torch.tensor(present, dtype=torch.bool).reshape(len(embeddings), len(modalities))
    return FusionInputs(tokens=tokens, mask=mask)


def _token(embedding: Embedding | None, kind: InputKind, row: int) -> FloatArray | None:
    """The token of one modality of one clip; None when it is absent."""
    if embedding is None or not embedding.presence.present:
        return None
    parts = {
        "emb": (embedding.vector,),
        "prob": (embedding.probabilities,),
        "logits": (embedding.logits,),
        "emb+prob": (embedding.vector, embedding.probabilities),
        "pooled": (embedding.pooled,),
    }[kind]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        raise MissingInputError(
            f"The {embedding.modality} embedding of clip number {row} does not carry what the input kind '{kind}' "
            "needs. Pooled features are made by `python jobs/preprocess.py --pooled` alone (into a folder without "
            "others) and carried along by `jobs/embed.py`; all else is made by `jobs/embed.py`. Or choose another "
            "input kind."
        )
    return found[0] if len(found) == 1 else np.concatenate(found)

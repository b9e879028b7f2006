"""Sequences of different lengths as one batch: right-padded, with a mask."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def pad_sequences(sequences: Sequence[npt.NDArray[Any]], pad_value: float = 0) -> tuple[Tensor, Tensor]:
    """Stack [T_i, ...] arrays of one dtype to [B, max T_i, ...]; the mask [B, max T_i] is True on real steps."""
    lengths = [len(sequence) for sequence in sequences]
    first = sequences[0]
    padded = np.full((len(sequences), max(lengths), *first.shape[1:]), pad_value, dtype=first.dtype)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    return torch.from_numpy(padded), mask

"""Sequence encoders: steps [B, T, D] and a mask [B, T] (True on real steps) -> [B, T, D].

What they return on padded steps is arbitrary; on real steps it does not depend on the padding.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from twominds.encoders.mamba import MambaMixer

TemporalKind = Literal["mamba", "transformer", "lstm"]


class MambaEncoder(nn.Module):
    """Residual Mamba layers with post-norm: x <- LayerNorm(x + Dropout(Mamba(x)))."""

    def __init__(
        self, dim: int, *, num_layers: int, state_dim: int, conv_kernel: int, expand: int, dropout: float
    ) -> None:
        super().__init__()
        self.mixers = nn.ModuleList(
            MambaMixer(dim, state_dim=state_dim, conv_kernel=conv_kernel, expand=expand) for _ in range(num_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(num_layers))
        self.dropout = nn.Dropout(dropout)

    def forward(self, steps: Tensor, mask: Tensor) -> Tensor:
        """See the module; Mamba is causal, so right-padding needs no mask."""
        del mask
        for mixer, norm in zip(self.mixers, self.norms, strict=True):
            steps = norm(steps + self.dropout(mixer(steps)))
        return steps


class TransformerEncoder(nn.Module):
    """Post-norm Transformer encoder (Vaswani et al. 2017) with its sinusoidal positions."""

    def __init__(self, dim: int, *, num_layers: int, num_heads: int, feed_forward_dim: int, dropout: float) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(dim, num_heads, feed_forward_dim, dropout, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, steps: Tensor, mask: Tensor) -> Tensor:
        """See the module."""
        positions = sinusoidal_positions(steps.shape[1], steps.shape[2]).to(steps)
        return self.layers(self.dropout(steps + positions), src_key_padding_mask=~mask)


class LSTMEncoder(nn.Module):
    """Bidirectional LSTM, D / 2 units each way; the backward pass starts at each clip's last real step."""

    def __init__(self, dim: int, *, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            dim,
            dim // 2,
            num_layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if num_layers > 1 else 0.0,
        )

    def forward(self, steps: Tensor, mask: Tensor) -> Tensor:
        """See the module."""
        packed = pack_padded_sequence(steps, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        encoded, _ = self.lstm(packed)
        unpacked, _ = pad_packed_sequence(encoded, batch_first=True, total_length=steps.shape[1])
        return unpacked


def sinusoidal_positions(steps: int, dim: int) -> Tensor:
    """[T, D]: sine in the even dimensions, cosine in the odd (Vaswani et al. 2017, section 3.5)."""
    position = torch.arange(steps).unsqueeze(1)
    rate = torch.exp(torch.arange(0, dim, 2) * (-math.log(10_000.0) / dim))
    encoding = torch.zeros(steps, dim)
    encoding[:, 0::2] = torch.sin(position * rate)
    encoding[:, 1::2] = torch.cos(position * rate)
    return encoding

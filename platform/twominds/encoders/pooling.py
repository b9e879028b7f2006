"""Pooling over time that sees real steps alone, however much padding there is.

All take values [B, T, D] and a mask [B, T], True on real steps, of which each clip has at least one.
"""

import torch
from torch import Tensor, nn


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real steps (LEYA, eq. 3): [B, D]."""
    real = mask.unsqueeze(-1)
    return values.masked_fill(~real, 0.0).sum(dim=1) / real.sum(dim=1)


def masked_mean_std(values: Tensor, mask: Tensor) -> Tensor:
    """[mean; population standard deviation] over the real steps (LEYA, eq. 2): [B, 2 * D]."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean.unsqueeze(1)).square(), mask)
    return torch.cat([mean, variance.sqrt()], dim=-1)


class AttentionPooling(nn.Module):
    """Weighted mean over the real steps, the weights a softmax of w . x_t (ConflictAwareAH, eq. 1): [B, D]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, 1, bias=False)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        weights = self.query(values).masked_fill(~mask.unsqueeze(-1), -torch.inf).softmax(dim=1)
        return (weights * values.masked_fill(~mask.unsqueeze(-1), 0.0)).sum(dim=1)

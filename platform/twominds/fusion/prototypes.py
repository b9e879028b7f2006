"""Prototype head of the fusion model: an auxiliary classifier by similarity to learned examples of each class."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PrototypeHead(nn.Module):
    """K learnable prototypes per class; logit_c = logsumexp_k cos(z, p_ck) / tau (LEYA, eq. 9).

    Its logits feed a loss term in training and never the prediction.
    """

    temperature: Tensor
    """tau []."""

    def __init__(self, dim: int, num_outputs: int, prototypes_per_class: int, temperature: float) -> None:
        super().__init__()
        # Not a float: models of several temperatures can be batched. Not saved: it is a setting.
        self.register_buffer("temperature", torch.tensor(temperature), persistent=False)
        self.prototypes = nn.Parameter(torch.randn(num_outputs, prototypes_per_class, dim))
        """[C, K, d]"""

    def forward(self, fused: Tensor) -> Tensor:
        """[N, d] -> logits [N, C]."""
        similarity = torch.einsum("nd,ckd->nck", F.normalize(fused, dim=-1), F.normalize(self.prototypes, dim=-1))
        return torch.logsumexp(similarity / self.temperature, dim=-1)


def diversity_penalty(prototypes: Tensor, margin: float) -> Tensor:
    """Penalty on prototypes that resemble each other: what `lambda_div` weighs in eq. 10.

    The paper names the term and leaves its form open. Here: the mean over all pairs of distinct prototypes of one class
    of relu(cos - margin), plus the same mean over all pairs of prototypes of different classes. Both terms grow with
    similarity, so that the gradient pushes similar prototypes apart, within and between classes.

    Args:
        prototypes: [C, K, d].
        margin: cosine similarity up to which a pair costs nothing.

    Returns:
        Scalar, 0 when no pair is more similar than the margin.
    """
    classes, per_class, dim = prototypes.shape
    flat = F.normalize(prototypes.reshape(classes * per_class, dim), dim=-1)
    excess = F.relu(flat @ flat.T - margin)
    label = torch.arange(classes, device=flat.device).repeat_interleave(per_class)
    same = label[:, None] == label[None, :]
    within = same & ~torch.eye(len(label), dtype=torch.bool, device=flat.device)
    return _mean(excess, within) + _mean(excess, ~same)


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values; 0 where there are none (one prototype per class has no pair within)."""
    return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp_min(1)

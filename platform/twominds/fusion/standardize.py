"""Put a view's tokens on a common footing by statistics of the training split, kept in the model's state.

Encoder embeddings are in a good range by training, and LEYA feeds them as they are. Pooled features of a frozen
backbone are not: a few directions of large variance (who, where) hide the rest, and a few hundred clips can't teach a
network which of a thousand directions matter. Hence z-scores, whitened principal components, or `interaction`: the
directions in which two views together, but perhaps neither alone, say something of the class.
"""

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from twominds.errors import TrainingError

Standardization = Literal["none", "zscore", "pca", "interaction"]

INTERACTION_DIRECTIONS = 2
"""Directions that a view keeps for each partner, with standardize='interaction'."""

_SMALL = 1e-6
"""A deviation below this is a constant: its direction is dropped, not blown up."""


class Standardizer(nn.Module):
    """[N, D] -> [N, `output_dim`] for one view; statistics are set by `fit_standardizers`."""

    def __init__(self, dim: int, method: Standardization, components: int, partners: int) -> None:
        super().__init__()
        self.method: Standardization = method
        self.components = min(components, dim)
        sizes = {"pca": self.components, "interaction": 1 + INTERACTION_DIRECTIONS * partners}
        self.output_dim = sizes.get(method, dim)
        self.mean: Tensor
        self.scale: Tensor
        self.basis: Tensor
        if method != "none":
            self.register_buffer("mean", torch.zeros(dim))
            self.register_buffer("scale", torch.ones(dim))
        if method in sizes:
            self.register_buffer("basis", torch.eye(dim, self.output_dim))

    def forward(self, values: Tensor) -> Tensor:
        """Standardise `values` [N, D]."""
        if self.method == "none":
            return values
        scores = (values - self.mean) * self.scale
        return scores if self.method == "zscore" else scores @ self.basis


@torch.no_grad()
def fit_standardizers(
    standardizers: Sequence[Standardizer], tokens: Sequence[Tensor], mask: Tensor, labels: Tensor
) -> None:
    """Set the statistics of M standardisers from the training split, and from present tokens alone.

    - zscore: (x - mean) / population std.
    - pca: the leading principal components of the z-scores, whitened. Components that the clips can't determine (beyond
      rank n - 1) stay zero.
    - interaction: of those components only the directions that matter to the class: one along the covariance of token
      and class, and for each partner view the leading left singular vectors of the class-weighted cross-covariance
      mean((1[y = c] - p_c) x_i x_j'), where both are present. For two independent signals whose agreement is the class,
      that matrix has rank one, and the pair of singular vectors is the pair of signals.

    Args:
        standardizers: One per view, all of one method.
        tokens: [N, D_m] per view.
        mask: bool [N, M], True where present.
        labels: int64 [N]; only `interaction` looks at them.

    Raises:
        TrainingError: fewer than two training clips have one of the views.
    """
    if not standardizers or standardizers[0].method == "none":
        return
    whitenings = [_fit_whitening(s, t[mask[:, i]]) for i, (s, t) in enumerate(zip(standardizers, tokens, strict=True))]
    method = standardizers[0].method
    if method == "pca":
        for standardizer, whitening in zip(standardizers, whitenings, strict=True):
            standardizer.basis.copy_(whitening)
    if method == "interaction":
        # Rows of absent tokens are zero from here on: they add nothing to a covariance.
        scores = [
            torch.where(mask[:, i, None], ((t - s.mean) * s.scale).double() @ w, 0.0)
            for i, (s, t, w) in enumerate(zip(standardizers, tokens, whitenings, strict=True))
        ]
        for i, (standardizer, whitening) in enumerate(zip(standardizers, whitenings, strict=True)):
            standardizer.basis.copy_(whitening @ _class_directions(scores, i, labels))


def _fit_whitening(standardizer: Standardizer, present: Tensor) -> Tensor:
    """Set mean and scale; return the whitening basis [D, k] of the z-scores (float64), or nothing for zscore."""
    if len(present) < 2:
        raise TrainingError(
            f"standardize='{standardizer.method}' needs at least 2 training clips with each view. Leave the rare "
            "view out of the fusion, or use standardize='none'."
        )
    exact = present.double()
    mean, deviation = exact.mean(dim=0), exact.std(dim=0, correction=0)
    scale = _inverse(deviation)
    standardizer.mean.copy_(mean)
    standardizer.scale.copy_(scale)
    if standardizer.method == "zscore":
        return torch.empty(0)
    _, singular, rows = _svd((exact - mean) * scale)
    keep = min(standardizer.components, len(present) - 1, len(singular))
    whitening = exact.new_zeros(exact.shape[1], standardizer.components)
    whitening[:, :keep] = (rows.T * _inverse(singular / len(present) ** 0.5))[:, :keep]
    return whitening


def _class_directions(scores: Sequence[Tensor], i: int, labels: Tensor) -> Tensor:
    """Orthonormal-per-partner directions [k, 1 + r * (M - 1)] of view i that bear on the class."""
    one_hot = nn.functional.one_hot(labels).double()
    centred = one_hot - one_hot.mean(dim=0)
    own = scores[i]
    found = [_leading(own.T @ centred, 1)]
    for j, other in enumerate(scores):
        if j != i:
            cross = torch.einsum("na,nc,nb->acb", own, centred, other).flatten(1)
            found.append(_leading(cross, INTERACTION_DIRECTIONS))
    return torch.cat(found, dim=1)


def _leading(matrix: Tensor, count: int) -> Tensor:
    """The first `count` left singular vectors [rows, count]; zero columns beyond the rank there can be."""
    left = _svd(matrix)[0][:, :count]
    # A singular vector has no sign of its own: the largest entry is made positive, so that runs agree.
    largest = left.gather(0, left.abs().argmax(dim=0, keepdim=True))
    return nn.functional.pad(left * largest.sign(), (0, count - left.shape[1]))


def _svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return cast(tuple[Tensor, Tensor, Tensor], torch.linalg.svd(matrix, full_matrices=False))


def _inverse(deviation: Tensor) -> Tensor:
    return torch.where(deviation > _SMALL, 1 / deviation.clamp_min(_SMALL), 0.0)

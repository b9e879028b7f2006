"""What every fusion model is: a token per view in, class logits out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast, get_args

import torch
from torch import Tensor, nn

from twominds.errors import ConfigError
from twominds.fusion.batch import FusionInputs
from twominds.fusion.standardize import Standardization, Standardizer, fit_standardizers
from twominds.records import View


@dataclass(frozen=True, kw_only=True)
class FusionSettings:
    """Settings that all fusion models share."""

    hidden_dim: int = 128
    """Shared latent dimension d."""
    dropout: float = 0.45
    """Dropout probability throughout the model."""
    standardize: Standardization = "none"
    """Inputs as they are (`none`, the paper), as `zscore`s, as whitened principal components (`pca`), or projected onto
    the directions that bear on the class, alone or with another view (`interaction`). Fitted on the training split.
    For the input kind `pooled` choose `interaction`."""
    pca_components: int = 24
    """Principal components per view that `pca` keeps and `interaction` searches for directions."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        check(self.hidden_dim >= 1, "hidden_dim", "at least 1", self.hidden_dim)
        check(0 <= self.dropout < 1, "dropout", "in [0, 1)", self.dropout)
        methods = get_args(Standardization)
        check(self.standardize in methods, "standardize", f"one of {', '.join(methods)}", self.standardize)
        check(self.pca_components >= 1, "pca_components", "at least 1", self.pca_components)


def check(fits: bool, setting: str, expected: str, value: object) -> None:
    """Raise ConfigError naming the setting unless it fits."""
    if not fits:
        raise ConfigError(f"{setting} must be {expected}, got {value!r}.")


@dataclass(frozen=True, kw_only=True)
class FusionOutput:
    """Answer of a fusion model for N clips."""

    logits: Tensor
    """[N, C]: the prediction."""
    fused: Tensor
    """[N, d]: the fused representation behind it."""
    prototype_logits: Tensor | None = None
    """[N, C] of the prototype head, for its auxiliary loss alone; None without one."""
    diversity: Tensor | None = None
    """[]: the prototypes' diversity penalty; None without a prototype head."""


class Fusion(nn.Module, ABC):
    """Base of the fusion models: knows its inputs, standardises them, and keeps absent tokens out.

    `forward` has no data-dependent control flow, so that `torch.func` can batch it over stacked parameters.
    """

    def __init__(self, config: FusionSettings, dims: Mapping[View, int], num_outputs: int) -> None:
        super().__init__()
        self.dims = dict(dims)
        self.num_outputs = num_outputs
        self.standardizers = nn.ModuleDict(
            {
                module_name(view): Standardizer(dim, config.standardize, config.pca_components, partners=len(dims) - 1)
                for view, dim in dims.items()
            }
        )

    def standardizer(self, view: View) -> Standardizer:
        """The standardiser of one view."""
        return cast(Standardizer, self.standardizers[module_name(view)])

    @property
    def input_dims(self) -> dict[View, int]:
        """Length of each view's token after standardisation: what the projectors take."""
        return {view: self.standardizer(view).output_dim for view in self.dims}

    def fit_standardization(self, train: FusionInputs, labels: Tensor) -> None:
        """Set what `standardize` needs from the training split: present tokens and, for `interaction`, labels."""
        standardizers = [self.standardizer(view) for view in self.dims]
        fit_standardizers(standardizers, [train.tokens[m] for m in self.dims], train.mask, labels)

    def present_tokens(self, inputs: FusionInputs) -> list[Tensor]:
        """Standardised tokens [N, D_m'] per view; rows of absent ones are replaced by zeros, whatever they held."""
        tokens: list[Tensor] = []
        for column, view in enumerate(self.dims):
            token = self.standardizer(view)(inputs.tokens[view])
            tokens.append(torch.where(inputs.mask[:, column, None], token, 0.0))
        return tokens

    @abstractmethod
    def forward(self, inputs: FusionInputs) -> FusionOutput:
        """Fuse. A clip with every modality absent gets a finite answer that means nothing: leave it out before."""


def module_name(view: View) -> str:
    """What a view's part of a model is called: torch has no dots in names."""
    return view.replace(".", "-")


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean over the present tokens (eq. 8): [N, M, d] and bool [N, M] -> [N, d]; zeros where none is present."""
    present = mask.unsqueeze(-1)
    return torch.where(present, tokens, 0.0).sum(dim=1) / present.sum(dim=1).clamp_min(1)


class Projectors(nn.Module):
    """One projector per view (eq. 4): Linear, LayerNorm, GELU, Dropout; stacked to [N, M, d] (eq. 5)."""

    def __init__(self, dims: Mapping[View, int], hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.by_modality = nn.ModuleDict(
            {
                module_name(view): nn.Sequential(
                    nn.Linear(dim, hidden_dim), nn.LayerNorm(hidden_dim), nn.GELU(), nn.Dropout(dropout)
                )
                for view, dim in dims.items()
            }
        )

    def forward(self, tokens: list[Tensor]) -> Tensor:
        """Project and stack tokens given in the order of `dims`."""
        projected = [project(token) for project, token in zip(self.by_modality.values(), tokens, strict=True)]
        return torch.stack(projected, dim=1)

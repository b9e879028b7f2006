"""Small fusion models: attention-weighted sum, concat MLP, early fusion, class-weighted sum.

In all of them an absent modality has weight zero (or, where a place can't be left out, a learned vector stands in it).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from twominds.fusion.batch import FusionInputs
from twominds.fusion.model import Fusion, FusionOutput, FusionSettings, Projectors, check
from twominds.records import View


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over dim 1 of [N, M, ...] among the present; absent ones get 0 (all of them, where none is present)."""
    present = mask.reshape(*mask.shape, *[1] * (scores.dim() - 2))
    weights = torch.where(present, scores, torch.finfo(scores.dtype).min).softmax(dim=1)
    return torch.where(present, weights, 0.0)


@dataclass(frozen=True, kw_only=True)
class AttentionSumConfig(FusionSettings):
    """Settings of `AttentionSum`."""

    kind: Literal["attention_sum"] = "attention_sum"
    """Tells the fusion models apart in a saved config."""


class AttentionSum(Fusion):
    """Projected tokens, summed with weights softmax_m(v' tanh(W u_m)), then a linear classifier."""

    def __init__(self, config: AttentionSumConfig, dims: Mapping[View, int], num_outputs: int) -> None:
        super().__init__(config, dims, num_outputs)
        dim = config.hidden_dim
        self.projectors = Projectors(self.input_dims, dim, config.dropout)
        self.scorer = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 1))
        self.classifier = nn.Linear(dim, num_outputs)

    def forward(self, inputs: FusionInputs) -> FusionOutput:
        """Fuse N clips; with every modality absent the answer is the classifier's bias."""
        tokens = self.projectors(self.present_tokens(inputs))
        weights = masked_softmax(self.scorer(tokens), inputs.mask)
        fused = (weights * tokens).sum(dim=1)
        return FusionOutput(logits=self.classifier(fused), fused=fused)


@dataclass(frozen=True, kw_only=True)
class ConcatMLPConfig(FusionSettings):
    """Settings of `ConcatMLP`."""

    kind: Literal["concat_mlp"] = "concat_mlp"
    """Tells the fusion models apart in a saved config."""


class ConcatMLP(Fusion):
    """Projected tokens side by side through an MLP with one hidden layer; a learned vector stands for an absent one."""

    def __init__(self, config: ConcatMLPConfig, dims: Mapping[View, int], num_outputs: int) -> None:
        super().__init__(config, dims, num_outputs)
        dim = config.hidden_dim
        self.projectors = Projectors(self.input_dims, dim, config.dropout)
        self.absent = nn.Parameter(torch.zeros(len(dims), dim))
        self.hidden = nn.Sequential(nn.Linear(len(dims) * dim, dim), nn.GELU(), nn.Dropout(config.dropout))
        self.classifier = nn.Linear(dim, num_outputs)

    def forward(self, inputs: FusionInputs) -> FusionOutput:
        """Fuse N clips; with every modality absent the answer is that to M learned vectors."""
        tokens = self.projectors(self.present_tokens(inputs))
        tokens = torch.where(inputs.mask.unsqueeze(-1), tokens, self.absent)
        fused = self.hidden(tokens.flatten(1))
        return FusionOutput(logits=self.classifier(fused), fused=fused)


@dataclass(frozen=True, kw_only=True)
class EarlyFusionConfig(FusionSettings):
    """Settings of `EarlyFusion`; HSEmotion's has 64 hidden units and no dropout (section 4 of its fact sheet)."""

    kind: Literal["early"] = "early"
    """Tells the fusion models apart in a saved config."""


class EarlyFusion(Fusion):
    """Tokens side by side as they are -> Linear, ReLU, Dropout -> Linear; a learned vector stands for an absent one.

    Over encoders whose embedding is what they see (`hidden_dim` 0), this is early fusion: one network over the features
    of all views.
    """

    def __init__(self, config: EarlyFusionConfig, dims: Mapping[View, int], num_outputs: int) -> None:
        super().__init__(config, dims, num_outputs)
        widths = self.input_dims
        self.absent = nn.ParameterList([nn.Parameter(torch.zeros(width)) for width in widths.values()])
        self.hidden = nn.Sequential(
            nn.Linear(sum(widths.values()), config.hidden_dim), nn.ReLU(), nn.Dropout(config.dropout)
        )
        self.classifier = nn.Linear(config.hidden_dim, num_outputs)

    def forward(self, inputs: FusionInputs) -> FusionOutput:
        """Fuse N points; with every modality absent the answer is that to M learned vectors."""
        tokens = self.present_tokens(inputs)
        there = inputs.mask.unsqueeze(-1)
        filled = [torch.where(there[:, i], token, self.absent[i]) for i, token in enumerate(tokens)]
        fused = self.hidden(torch.cat(filled, dim=1))
        return FusionOutput(logits=self.classifier(fused), fused=fused)


@dataclass(frozen=True, kw_only=True)
class ClassWeightedConfig(FusionSettings):
    """Settings of `ClassWeighted`; hidden_dim and dropout have no effect, standardize must be `none`."""

    kind: Literal["class_weighted"] = "class_weighted"
    """Tells the fusion models apart in a saved config."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        super().__post_init__()
        check(self.standardize == "none", "standardize", "none for class_weighted fusion", self.standardize)


class ClassWeighted(Fusion):
    """Sum of the encoders' own class logits with weights per modality and class: the input kind `logits`.

    logit_c = sum_m w_mc l_mc, where w_mc is a softmax over the present modalities of learned scores.
    """

    def __init__(self, config: ClassWeightedConfig, dims: Mapping[View, int], num_outputs: int) -> None:
        super().__init__(config, dims, num_outputs)
        for view, dim in dims.items():
            check(dim == num_outputs, "the input kind", f"logits ({num_outputs} per {view})", f"{dim} values")
        self.scores = nn.Parameter(torch.zeros(len(dims), num_outputs))

    def forward(self, inputs: FusionInputs) -> FusionOutput:
        """Fuse N clips; with every modality absent the answer is zero for each class."""
        tokens = torch.stack(self.present_tokens(inputs), dim=1)
        weights = masked_softmax(self.scores.expand(len(inputs), -1, -1), inputs.mask)
        fused = (weights * tokens).sum(dim=1)
        return FusionOutput(logits=fused, fused=fused)

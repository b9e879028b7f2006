"""Conflict-aware fusion (ConflictAwareAH, section 3.4): what the views say, and by how much each pair of them differs.

The paper, its public code and its older checkpoints fuse the same vector in three ways (`ConflictFusionConfig.form`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twominds.errors import ConfigError
from twominds.fusion.batch import FusionInputs
from twominds.fusion.model import Fusion, FusionOutput, FusionSettings, check, module_name
from twominds.fusion.transformer import Block, check_blocks
from twominds.records import View

Form = Literal["tokens", "concat", "feed_forward"]


@dataclass(frozen=True, kw_only=True)
class ConflictFusionConfig(FusionSettings):
    """The defaults are those of the public code, whose encoders give tokens of 768 values."""

    kind: Literal["conflict"] = "conflict"
    """Tells the fusion models apart in a saved config."""
    hidden_dim: int = 768
    """Length d of a token, and of a difference of two."""
    dropout: float = 0.3
    """Dropout probability throughout the model."""
    form: Form = "tokens"
    """How views and differences meet: as `tokens` of a Transformer (public code), side by side in one token of it
    (`concat`, its older checkpoints, where attention sees nothing else), or through a network of two layers
    (`feed_forward`, the paper; it does not say how wide: `head_dim`)."""
    conflict: bool = True
    """Whether the differences are taken; without them: the ablation of Table 4."""
    project: bool = True
    """A linear layer for each view before anything else. Encoders that end in one give tokens of d: then False."""
    num_layers: int = 2
    """Transformer blocks."""
    num_heads: int = 8
    """Attention heads; divides the width of a token."""
    feedforward_factor: int = 2
    """Width of the Transformer's feed-forward layers in units of the token's."""
    head_dim: int = 512
    """Hidden units of the head (and of `feed_forward`)."""
    one_logit: bool = False
    """For two classes: one number z that says how much the second is preferred, as logits (0, z)."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        super().__post_init__()
        check_blocks(self.hidden_dim, self.num_layers, self.num_heads, self.feedforward_factor)
        check(self.head_dim >= 1, "head_dim", "at least 1", self.head_dim)


class ConflictFusion(Fusion):
    """Tokens [t_1 .. t_M] and |t_i - t_j| of all pairs i < j -> one of three networks -> head -> logits.

    The public code takes an absent token for zeros, so that the difference to it is the other token itself. Here both
    are masked: attention leaves them out, and zeros stand where the head has places for them.
    """

    def __init__(self, config: ConflictFusionConfig, dims: Mapping[View, int], num_outputs: int) -> None:
        super().__init__(config, dims, num_outputs)
        if config.one_logit and num_outputs != 2:
            raise ConfigError(f"one_logit is for two classes, not for {num_outputs} outputs.")
        dim = config.hidden_dim
        if not config.project and (others := [v for v, size in self.input_dims.items() if size != dim]):
            raise ConfigError(f"Without `project` every token must have hidden_dim={dim} values, unlike {others}.")
        self.config = config
        self.projections = nn.ModuleDict(
            {module_name(view): nn.Linear(size, dim) for view, size in self.input_dims.items()}
            if config.project
            else {}
        )
        self.pairs = list(combinations(range(len(dims)), 2)) if config.conflict else []
        width = (len(dims) + len(self.pairs)) * dim
        sizes = {"tokens": (dim, config.num_layers), "concat": (width, config.num_layers), "feed_forward": (width, 0)}
        of_token, layers = sizes[config.form]
        self.layers = nn.ModuleList(
            Block(of_token, config.num_heads, config.feedforward_factor * of_token, config.dropout, nn.ReLU())
            for _ in range(layers)
        )
        if config.form == "feed_forward":
            self.feed_forward = nn.Sequential(*_layer(width, config), *_layer(config.head_dim, config))
            width = config.head_dim
        outputs = 1 if config.one_logit else num_outputs
        self.head = nn.Sequential(*_layer(width, config), nn.Linear(config.head_dim, outputs))

    def forward(self, inputs: FusionInputs) -> FusionOutput:
        """Fuse N clips; with every view absent the answer is the head's to zeros."""
        tokens, mask = self.with_differences(inputs)
        if self.config.form == "tokens":
            # Finite, not -inf: a clip without any view must not turn into NaN (softmax of nothing but -inf).
            bias = torch.where(mask, 0.0, torch.finfo(tokens.dtype).min)[:, None, None, :]
            for block in self.layers:
                tokens = block(tokens, bias)
            fused = torch.where(mask.unsqueeze(-1), tokens, 0.0).flatten(1)
        elif self.config.form == "concat":
            one = tokens.flatten(1).unsqueeze(1)
            for block in self.layers:
                one = block(one, one.new_zeros(1, 1, 1, 1))
            fused = one.squeeze(1)
        else:
            fused = self.feed_forward(tokens.flatten(1))
        logits = self.head(fused)
        return FusionOutput(logits=F.pad(logits, (1, 0)) if self.config.one_logit else logits, fused=fused)

    def with_differences(self, inputs: FusionInputs) -> tuple[Tensor, Tensor]:
        """Tokens of views and pairs [N, M + P, d], zeros where one is absent, and bool [N, M + P]: which are there."""
        given = self.present_tokens(inputs)
        if self.config.project:
            given = [project(token) for project, token in zip(self.projections.values(), given, strict=True)]
        tokens, there = torch.stack(given, dim=1), inputs.mask
        if self.pairs:
            left, right = (list(side) for side in zip(*self.pairs, strict=True))
            tokens = torch.cat([tokens, (tokens[:, left] - tokens[:, right]).abs()], dim=1)
            there = torch.cat([there, there[:, left] & there[:, right]], dim=1)
        return torch.where(there.unsqueeze(-1), tokens, 0.0), there


def _layer(width: int, config: ConflictFusionConfig) -> tuple[nn.Module, ...]:
    return nn.LayerNorm(width), nn.Linear(width, config.head_dim), nn.GELU(), nn.Dropout(config.dropout)

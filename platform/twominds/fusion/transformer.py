"""LEYA's fusion model (section 3.5): a Transformer encoder over one token per view."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twominds.fusion.batch import FusionInputs
from twominds.fusion.model import Fusion, FusionOutput, FusionSettings, Projectors, check, masked_mean
from twominds.fusion.prototypes import PrototypeHead, diversity_penalty
from twominds.records import View


@dataclass(frozen=True, kw_only=True)
class TransformerFusionConfig(FusionSettings):
    """The defaults are the paper's selected configuration (section 4.2)."""

    kind: Literal["transformer"] = "transformer"
    """Tells the fusion models apart in a saved config."""
    num_layers: int = 6
    """Transformer encoder blocks L."""
    num_heads: int = 4
    """Attention heads; divides hidden_dim."""
    feedforward_factor: int = 6
    """Width of the feed-forward layers in units of hidden_dim."""
    use_cls: bool = False
    """Read a learnable [CLS] token that is always present, instead of the mean over the present modalities."""
    prototypes_per_class: int = 16
    """K of eq. 9; 0 leaves the prototype head out."""
    prototype_temperature: float = 0.3
    """tau of eq. 9."""
    diversity_margin: float = 0.2
    """Cosine similarity of two prototypes from which the diversity penalty counts (not given in the paper)."""
    modality_dropout: float = 0.0
    """Probability of hiding each present modality of a clip in training, never all of them (0: the paper)."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        super().__post_init__()
        check_blocks(self.hidden_dim, self.num_layers, self.num_heads, self.feedforward_factor)
        check(self.prototypes_per_class >= 0, "prototypes_per_class", "0 or more", self.prototypes_per_class)
        check(self.prototype_temperature > 0, "prototype_temperature", "above 0", self.prototype_temperature)
        check(-1 <= self.diversity_margin < 1, "diversity_margin", "in [-1, 1)", self.diversity_margin)
        check(0 <= self.modality_dropout < 1, "modality_dropout", "in [0, 1)", self.modality_dropout)


def check_blocks(hidden_dim: int, num_layers: int, num_heads: int, feedforward_factor: int) -> None:
    """Raise ConfigError where there can be no such Transformer blocks."""
    check(num_layers >= 1, "num_layers", "at least 1", num_layers)
    divides = num_heads >= 1 and hidden_dim % num_heads == 0
    check(divides, "num_heads", f"a divisor of hidden_dim={hidden_dim}", num_heads)
    check(feedforward_factor >= 1, "feedforward_factor", "at least 1", feedforward_factor)


class SelfAttention(nn.Module):
    """Multi-head self-attention with the parameters (and names) of `nn.MultiheadAttention`.

    Written out because that module's paths for masks and nested tensors cost more than the arithmetic of a handful of
    tokens, and do not batch under `torch.func.vmap`.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """[N, T, d] -> [N, T, d]; `bias` [N, 1, 1, T] is added to the scores, very negative for absent keys."""
        clips, length, dim = tokens.shape
        projected = F.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        heads = projected.view(clips, length, 3, self.num_heads, dim // self.num_heads).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        scores = (query * (dim // self.num_heads) ** -0.5) @ key.transpose(-2, -1) + bias
        attended = self.dropout(scores.softmax(dim=-1)) @ value
        return self.out_proj(attended.transpose(1, 2).reshape(clips, length, dim))


class Block(nn.Module):
    """Pre-norm Transformer encoder block (eq. 7), with the parameters of `nn.TransformerEncoderLayer`."""

    def __init__(self, dim: int, num_heads: int, width: int, dropout: float, activation: nn.Module) -> None:
        super().__init__()
        self.self_attn = SelfAttention(dim, num_heads, dropout)
        self.linear1 = nn.Linear(dim, width)
        self.linear2 = nn.Linear(width, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.activation = activation

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """[N, T, d] -> [N, T, d]."""
        tokens = tokens + self.dropout(self.self_attn(self.norm1(tokens), bias))
        hidden = self.dropout(self.activation(self.linear1(self.norm2(tokens))))
        return tokens + self.dropout(self.linear2(hidden))


class TransformerFusion(Fusion):
    """Projectors, an embedding per view, Transformer encoder, masked mean, linear classifier (eq. 4-8).

    An absent modality is masked in attention and left out of the mean, so that it can't reach the answer.
    """

    def __init__(self, config: TransformerFusionConfig, dims: Mapping[View, int], num_outputs: int) -> None:
        super().__init__(config, dims, num_outputs)
        self.config = config
        dim = config.hidden_dim
        self.projectors = Projectors(self.input_dims, dim, config.dropout)
        self.modality_embedding = nn.Parameter(0.02 * torch.randn(len(dims), dim))
        self.cls = nn.Parameter(0.02 * torch.randn(dim)) if config.use_cls else None
        width = config.feedforward_factor * dim
        self.layers = nn.ModuleList(
            Block(dim, config.num_heads, width, config.dropout, nn.GELU()) for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, num_outputs)
        self.prototype_head = (
            PrototypeHead(dim, num_outputs, config.prototypes_per_class, config.prototype_temperature)
            if config.prototypes_per_class
            else None
        )

    def forward(self, inputs: FusionInputs) -> FusionOutput:
        """Fuse N clips; with every modality absent the answer is the classifier's bias (with use_cls: [CLS] alone)."""
        mask = self._hide(inputs.mask) if self.training and self.config.modality_dropout else inputs.mask
        tokens = self.projectors(self.present_tokens(inputs)) + self.modality_embedding
        if self.cls is not None:
            tokens = torch.cat([self.cls.expand(len(mask), 1, -1), tokens], dim=1)
            mask = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
        # Finite, not -inf: a clip without any modality must not turn into NaN (softmax of nothing but -inf).
        bias = torch.where(mask, 0.0, torch.finfo(tokens.dtype).min)[:, None, None, :]
        for block in self.layers:
            tokens = block(tokens, bias)
        tokens = self.norm(tokens)
        fused = tokens[:, 0] if self.cls is not None else masked_mean(tokens, mask)
        logits = self.classifier(fused)
        if self.prototype_head is None:
            return FusionOutput(logits=logits, fused=fused)
        return FusionOutput(
            logits=logits,
            fused=fused,
            prototype_logits=self.prototype_head(fused),
            diversity=diversity_penalty(self.prototype_head.prototypes, self.config.diversity_margin),
        )

    def _hide(self, mask: Tensor) -> Tensor:
        """Hide present modalities at random; a clip that would lose all keeps all."""
        kept = mask & (torch.rand(mask.shape, device=mask.device) >= self.config.modality_dropout)
        return torch.where(kept.any(dim=1, keepdim=True), kept, mask)

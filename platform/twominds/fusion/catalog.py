"""The fusion models by their configs."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from twominds.fusion.batch import FusionInputs
from twominds.fusion.conflict import ConflictFusion, ConflictFusionConfig
from twominds.fusion.model import Fusion, FusionOutput
from twominds.fusion.simple import (
    AttentionSum,
    AttentionSumConfig,
    ClassWeighted,
    ClassWeightedConfig,
    ConcatMLP,
    ConcatMLPConfig,
    EarlyFusion,
    EarlyFusionConfig,
)
from twominds.fusion.transformer import TransformerFusion, TransformerFusionConfig
from twominds.records import View

__all__ = ["FUSIONS", "Fusion", "FusionConfig", "FusionOutput", "build_fusion"]

FusionConfig = (
    TransformerFusionConfig
    | ConflictFusionConfig
    | AttentionSumConfig
    | ConcatMLPConfig
    | EarlyFusionConfig
    | ClassWeightedConfig
)

FUSIONS: dict[str, Any] = {
    "transformer": TransformerFusion,
    "conflict": ConflictFusion,
    "attention_sum": AttentionSum,
    "concat_mlp": ConcatMLP,
    "early": EarlyFusion,
    "class_weighted": ClassWeighted,
}
"""Model class by the `kind` of its config."""


def build_fusion(
    config: FusionConfig,
    *,
    dims: Mapping[View, int],
    num_outputs: int,
    seed: int = 0,
    train: tuple[FusionInputs, Tensor] | None = None,
) -> Fusion:
    """A new fusion model, initialised from `seed` without touching the global random state.

    Args:
        config: which model, and its settings.
        dims: D_m per view, in the order of the tokens.
        num_outputs: number of classes or intensities.
        seed: of the initial weights.
        train: inputs and labels of the training split, for `standardize`; None: the state will be loaded.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Fusion = FUSIONS[config.kind](config, dims, num_outputs)
    if train is not None:
        model.fit_standardization(*train)
    return model

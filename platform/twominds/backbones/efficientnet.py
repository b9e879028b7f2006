"""EfficientNet (Tan and Le 2019) of any width and depth, without a classifier, under timm's names."""

from functools import partial
from typing import Any, cast

from torch import nn

_STAGES = (
    ["ds_r1_k3_s1_e1_c16_se0.25"],
    ["ir_r2_k3_s2_e6_c24_se0.25"],
    ["ir_r2_k5_s2_e6_c40_se0.25"],
    ["ir_r3_k3_s2_e6_c80_se0.25"],
    ["ir_r3_k5_s1_e6_c112_se0.25"],
    ["ir_r4_k5_s2_e6_c192_se0.25"],
    ["ir_r1_k3_s1_e6_c320_se0.25"],
)
"""B0 (table 1 of the paper) in timm's notation."""


def build_efficientnet(*, width: float = 1.0, depth: float = 1.0, tensorflow: bool = False) -> nn.Module:
    """Images [B, 3, H, W] -> features [B, 1280 * width, rounded to eights].

    Args:
        width: Factor on every layer's channels: 1 in B0, 1.1 in B2.
        depth: Factor on every stage's number of blocks: 1 in B0, 1.2 in B2.
        tensorflow: As in weights that came from TensorFlow (timm's `tf_efficientnet_*`): images are padded as unevenly
            as there, and batch norm's epsilon is 0.001. The names of the tensors do not tell.
    """
    from timm.models import EfficientNet, _efficientnet_builder

    builder = cast(Any, _efficientnet_builder)
    channels = partial(builder.round_channels, multiplier=width)
    settings: dict[str, Any] = {"norm_layer": partial(nn.BatchNorm2d, eps=1e-3), "pad_type": "same"}
    return EfficientNet(
        block_args=builder.decode_arch_def([list(stage) for stage in _STAGES], depth),
        num_features=channels(1280),
        stem_size=32,
        round_chs_fn=channels,
        act_layer=nn.SiLU,
        num_classes=0,
        **(settings if tensorflow else {}),
    )

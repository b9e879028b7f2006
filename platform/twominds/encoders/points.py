"""An encoder that answers at each point: the rows of a view around it, side by side, through a small network.

The frame-level heads of HSEmotion (one row, one hidden layer) and the windows of Semantic Matters are of this shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from twominds.backbones import BackboneStore
from twominds.encoders.encoder import Architecture
from twominds.encoders.rows import RowsEncoder, RowsEncoderConfig
from twominds.errors import ConfigError
from twominds.features.align import By, How, align
from twominds.records import Features, FloatArray, Modality


@dataclass(frozen=True, kw_only=True)
class PointEncoderConfig(RowsEncoderConfig):
    """What of a view is seen at a point, and the network that sees it."""

    kind: Literal["points"] = "points"
    """Tells it from the encoders of whole clips in JSON."""
    alignment: How = "nearest"
    """Which rows stand for a time: the `nearest`, a `linear` mixture of its two neighbours, or the `mean` around it."""
    by: By = "time"
    """Whether rows and points meet by time stamps, or by their `position` in the clip; see `features.align`."""
    between: Literal["rows", "answers"] = "rows"
    """What stands at a point between two rows, such as a frame without a face: an answer to what the alignment makes of
    the `rows`; or, of the `answers` to the rows themselves, what lies between the two around it (linear in time)."""
    steps: int = 1
    """Rows that are seen of a point: it and as many before as after it (odd)."""
    step_s: float = 0.5
    """Seconds between them."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        super().__post_init__()
        if self.steps < 1 or self.steps % 2 == 0:
            raise ConfigError(f"steps must be odd and at least 1, got {self.steps}.")
        if self.step_s <= 0:
            raise ConfigError(f"step_s must be above 0, got {self.step_s}.")
        if self.by == "position" and (self.steps > 1 or self.alignment == "mean"):
            raise ConfigError("By position a point is one row, nearest or linear: steps must be 1.")
        if self.between == "answers" and self.by == "position":
            raise ConfigError("What lies between two answers is told by time, not by position.")


class PointEncoder(RowsEncoder):
    """Rows around a point [B, steps * D] through the network of `RowsEncoder`."""

    modality: ClassVar[Modality] = Modality.FACE
    """Until it is built for a view: it takes rows of any."""
    per_point: ClassVar[bool] = True

    def __init__(self, config: PointEncoderConfig, *, num_outputs: int, architecture: Architecture) -> None:
        super().__init__(config, num_outputs=num_outputs, architecture=architecture, per_column=config.steps)
        self.config = config

    @classmethod
    def pretrained(
        cls, config: PointEncoderConfig, *, num_outputs: int, store: BackboneStore, example: Features
    ) -> Self:
        """See `Encoder.pretrained`; there is no backbone to load.

        Raises:
            ConfigError: the features have no rows in time.
        """
        del store
        in_time = config.by == "position" or example.times_s is not None
        if example.values is None or example.values.ndim != 2 or not in_time:
            raise ConfigError(f"The encoder of {example.view} answers at points: it needs features with rows in time.")
        architecture = {"input_dim": example.values.shape[-1]}
        return cls(config, num_outputs=num_outputs, architecture=architecture)

    @classmethod
    def from_architecture(cls, config: PointEncoderConfig, *, num_outputs: int, architecture: Architecture) -> Self:
        """See `Encoder.from_architecture`."""
        return cls(config, num_outputs=num_outputs, architecture=architecture)

    def at_points(self, features: Features, points: npt.NDArray[np.int64]) -> FloatArray:
        """What is seen of a clip at some of its points: float32 [len(points), steps * D]."""
        values, times_s = cast("FloatArray", features.values)[:, self.columns], features.times_s
        if self.config.by == "position" and features.points_s is not None:
            return align(values, None, features.points_s, self.config.alignment, by="position", at=points)
        if times_s is None:
            raise ValueError(f"{features.view} features of {features.clip_id} have no times")
        # A clip that nobody asks about in time has one point: its middle.
        points_s = features.points_s if features.points_s is not None else times_s[[len(times_s) // 2]]
        around = (np.arange(self.config.steps) - self.config.steps // 2) * self.config.step_s
        grid = points_s[points][:, None] + around
        window_s = self.config.step_s if self.config.alignment == "mean" else None
        return align(values, times_s, grid, self.config.alignment, window_s=window_s).reshape(len(points), -1)

    def collate_points(
        self, features: Sequence[Features], points: Sequence[npt.NDArray[np.int64]], device: torch.device | str
    ) -> dict[str, Tensor]:
        """Some points of some clips, one clip after another, as the input of `forward`.

        Raises:
            ValueError: a clip's features are absent, empty, or another modality's.
        """
        for item in features:
            self.check(item)
        rows = [self.at_points(item, of_clip) for item, of_clip in zip(features, points, strict=True)]
        return {"rows": torch.from_numpy(np.concatenate(rows)).to(device, non_blocking=True)}

    def stack(self, values: Sequence[npt.NDArray[Any]]) -> dict[str, Tensor]:
        """Not for this encoder: rows without their times have no points."""
        raise NotImplementedError("points are collated by `collate_points`")

"""An encoder that answers at each point: the rows of a view around it, side by side, through a small network.

The frame-level heads of HSEmotion (one row, one hidden layer) and the windows of Semantic Matters are of this shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twominds.backbones import BackboneStore
from twominds.encoders.encoder import Architecture, Encoder, EncoderOutput
from twominds.errors import ConfigError
from twominds.features.align import By, How, align
from twominds.records import Features, FloatArray, Modality


@dataclass(frozen=True, kw_only=True)
class PointEncoderConfig:
    """What of a view is seen at a point, and the network that sees it."""

    kind: Literal["points"] = "points"
    """Tells it from the encoders of whole clips in JSON."""
    columns: tuple[int | None, int | None] = (None, None)
    """From which column to before which each row is seen, as in a slice: of a face descriptor with ten scores the
    embedding is (null, -10), and the scores are (-10, null)."""
    alignment: How = "nearest"
    """Which rows stand for a time: the `nearest`, a `linear` mixture of its two neighbours, or the `mean` around it."""
    by: By = "time"
    """Whether rows and points meet by time stamps, or by their `position` in the clip; see `features.align`."""
    steps: int = 1
    """Rows that are seen of a point: it and as many before as after it (odd)."""
    step_s: float = 0.5
    """Seconds between them."""
    standardize: bool = True
    """Standardise what is seen: frozen features are on no common scale."""
    hidden_dim: int = 64
    """Width of the hidden layer, and of the embedding; 0: no such layer, and what is seen is the embedding."""
    dropout: float = 0.0
    """Before the last layer."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        if self.steps < 1 or self.steps % 2 == 0:
            raise ConfigError(f"steps must be odd and at least 1, got {self.steps}.")
        if self.step_s <= 0:
            raise ConfigError(f"step_s must be above 0, got {self.step_s}.")
        if self.hidden_dim < 0:
            raise ConfigError(f"hidden_dim must be at least 0, got {self.hidden_dim}.")
        if self.by == "position" and (self.steps > 1 or self.alignment == "mean"):
            raise ConfigError("By position a point is one row, nearest or linear: steps must be 1.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}.")


class PointEncoder(Encoder):
    """Rows around a point [B, steps * D] -> standardised -> Linear, ReLU, Dropout -> Linear -> outputs.

    The embedding is the hidden layer after its ReLU. Rows are standardised by batch statistics in training and by their
    running means afterwards (`BatchNorm1d`). Without standardisation it is HSEmotion's head of an MLP, and without the
    hidden layer its linear one.
    """

    modality: ClassVar[Modality] = Modality.FACE
    """Until it is built for a view: it takes rows of any."""
    per_point: ClassVar[bool] = True

    def __init__(self, config: PointEncoderConfig, *, num_outputs: int, architecture: Architecture) -> None:
        super().__init__()
        self.config = config
        self.architecture = dict(architecture)
        width = len(range(int(self.architecture["input_dim"]))[slice(*config.columns)]) * config.steps
        if not width:
            raise ConfigError(f"columns {config.columns} leave nothing of rows of {self.architecture['input_dim']}.")
        self.embedding_dim = config.hidden_dim or width
        self.norm = nn.BatchNorm1d(width) if config.standardize else None
        hidden = (nn.Linear(width, config.hidden_dim), nn.ReLU()) if config.hidden_dim else ()
        self.hidden = nn.Sequential(*hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(self.embedding_dim, num_outputs)

    @classmethod
    def pretrained(
        cls, config: PointEncoderConfig, *, num_outputs: int, store: BackboneStore, example: Features
    ) -> Self:
        """See `Encoder.pretrained`; there is no backbone to load.

        Raises:
            ConfigError: the features have no rows in time.
        """
        del store
        if example.values is None or example.values.ndim != 2 or example.times_s is None:
            raise ConfigError(f"The encoder of {example.view} answers at points: it needs features with rows in time.")
        architecture = {"input_dim": example.values.shape[-1]}
        return cls(config, num_outputs=num_outputs, architecture=architecture)

    @classmethod
    def from_architecture(cls, config: PointEncoderConfig, *, num_outputs: int, architecture: Architecture) -> Self:
        """See `Encoder.from_architecture`."""
        return cls(config, num_outputs=num_outputs, architecture=architecture)

    def at_points(self, features: Features, points: npt.NDArray[np.int64]) -> FloatArray:
        """What is seen of a clip at some of its points: float32 [len(points), steps * D]."""
        values, times_s = cast("FloatArray", features.values)[:, slice(*self.config.columns)], features.times_s
        if times_s is None:
            raise ValueError(f"{features.view} features of {features.clip_id} have no times")
        # A clip that nobody asks about in time has one point: its middle.
        points_s = features.points_s if features.points_s is not None else times_s[[len(times_s) // 2]]
        if self.config.by == "position":
            return align(values, None, points_s, self.config.alignment, by="position")[points]
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

    def forward(self, inputs: dict[str, Tensor]) -> EncoderOutput:
        """See the class."""
        rows, norm = inputs["rows"], self.norm
        if norm is not None and self.training and len(rows) == 1:
            # One row has no deviation: it is standardised as it will be afterwards.
            rows = F.batch_norm(rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        elif norm is not None:
            rows = norm(rows)
        hidden = self.hidden(rows)
        return EncoderOutput(logits=self.classifier(self.dropout(hidden)), embedding=hidden)

"""An encoder of a clip's statistics: mean, deviation, least and most of every column, through a small network.

The clip-level heads of HSEmotion (section 3 and 4 of its fact sheet: STAT) are of this shape.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from twominds.backbones import BackboneStore
from twominds.encoders.encoder import Architecture
from twominds.encoders.rows import RowsEncoder, RowsEncoderConfig
from twominds.errors import ConfigError
from twominds.records import Features, FloatArray, Modality

Pooling = Literal["mean", "mean_std", "stat"]
"""`mean`: D numbers; `mean_std`: these and population standard deviations, 2 D; `stat`: these, least and most, 4 D."""
PER_COLUMN: Mapping[Pooling, int] = {"mean": 1, "mean_std": 2, "stat": 4}
"""How many numbers are kept of each column."""


@dataclass(frozen=True, kw_only=True)
class StatisticsEncoderConfig(RowsEncoderConfig):
    """What is taken of a clip's rows, and the network that sees it."""

    kind: Literal["stat"] = "stat"
    """Tells it from the other encoders in JSON."""
    pooling: Pooling = "stat"
    """What of the rows is kept."""


class StatisticsEncoder(RowsEncoder):
    """Statistics of a clip's rows [B, D, 2 D or 4 D] through the network of `RowsEncoder`."""

    modality: ClassVar[Modality] = Modality.FACE
    """Until it is built for a view: it takes rows of any."""

    def __init__(self, config: StatisticsEncoderConfig, *, num_outputs: int, architecture: Architecture) -> None:
        per_column = PER_COLUMN[config.pooling]
        super().__init__(config, num_outputs=num_outputs, architecture=architecture, per_column=per_column)
        self.config = config

    @classmethod
    def pretrained(
        cls, config: StatisticsEncoderConfig, *, num_outputs: int, store: BackboneStore, example: Features
    ) -> Self:
        """See `Encoder.pretrained`; there is no backbone to load.

        Raises:
            ConfigError: the features are no rows.
        """
        del store
        return cls(config, num_outputs=num_outputs, architecture={"input_dim": row_length(example)})

    @classmethod
    def from_architecture(
        cls, config: StatisticsEncoderConfig, *, num_outputs: int, architecture: Architecture
    ) -> Self:
        """See `Encoder.from_architecture`."""
        return cls(config, num_outputs=num_outputs, architecture=architecture)

    def stack(self, values: Sequence[npt.NDArray[Any]]) -> dict[str, Tensor]:
        """`rows`: float32 [B, D, 2 D or 4 D]."""
        rows = [statistics(item[:, self.columns], self.config.pooling) for item in values]
        return {"rows": torch.from_numpy(np.stack(rows))}


def row_length(example: Features) -> int:
    """D of a clip's rows, for an encoder of their statistics.

    Raises:
        ConfigError: the features are no rows.
    """
    if example.values is None or example.values.ndim != 2:
        raise ConfigError(f"The encoder of {example.view} takes statistics of rows: its features have none.")
    return example.values.shape[-1]


def statistics(rows: npt.NDArray[Any], pooling: Pooling) -> FloatArray:
    """What is kept of rows [T, D], T at least 1: float32 [D], [2 D] or [4 D]."""
    exact = rows.astype(np.float64)
    parts = [exact.mean(axis=0)]
    if pooling != "mean":
        parts.append(exact.std(axis=0))
    if pooling == "stat":
        parts += [exact.min(axis=0), exact.max(axis=0)]
    return np.concatenate(parts).astype(np.float32)

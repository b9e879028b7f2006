"""Face: statistics of per-frame emotion features through an MLP (LEYA, section 3.2; Table 1 row 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, cast

import numpy.typing as npt
from torch import Tensor, nn

from twominds.backbones import BackboneStore
from twominds.encoders.encoder import Architecture, Encoder, EncoderOutput
from twominds.encoders.padding import pad_sequences
from twominds.encoders.pooling import masked_mean_std
from twominds.errors import ConfigError
from twominds.records import Features, Modality


@dataclass(frozen=True, kw_only=True)
class FaceEncoderConfig:
    """The MLP of LEYA, figure 2."""

    kind: Literal["statistics"] = "statistics"
    """Tells it from the other face encoder in JSON."""
    hidden_dim: int = 16
    """First layer."""
    embedding_dim: int = 256
    """Second layer, whose output is the embedding."""
    dropout: float = 0.3
    """After each of the two."""

    def __post_init__(self) -> None:
        if min(self.hidden_dim, self.embedding_dim) < 1:
            raise ConfigError("face.hidden_dim and face.embedding_dim must be at least 1.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"face.dropout must be in [0, 1), it is {self.dropout}.")


class FaceEncoder(Encoder):
    """Per-frame features [B, F, D] -> [mean; population std] (eq. 2) -> MLP 2D -> 16 -> 256 -> logits.

    Each of the two hidden layers is Linear, LayerNorm, ReLU, Dropout; weights start Xavier-uniform, biases at 0. With
    the published D = 1280 it has 46,386 parameters. The statistics are taken over real frames alone.
    """

    modality = Modality.FACE

    def __init__(self, config: FaceEncoderConfig, *, num_outputs: int, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = dict(architecture)
        self.embedding_dim = config.embedding_dim
        self.mlp = nn.Sequential(
            *_layer(2 * int(self.architecture["input_dim"]), config.hidden_dim, config.dropout),
            *_layer(config.hidden_dim, config.embedding_dim, config.dropout),
        )
        self.classifier = nn.Linear(config.embedding_dim, num_outputs)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    @classmethod
    def pretrained(
        cls, config: FaceEncoderConfig, *, num_outputs: int, store: BackboneStore, example: Features
    ) -> Self:
        """See `Encoder.pretrained`; there is no backbone to load."""
        del store
        input_dim = cast(npt.NDArray[Any], example.values).shape[-1]
        return cls(config, num_outputs=num_outputs, architecture={"input_dim": input_dim})

    @classmethod
    def from_architecture(cls, config: FaceEncoderConfig, *, num_outputs: int, architecture: Architecture) -> Self:
        """See `Encoder.from_architecture`."""
        return cls(config, num_outputs=num_outputs, architecture=architecture)

    def stack(self, values: Sequence[npt.NDArray[Any]]) -> dict[str, Tensor]:
        """`values`: float32 [B, F, D]; `mask`: [B, F]."""
        padded, mask = pad_sequences(values)
        return {"values": padded, "mask": mask}

    def forward(self, inputs: dict[str, Tensor]) -> EncoderOutput:
        """See the class."""
        embedding = self.mlp(masked_mean_std(inputs["values"], inputs["mask"]))
        return EncoderOutput(logits=self.classifier(embedding), embedding=embedding)


def _layer(input_dim: int, output_dim: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(input_dim, output_dim), nn.LayerNorm(output_dim), nn.ReLU(), nn.Dropout(dropout)]

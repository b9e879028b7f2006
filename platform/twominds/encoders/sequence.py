"""Sequence encoders over frozen features: projection, Mamba or another over time, masked mean, head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

import numpy.typing as npt
from torch import Tensor, nn

from twominds.backbones import BackboneStore
from twominds.encoders.encoder import Architecture, Encoder, EncoderOutput
from twominds.encoders.padding import pad_sequences
from twominds.encoders.pooling import masked_mean
from twominds.encoders.temporal import LSTMEncoder, MambaEncoder, TemporalKind, TransformerEncoder
from twominds.errors import ConfigError
from twominds.records import Features, Modality


@dataclass(frozen=True, kw_only=True)
class SequenceEncoderConfig:
    """A sequence encoder over the frozen features, and its head (LEYA, section 4.2)."""

    modality: ClassVar[Modality]

    temporal: TemporalKind = "mamba"
    """The sequence encoder; the paper's best is Mamba, its alternative the Transformer."""
    hidden_dim: int = 256
    """Width of the sequence encoder."""
    num_layers: int = 2
    """Its layers. The paper does not give the number."""
    dropout: float = 0.1
    """In the sequence encoder and in the head."""
    state_dim: int = 8
    """Mamba: states per channel."""
    conv_kernel: int = 4
    """Mamba: width of the causal convolution."""
    expand: int = 2
    """Mamba: inner width as a multiple of `hidden_dim`."""
    num_heads: int = 4
    """Transformer: attention heads."""
    feed_forward_dim: int = 512
    """Transformer: width of the feed-forward layers."""
    head_hidden_dim: int = 128
    """Hidden layer of the head; the paper names a feed-forward size of 512."""
    embedding: Literal["hidden", "pooled"] = "hidden"
    """What the fusion gets: the head's hidden layer, or the mean over time before it."""

    def __post_init__(self) -> None:
        of = self.modality
        for name in ("hidden_dim", "num_layers", "state_dim", "conv_kernel", "expand", "feed_forward_dim"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{of}.{name} must be at least 1, it is {getattr(self, name)}.")
        if self.head_hidden_dim < 1:
            raise ConfigError(f"{of}.head_hidden_dim must be at least 1, it is {self.head_hidden_dim}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"{of}.dropout must be in [0, 1), it is {self.dropout}.")
        if self.temporal == "transformer" and (self.num_heads < 1 or self.hidden_dim % self.num_heads):
            raise ConfigError(
                f"{of}.num_heads must divide {of}.hidden_dim, they are {self.num_heads} and {self.hidden_dim}."
            )
        if self.hidden_dim % 2:
            raise ConfigError(f"{of}.hidden_dim must be even, it is {self.hidden_dim}.")


class SequenceEncoder(Encoder):
    """Steps [B, T, D] -> Linear to 256 -> Mamba -> masked mean over time (eq. 3) -> Linear, ReLU, Dropout, Linear.

    Right-padded and masked. The embedding is the head's hidden layer after its ReLU (128), or the mean (256).
    """

    no_decay = frozenset({"A_log", "D"})  # Mamba's own recommendation: decay would pull the dynamics, not the weights

    def __init__(self, config: SequenceEncoderConfig, *, num_outputs: int, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = dict(architecture)
        self.embedding_kind = config.embedding
        self.embedding_dim = config.head_hidden_dim if config.embedding == "hidden" else config.hidden_dim
        self.projection = nn.Linear(int(self.architecture["input_dim"]), config.hidden_dim)
        self.temporal = _temporal(config)
        self.hidden = nn.Sequential(nn.Linear(config.hidden_dim, config.head_hidden_dim), nn.ReLU())
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.head_hidden_dim, num_outputs)

    @classmethod
    def pretrained(
        cls, config: SequenceEncoderConfig, *, num_outputs: int, store: BackboneStore, example: Features
    ) -> Self:
        """See `Encoder.pretrained`; there is no backbone to load."""
        del store
        input_dim = cast(npt.NDArray[Any], example.values).shape[-1]
        return cls(config, num_outputs=num_outputs, architecture={"input_dim": input_dim})

    @classmethod
    def from_architecture(cls, config: SequenceEncoderConfig, *, num_outputs: int, architecture: Architecture) -> Self:
        """See `Encoder.from_architecture`."""
        return cls(config, num_outputs=num_outputs, architecture=architecture)

    def stack(self, values: Sequence[npt.NDArray[Any]]) -> dict[str, Tensor]:
        """`values`: float32 [B, T, D]; `mask`: [B, T]."""
        padded, mask = pad_sequences(values)
        return {"values": padded, "mask": mask}

    def forward(self, inputs: dict[str, Tensor]) -> EncoderOutput:
        """See the class."""
        mean = masked_mean(self.temporal(self.projection(inputs["values"]), inputs["mask"]), inputs["mask"])
        hidden = self.hidden(mean)
        logits = self.classifier(self.dropout(hidden))
        return EncoderOutput(logits=logits, embedding=hidden if self.embedding_kind == "hidden" else mean)


def _temporal(config: SequenceEncoderConfig) -> nn.Module:
    match config.temporal:
        case "mamba":
            return MambaEncoder(
                config.hidden_dim,
                num_layers=config.num_layers,
                state_dim=config.state_dim,
                conv_kernel=config.conv_kernel,
                expand=config.expand,
                dropout=config.dropout,
            )
        case "transformer":
            return TransformerEncoder(
                config.hidden_dim,
                num_layers=config.num_layers,
                num_heads=config.num_heads,
                feed_forward_dim=config.feed_forward_dim,
                dropout=config.dropout,
            )
        case "lstm":
            return LSTMEncoder(config.hidden_dim, num_layers=config.num_layers, dropout=config.dropout)

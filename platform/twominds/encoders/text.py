"""Text: a language model fine-tuned in its top layers, with an MLP head (LEYA, section 3.4; Table 1 row 7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy.typing as npt
from torch import Tensor, nn

from twominds.encoders.encoder import EncoderOutput
from twominds.encoders.huggingface import FineTunedEncoder, last_hidden_state
from twominds.encoders.padding import pad_sequences
from twominds.encoders.pooling import masked_mean
from twominds.errors import ConfigError
from twominds.records import Modality


@dataclass(frozen=True, kw_only=True)
class TextEncoderConfig:
    """A partly frozen language model and an MLP."""

    kind: Literal["fine_tuned"] = "fine_tuned"
    """Tells it from the other text encoders in JSON."""
    backbone: str = "text.emotion_distilroberta"
    """Role of a text encoder in the bundle; must be the one whose tokenizer made the features."""
    trainable_layers: int = 2
    """The last Transformer layers that are fine-tuned; embeddings and the rest stay frozen. The paper says only
    'partially frozen'."""
    backbone_lr_scale: float = 1.0
    """Factor on the backbone's learning rate."""
    pooling: Literal["cls", "mean"] = "cls"
    """The first token's output, or the mean over tokens."""
    hidden_dims: tuple[int, ...] = (128,)
    """Widths of the MLP's hidden layers; the last one is the embedding. The paper searched 1-3 layers of 64-128."""
    activation: Literal["relu", "none"] = "relu"
    """After each hidden layer; the authors' published weights have none."""
    dropout: float = 0.1
    """After each hidden layer; the paper searched 0-0.3."""

    def __post_init__(self) -> None:
        if self.trainable_layers < 0:
            raise ConfigError(f"text.trainable_layers must not be negative, it is {self.trainable_layers}.")
        if self.backbone_lr_scale <= 0:
            raise ConfigError(f"text.backbone_lr_scale must be positive, it is {self.backbone_lr_scale}.")
        if not self.hidden_dims or min(self.hidden_dims) < 1:
            raise ConfigError(f"text.hidden_dims must be one or more widths of at least 1, it is {self.hidden_dims}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"text.dropout must be in [0, 1), it is {self.dropout}.")


class TextEncoder(FineTunedEncoder[TextEncoderConfig]):
    """Token ids int64 [B, L] -> language model -> [CLS] -> MLP -> logits; the embedding is the last hidden layer.

    Each hidden layer is Linear, ReLU (or `activation`), Dropout. DistilRoBERTa without its pooler has 81.5 million
    parameters, 14.2 million of them in the two top layers.
    """

    modality = Modality.TEXT

    def add_head(self, config: TextEncoderConfig, width: int, num_outputs: int) -> None:
        """See `FineTunedEncoder.add_head`."""
        self.pooling = config.pooling
        self.pad_token_id = int(self.architecture["backbone"].get("pad_token_id") or 0)
        self.embedding_dim = config.hidden_dims[-1]
        widths = [width, *config.hidden_dims]
        activation = nn.ReLU if config.activation == "relu" else nn.Identity
        self.mlp = nn.Sequential(
            *(
                module
                for before, after in pairwise(widths)
                for module in (nn.Linear(before, after), activation(), nn.Dropout(config.dropout))
            )
        )
        self.classifier = nn.Linear(self.embedding_dim, num_outputs)

    def stack(self, values: Sequence[npt.NDArray[Any]]) -> dict[str, Tensor]:
        """`input_ids`: int64 [B, L], padded with the backbone's own padding id; `mask`: [B, L]."""
        # RoBERTa numbers positions by which ids are padding, so it must be the right one.
        padded, mask = pad_sequences(values, self.pad_token_id)
        return {"input_ids": padded, "mask": mask}

    def forward(self, inputs: dict[str, Tensor]) -> EncoderOutput:
        """See the class."""
        mask = inputs["mask"]
        tokens = last_hidden_state(self.backbone, input_ids=inputs["input_ids"], attention_mask=mask.long())
        embedding = self.mlp(tokens[:, 0] if self.pooling == "cls" else masked_mean(tokens, mask))
        return EncoderOutput(logits=self.classifier(embedding), embedding=embedding)

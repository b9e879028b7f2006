"""What encoders of frozen rows share: which columns they see, and the small network that sees them."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from twominds.encoders.encoder import Architecture, Encoder, EncoderOutput
from twominds.errors import ConfigError

Columns = tuple[int | None, int | None]
"""From which column to before which rows are seen, as in a slice; None: from the first, or to the last."""


def count_columns(columns: Columns, input_dim: int) -> int:
    """How many columns are seen of rows of length `input_dim`.

    Raises:
        ConfigError: none.
    """
    count = len(range(input_dim)[slice(*columns)])
    if not count:
        raise ConfigError(f"columns {columns} leave nothing of rows of {input_dim}.")
    return count


@dataclass(frozen=True, kw_only=True)
class RowsEncoderConfig:
    """Settings of a small network over frozen features: what it sees of each row, and its size."""

    columns: Columns = (None, None)
    """From which column to before which each row is seen, as in a slice: of a face descriptor with ten scores the
    embedding is (null, -10), and the scores are (-10, null)."""
    logits_of: tuple[int, ...] = ()
    """Columns, of those that are seen, to be taken for the logits in the task's order: scores of a model that was
    trained for the task before. Nothing is learned then, and what follows has no effect. Empty: logits are learned."""
    standardize: bool = True
    """Standardise what is seen: frozen features are on no common scale."""
    hidden_dim: int = 64
    """Width of the hidden layer, and of the embedding; 0: no such layer, and what is seen is the embedding."""
    dropout: float = 0.0
    """Before the last layer."""
    one_logit: bool = False
    """Learn one number z rather than two, for two classes: the logits are 0 and z, so the last class's probability is
    the sigmoid of z."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        if self.hidden_dim < 0:
            raise ConfigError(f"hidden_dim must be at least 0, got {self.hidden_dim}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}.")


class RowsEncoder(Encoder):
    """What is seen [B, W] -> standardised -> Linear, ReLU, Dropout -> Linear -> outputs.

    The embedding is the hidden layer after its ReLU. What is seen is standardised by batch statistics in training and
    by their running means afterwards (`BatchNorm1d`). Without standardisation it is HSEmotion's head of an MLP, and
    without the hidden layer its linear one.
    """

    def __init__(
        self, config: RowsEncoderConfig, *, num_outputs: int, architecture: Architecture, per_column: int
    ) -> None:
        """Builds it with random weights.

        Args:
            config: The encoder's settings.
            num_outputs: Number of logits.
            architecture: With `input_dim`, the length D of a row.
            per_column: How many numbers are seen of each column: W of its columns.

        Raises:
            ConfigError: there are no such columns.
        """
        super().__init__()
        self.columns = slice(*config.columns)
        """The part of each row that the network sees."""
        self.architecture = dict(architecture)
        width = per_column * count_columns(config.columns, int(self.architecture["input_dim"]))
        if config.one_logit and num_outputs != 2:
            raise ConfigError(f"one_logit is for two classes, not for {num_outputs} outputs.")
        if config.logits_of and (len(config.logits_of) != num_outputs or max(config.logits_of) >= width):
            raise ConfigError(f"logits_of must name one of {width} columns for each of {num_outputs} outputs.")
        self.logits_of = list(config.logits_of)
        if self.logits_of:
            self.embedding_dim = width
            return
        self.embedding_dim = config.hidden_dim or width
        self.one_logit = config.one_logit
        self.norm = nn.BatchNorm1d(width) if config.standardize else None
        hidden = (nn.Linear(width, config.hidden_dim), nn.ReLU()) if config.hidden_dim else ()
        self.hidden = nn.Sequential(*hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(self.embedding_dim, 1 if config.one_logit else num_outputs)

    def forward(self, inputs: dict[str, Tensor]) -> EncoderOutput:
        """See the class."""
        rows = inputs["rows"]
        if self.logits_of:
            return EncoderOutput(logits=rows[:, self.logits_of], embedding=rows)
        norm = self.norm
        if norm is not None and self.training and len(rows) == 1:
            # One row has no deviation: it is standardised as it will be afterwards.
            rows = F.batch_norm(rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        elif norm is not None:
            rows = norm(rows)
        hidden = self.hidden(rows)
        logits = self.classifier(self.dropout(hidden))
        if self.one_logit:
            logits = F.pad(logits, (1, 0))
        return EncoderOutput(logits=logits, embedding=hidden)

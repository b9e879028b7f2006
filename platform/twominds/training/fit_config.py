"""The settings of the training loop."""

from dataclasses import dataclass
from typing import Literal

from twominds.errors import ConfigError
from twominds.training.optim import OptimizerName, SchedulerName


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a model is trained. The defaults are those of LEYA's selected fusion model (section 4.2)."""

    epochs: int = 100
    """Epochs at most."""
    batch_size: int = 32
    """Clips per forward pass in training."""
    accumulate: int = 1
    """Forward passes per optimizer step; the step is that of one batch of batch_size * accumulate clips."""
    evaluation_batch_size: int | None = None
    """Clips per forward pass in validation; None: all at once where they are in memory, else batch_size."""
    optimizer: OptimizerName = "rmsprop"
    """What turns gradients into steps."""
    learning_rate: float = 9.44e-5
    """Base learning rate; a model's parameter groups may scale it."""
    weight_decay: float = 5.55e-4
    """Weight decay: decoupled in adamw, an L2 term in the gradient in adam (Keras's, epsilon 1e-7), rmsprop and sgd.
    There it is twice the factor of an L2 regularizer, whose gradient is 2 l w."""
    momentum: float = 0.9
    """Momentum of rmsprop and sgd."""
    scheduler: SchedulerName = "cosine"
    """Learning rate after each epoch: half a cosine over `epochs`, halved on a validation-loss plateau, or constant."""
    learning_rate_floor: float = 0.0
    """The schedule lowers no learning rate below this."""
    label_smoothing: float = 0.02
    """Label smoothing of the cross entropies."""
    class_weights: bool = True
    """Weigh classes inversely to their frequency in the training split."""
    grad_clip: float | None = 0.5
    """Largest gradient norm; None: no clipping."""
    patience: int = 10
    """Epochs without a better validation score after which training stops."""
    min_epochs: int = 0
    """Epochs that are trained before any can be the best and patience begins to count. Until it has learned something a
    model answers all clips nearly alike, and what that comes to in macro F1 is chance."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: forward passes under autocast; parameters stay fp32."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        whole = {"epochs": 1, "batch_size": 1, "accumulate": 1, "patience": 1, "min_epochs": 0}
        for name, least in whole.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        if self.evaluation_batch_size is not None and self.evaluation_batch_size < 1:
            raise ConfigError(f"evaluation_batch_size must be at least 1, got {self.evaluation_batch_size}.")
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate must be above 0, got {self.learning_rate}.")
        if not 0 <= self.learning_rate_floor <= self.learning_rate:
            raise ConfigError(
                f"learning_rate_floor must be between 0 and the learning rate, got {self.learning_rate_floor}."
            )
        if self.weight_decay < 0:
            raise ConfigError(f"weight_decay must be 0 or more, got {self.weight_decay}.")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"momentum must be in [0, 1), got {self.momentum}.")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}.")
        if self.grad_clip is not None and self.grad_clip <= 0:
            raise ConfigError(f"grad_clip must be above 0 (or none), got {self.grad_clip}.")

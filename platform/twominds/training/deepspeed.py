"""Training with DeepSpeed's ZeRO: optimizer state, gradients and weights are split over the workers' GPUs.

Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models". The steps are those of
`PlainSteps`, but a parameter that has no gradient is decayed, too.
"""

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from twominds.errors import ConfigError
from twominds.training.fit_config import FitConfig
from twominds.training.workers import Workers


@dataclass(frozen=True, kw_only=True)
class DeepSpeedConfig:
    """What of a model's training is split over the workers."""

    zero_stage: Literal[1, 2, 3] = 2
    """1: optimizer state; 2: gradients as well; 3: weights as well."""
    offload_optimizer: bool = False
    """Keep the optimizer's state, and take its steps, in the CPU's memory."""

    def __post_init__(self) -> None:
        """Raise ConfigError for a stage that ZeRO does not have."""
        if self.zero_stage not in (1, 2, 3):
            raise ConfigError(f"zero_stage must be 1, 2 or 3, got {self.zero_stage}.")

    def to_json(self, fit: FitConfig, workers: int) -> dict[str, Any]:
        """DeepSpeed's own configuration (deepspeed.ai/docs/config-json) for a training.

        Args:
            fit: The settings of the loop; its batch is that of all workers together.
            workers: Number of processes that share it.
        """
        zero: dict[str, Any] = {"stage": self.zero_stage}
        if self.offload_optimizer:
            zero["offload_optimizer"] = {"device": "cpu"}
        return {
            "train_micro_batch_size_per_gpu": -(-fit.batch_size // workers),
            "gradient_accumulation_steps": fit.accumulate,
            # The loop says when a step is due: an epoch's last window may be a short one.
            "managed_gradient_accumulation": False,
            "gradient_clipping": fit.grad_clip or 0.0,
            "zero_optimization": zero,
            # Weights stay fp32, as without DeepSpeed; its own "bf16" would round them.
            "torch_autocast": {"enabled": fit.precision == "bf16", "dtype": "bfloat16"},
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": 1_000_000_000,
        }


def load_deepspeed() -> Any:
    """The package, which is heavy and only in the extra `gpu`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import deepspeed  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError("zero_stage needs DeepSpeed, which is not installed: pip install twominds[gpu].") from error
    return cast("Any", deepspeed)


class DeepSpeedSteps:
    """Steps of a DeepSpeed engine; there must be a process group, be it of one."""

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, config: DeepSpeedConfig, fit: FitConfig, workers: Workers
    ) -> None:
        self._deepspeed, self._module, self._stage, self._workers = load_deepspeed(), model, config.zero_stage, workers
        engine, *_ = self._deepspeed.initialize(
            model=model, optimizer=optimizer, config=config.to_json(fit, workers.count), dist_init_required=False
        )
        self._engine = engine
        self.model = cast("nn.Module", engine)

    def backward(self, loss: Tensor) -> None:
        """See `Steps`."""
        # The engine takes the mean over workers where the parts of the loss are to be added up.
        self._engine.backward(loss * self._workers.count, scale_wrt_gas=False)

    def step(self) -> None:
        """See `Steps`."""
        self._engine.step()

    def weights(self) -> dict[str, Tensor]:
        """See `Steps`."""
        with (
            torch.no_grad(),
            self._deepspeed.zero.GatheredParameters(list(self._module.parameters()), enabled=self._stage == 3),
        ):
            return {name: tensor.detach().clone() for name, tensor in self._module.state_dict().items()}

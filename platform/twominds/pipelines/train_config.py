"""Everything that `jobs/train_encoders.py` takes."""

from dataclasses import dataclass, field
from typing import Literal

from twominds.errors import ConfigError
from twominds.records import View
from twominds.training.deepspeed import DeepSpeedConfig
from twominds.training.selection import SelectionProtocol
from twominds.workspace import Workspace

JOINTLY = "jointly"
"""What a joint model is called in lines, checkpoints and cards, where an encoder goes by its view."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train the unimodal encoders on the features of a corpus."""

    features: str = field(default_factory=lambda: Workspace.default().features)
    """Folder of `jobs/preprocess.py`."""
    output: str = field(default_factory=lambda: Workspace.default().encoders)
    """Folder for the encoders, one artifact per view; local or s3://."""
    ensemble: str = field(default_factory=lambda: Workspace.default().ensemble)
    """Folder for the ensemble, where the recipe trains encoders and fusion in one model; others leave it alone."""
    models: str = field(default_factory=lambda: Workspace.default().models)
    """The bundle of pre-trained weights."""
    recipe: str = ""
    """The system to train; by default the one that the features were made for."""
    views: tuple[View, ...] = ()
    """Which encoders; by default those of the recipe."""
    seed: int | None = None
    """Seed of a joint training, of its encoders and its fusion; by default the first of the recipe's."""
    keep_gib: float = 2.0
    """Memory for what the frozen layers of jointly trained encoders say of clips, from epoch to epoch; 0: none, and all
    is computed again, to the same numbers."""
    retrain: bool = False
    """Train again what is already there."""
    protocol: SelectionProtocol = "validation"
    """Which splits choose the epoch. `validation+test` is the paper's way: whatever is made so says it."""
    workers: int = 1
    """Processes that share each batch; their steps are those of one. Only what dropout drops differs."""
    use_gpu: bool = False
    """Train on GPUs, one per worker."""
    cpus: float = 0
    """CPUs of each worker; 0: its part of the largest node."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """What DeepSpeed splits over the workers: 1 the optimizer's state, 2 also gradients, 3 also weights; 0 nothing. For
    VideoMAE on small GPUs. Such a training starts anew where a worker dies."""
    offload_optimizer: bool = False
    """With DeepSpeed: keep the optimizer's state in the CPU's memory."""
    checkpoint_interval_s: float = 60.0
    """Least time between checkpoints, which are taken after an epoch: what a worker that dies can lose."""
    max_failures: int = 2
    """How often a worker that dies is started again from its last checkpoint."""
    address: str | None = None
    """A running Ray cluster; by default the one that the job was submitted to, else one started here."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        if self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}.")
        if self.offload_optimizer and not self.zero_stage:
            raise ConfigError("offload_optimizer needs a zero_stage of 1, 2 or 3.")
        self.deepspeed()

    def deepspeed(self) -> DeepSpeedConfig | None:
        """How DeepSpeed is to split the training, if it is."""
        stage = self.zero_stage
        return DeepSpeedConfig(zero_stage=stage, offload_optimizer=self.offload_optimizer) if stage else None

"""The settings of every search, and of the stability search: everything that `jobs/tune_fusion.py` takes."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from twominds.errors import ConfigError
from twominds.fusion.batch import InputKind
from twominds.scoring.fit_decision import DecisionFit
from twominds.search.winner import Winner
from twominds.training.selection import SelectionProtocol
from twominds.training.stopping import StoppingConfig
from twominds.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """How candidates are drawn and run, in every search."""

    space: tuple[str, ...] = ()
    """Settings that are searched elsewhere than the recipe says: `num_layers=1,2` (these values), `batch_size=16` (only
    this), `learning_rate=1e-4..1e-3` (a range; logarithmic where the recipe's is, or as `log:1e-4..1e-3`)."""
    random_starts: int = 20
    """Candidates that are drawn at random before TPE begins."""
    sampler_seed: int = 0
    """Seed of the sampler."""
    concurrency: int = 0
    """Candidates at a time; 0: as many as the cluster has room for."""
    cpus_per_trial: float = 1.0
    """CPUs of each candidate, and its threads. Small models are fastest with one."""
    gpus_per_trial: float = 0.0
    """GPU share of each candidate."""
    hours: float = 0.0
    """What this start may take; what is unfinished then is gone on with by the next. 0: as long as it takes."""
    max_failures: int = 2
    """How often a candidate whose process dies is started again."""
    mlflow: str = ""
    """Tracking URI of an MLflow server or database (`sqlite:///mlflow.db`) that is told of every candidate; needs the
    package mlflow."""
    address: str | None = None
    """A running Ray cluster; by default the one that the job was submitted to, else one started here."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a setting is out of range."""
        least = {"random_starts": 0, "concurrency": 0, "gpus_per_trial": 0, "hours": 0, "max_failures": 0}
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise ConfigError(f"{name} must be {lowest} or more, got {getattr(self, name)}.")
        if self.cpus_per_trial <= 0:
            raise ConfigError(f"cpus_per_trial must be above 0, got {self.cpus_per_trial}.")

    @property
    def device(self) -> str:
        """Where a trial trains."""
        return "cuda" if self.gpus_per_trial else "cpu"


@dataclass(frozen=True, kw_only=True)
class SearchConfig(TuningConfig):
    """Search the fusion whose five seeds are best on validation, and save them as the ensemble."""

    embeddings: str = field(default_factory=lambda: Workspace.default().embeddings)
    """Folder of `jobs/embed.py`."""
    encoders: str = field(default_factory=lambda: Workspace.default().encoders)
    """Folder of `jobs/train_encoders.py`; they travel in the ensemble."""
    output: Annotated[str, tyro.conf.arg(aliases=["--storage"])] = field(
        default_factory=lambda: Workspace.default().search
    )
    """Folder for the state of the search, its trials and its report; local or s3://."""
    ensemble: str = field(default_factory=lambda: Workspace.default().ensemble)
    """Folder for the winner: what `serve run` serves."""
    recipe: str = ""
    """The system, which brings the space; by default the one that the embeddings were made for."""
    trials: int = 0
    """Candidates, the recipe's own first; 0: as many as the recipe says. A search that is there goes on to more."""
    sampler: Literal["hyperopt", "random"] = "hyperopt"
    """TPE, or random search as its control."""
    seeds: tuple[int, ...] = ()
    """Every candidate is trained with each; by default the recipe's five."""
    std_penalty: float = 0.0
    """The score is the mean MF1 minus this times the standard deviation over the seeds."""
    candidates_per_trial: int = 1
    """Candidates that one trial trains at once, as one batched model on its GPU. They share the settings that give the
    model its shape, dropout and optimizer; the sampler draws the others for each. TPE then knows of fewer shapes."""
    stopping: StoppingConfig = field(default_factory=StoppingConfig)
    """When candidates that can't win are ended."""
    protocol: SelectionProtocol = "validation"
    """Which splits choose epochs and candidates. `validation+test` is the paper's way: whatever is made so says it."""
    inputs: InputKind | None = None
    """What of each embedding the fusion takes; by default the recipe's choice."""
    winner: Winner = "reuse"
    """Save the models that the search chose, or new ones, trained on training and validation clips (`refit`)."""
    decision: DecisionFit = field(default_factory=DecisionFit)
    """What of the winner's decision is fitted on validation; a finished search can be run again with another."""
    resume: bool = True
    """Go on with a search of the same that is there; with --no-resume it is an error if one is."""
    report_only: bool = False
    """Only write the report of what is there so far, also while the search runs."""
    dry_run: bool = False
    """Only say what would be done, and about how long it would take."""

    def __post_init__(self) -> None:
        """Raise ConfigError where settings are out of range or do not go together."""
        super().__post_init__()
        if len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(f"Each of the seeds must be another: {', '.join(map(str, self.seeds))}.")
        if self.std_penalty < 0:
            raise ConfigError(f"std_penalty must be 0 or more, got {self.std_penalty}.")
        if self.trials < 0:
            raise ConfigError(f"trials must be 0 or more, got {self.trials}.")
        if self.candidates_per_trial < 1:
            raise ConfigError(f"candidates_per_trial must be 1 or more, got {self.candidates_per_trial}.")
        if self.report_only and self.dry_run:
            raise ConfigError("--report-only and --dry-run do not go together: choose one.")

"""Turn ConflictAwareAH's published weights, where you have the file, into an ensemble that can be served.

    python jobs/import_conflict_aware.py --file best_model.pt

The file is the dictionary that the authors' code saves, with either of its two fusions; nothing is unpickled. The
bundle must hold the three backbones, for their architecture (`jobs/fetch_models.py --recipe conflict-aware`). The
weights contain VideoMAE's, which are not for commercial use.
"""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console

from twominds.backbones import BackboneStore
from twominds.errors import ConfigError, TwomindsError
from twominds.pipelines.job import in_sentences
from twominds.recipes.conflict_aware_published import WINDOWS, import_checkpoint
from twominds.workspace import Workspace, require


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """The file, and where what is made of it goes."""

    file: str
    """The authors' `best_model.pt`."""
    models: str = field(default_factory=lambda: Workspace.default().models)
    """The bundle of pre-trained weights."""
    output: str = field(default_factory=lambda: f"{Workspace.default().root.rstrip('/')}/conflict-aware")
    """Folder for `encoders/<modality>` and `ensemble`; local or s3://."""
    windows: int = WINDOWS
    """How many stretches of faces and sound are looked at where a clip is scored: 1, the first, or several at random
    places, of whose answers the mean is taken, as in the paper."""

    def __post_init__(self) -> None:
        if not Path(self.file).is_file():
            raise ConfigError(f"No file at {self.file}.")


def import_conflict_aware(config: ImportConfig, console: Console) -> None:
    """Imports the file.

    Raises:
        ArtifactError: it is something else.
        BackboneError: it is not plain weights, or the bundle lacks a backbone.
        ConfigError: there are no windows.
    """
    require(config.models, what="bundle of weights", made_by="python jobs/fetch_models.py")
    with console.status(f"reading {Path(config.file).name}"):
        card = import_checkpoint(
            config.output, Path(config.file), BackboneStore(uri=config.models), windows=config.windows
        )
    uri = f"{config.output}/ensemble"
    places = f"--ensemble {shlex.quote(uri)} --models {shlex.quote(config.models)}"
    for line in (
        f"ensemble: {uri} ({card.artifact_id}, {card.weights} weights)",
        f"selected on {card.selected_on}, as the paper says; the public code's own default is the test split",
        f"Next: python jobs/score.py --videos FOLDER --output {shlex.quote(config.output)}/scores {places}",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point."""
    try:
        import_conflict_aware(tyro.cli(ImportConfig, description=__doc__), Console())
    except TwomindsError as error:
        raise SystemExit(f"import_conflict_aware: {error}") from error


if __name__ == "__main__":
    with in_sentences():
        main()

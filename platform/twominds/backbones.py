"""The pre-trained models the platform builds on: which, under what licence, and where they are kept.

A model is named by its role (`scene.videomae_base`), and a `BackboneStore` finds the role's files, in this order: a
local bundle folder, a bundle below an object store prefix, and, only when allowed, the hub. A bundle is

    <bundle>/manifest.json      what is in it: source, exact commit, licence, kind of weights, SHA-256 of every file
    <bundle>/<role>/...         the files as Hugging Face, timm or ONNX write them; never a pickle

`jobs/fetch_models.py` fills a bundle from the hub and `jobs/make_debug_models.py` with seeded random weights of the
same architectures; what loads them is the same code. The catalogue names branches where no commit could be verified
while it was written: the pin is the commit that the fetching job resolves and writes into the manifest.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from upath import UPath

from twominds.errors import BackboneError

WeightsKind = Literal["published", "debug"]
MANIFEST = "manifest.json"
_PUBLISHED: WeightsKind = "published"


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One pre-trained model of the catalogue."""

    role: str
    """Its name everywhere in the platform, and of its folder in a bundle."""
    hub_id: str | None
    """Repository on the hub; None: import a local file (`jobs/fetch_models.py --import-file`)."""
    revision: str
    """Branch, tag or commit to fetch; the commit it resolved to is in the bundle's manifest."""
    licence: str
    """As stated by its authors; `not stated` where their card states none."""
    non_commercial: bool
    """True: the licence forbids commercial use."""
    purpose: str
    """What the platform uses it for."""
    files: tuple[str, ...]
    """What is taken of the repository; files that are not there are skipped, but for the configuration and weights."""


_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")

BACKBONES: dict[str, Backbone] = {
    "scene.videomae_base": Backbone(
        role="scene.videomae_base",
        hub_id="MCG-NJU/videomae-base-finetuned-kinetics",
        revision="main",
        licence="CC-BY-NC-4.0",
        non_commercial=True,
        purpose="VideoMAE-Base fine-tuned on Kinetics-400: the scene encoder starts from it",
        files=("config.json", "preprocessor_config.json", "model.safetensors"),
    ),
    "face.emotion_efficientnet_b0": Backbone(
        role="face.emotion_efficientnet_b0",
        hub_id=None,
        revision="",
        licence="depends on the file you import",
        non_commercial=False,
        purpose="EfficientNet-B0 fine-tuned for facial expressions: features of each face crop",
        files=("config.json", "model.safetensors"),
    ),
    "audio.wav2vec2_emotion": Backbone(
        role="audio.wav2vec2_emotion",
        hub_id="audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim",
        revision="main",
        licence="CC-BY-NC-SA-4.0",
        non_commercial=True,
        purpose="wav2vec2 (12 layers) fine-tuned for emotion dimensions: features of the voice",
        files=("config.json", "preprocessor_config.json", "model.safetensors"),
    ),
    "text.emotion_distilroberta": Backbone(
        role="text.emotion_distilroberta",
        hub_id="j-hartmann/emotion-english-distilroberta-base",
        revision="main",
        licence="not stated",
        non_commercial=False,
        purpose="DistilRoBERTa fine-tuned for seven emotions: the text encoder starts from it",
        files=("config.json", "model.safetensors", *_TOKENIZER),
    ),
    "text.all_minilm": Backbone(
        role="text.all_minilm",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        revision="main",
        licence="Apache-2.0",
        non_commercial=False,
        purpose="small sentence encoder: the text encoder of the demo, free for any use",
        files=("config.json", "model.safetensors", "vocab.txt", *_TOKENIZER[:3]),
    ),
    "detect.yolo_face": Backbone(
        role="detect.yolo_face",
        hub_id=None,
        revision="",
        licence="AGPL-3.0",
        non_commercial=False,
        purpose="YOLOv8 face detector, run by ultralytics (AGPL-3.0 as well)",
        files=("model.onnx",),
    ),
    "detect.yunet": Backbone(
        role="detect.yunet",
        hub_id=None,
        revision="",
        licence="MIT",
        non_commercial=False,
        purpose="OpenCV's YuNet face detector, for those who can't take AGPL",
        files=("model.onnx",),
    ),
    "speech.whisper": Backbone(
        role="speech.whisper",
        hub_id="openai/whisper-base",
        revision="main",
        licence="Apache-2.0",
        non_commercial=False,
        purpose="transcript of clips that come without one",
        files=(
            "config.json",
            "generation_config.json",
            "preprocessor_config.json",
            "model.safetensors",
            "normalizer.json",
            "added_tokens.json",
            *_TOKENIZER,
        ),
    ),
}


@dataclass(frozen=True, kw_only=True)
class BundleEntry:
    """What a bundle's manifest says of one role."""

    weights: WeightsKind
    """`published`, or `debug` for seeded random weights (or a detector trained on drawn faces)."""
    hub_id: str | None
    """Repository it came from; None for an imported file and for debug weights."""
    revision: str
    """The exact commit; for an imported file its name, for debug weights the size and seed."""
    licence: str
    sha256: Mapping[str, str] = field(default_factory=dict[str, str])
    """Digest of each file, by its name below the role's folder."""


def catalogue_entry(role: str) -> Backbone:
    """The catalogue's entry of `role`.

    Raises:
        BackboneError: no such role.
    """
    if role not in BACKBONES:
        raise BackboneError(f"No backbone is called {role!r}. There are: {', '.join(BACKBONES)}.")
    return BACKBONES[role]


def cache_folder() -> Path:
    """Where copies of remote bundles are kept: `TWOMINDS_CACHE`, or `twominds` in the user's cache folder."""
    configured = os.environ.get("TWOMINDS_CACHE", "")
    if configured:
        return Path(configured).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "twominds"


def file_sha256(path: UPath | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_manifest(uri: str) -> dict[str, BundleEntry]:
    """The entries of the bundle at `uri` by role; empty where there is no bundle.

    Raises:
        BackboneError: the manifest is no manifest.
    """
    path = UPath(uri) / MANIFEST
    if not path.exists():
        return {}
    try:
        roles = cast(dict[str, dict[str, Any]], json.loads(path.read_text())["roles"])
        return {role: BundleEntry(**fields) for role, fields in roles.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackboneError(
            f"{path} is not the manifest of a bundle ({error}). Make the bundle again with `jobs/fetch_models.py` "
            "or `jobs/make_debug_models.py`."
        ) from error


def add_to_bundle(uri: str, role: str, folder: Path, entry: BundleEntry) -> BundleEntry:
    """Move the files of `folder` into the bundle at `uri` as `role` and write them into its manifest.

    A role that was there before is replaced. The manifest is written last, so that a bundle never promises files
    that are not there yet. `folder` is removed.

    Returns:
        `entry` with the SHA-256 of every file.
    """
    catalogue_entry(role)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entry = replace(entry, sha256={path.relative_to(folder).as_posix(): file_sha256(path) for path in files})
    target = UPath(uri) / role
    if target.exists():
        target.rmdir(recursive=True)
    for path in files:
        place = target / path.relative_to(folder).as_posix()
        place.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as source, place.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    shutil.rmtree(folder)
    roles = {**read_manifest(uri), role: entry}
    document = {"format": 1, "roles": {name: asdict(roles[name]) for name in sorted(roles)}}
    manifest = UPath(uri) / MANIFEST
    manifest.write_text(json.dumps(document, indent=2) + "\n")
    return entry


@dataclass(frozen=True, kw_only=True)
class BackboneStore:
    """Finds the files of a role. Cheap to make and to send to another process: it holds only where to look."""

    uri: str
    """The bundle: a local folder or an object store prefix (`s3://bucket/models`)."""
    allow_hub: bool = False
    """Take what the bundle lacks from the hub."""

    def has(self, role: str) -> bool:
        """Whether `folder(role)` can be expected to succeed."""
        return role in read_manifest(self.uri) or (self.allow_hub and catalogue_entry(role).hub_id is not None)

    def entry(self, role: str) -> BundleEntry:
        """What is known of the role's weights. From the hub, the revision is the catalogue's and nothing is hashed.

        Raises:
            BackboneError: the role is not to be had; says which job provides it.
        """
        backbone = catalogue_entry(role)
        entries = read_manifest(self.uri)
        if role in entries:
            return entries[role]
        if self.allow_hub and backbone.hub_id is not None:
            return BundleEntry(
                weights=_PUBLISHED, hub_id=backbone.hub_id, revision=backbone.revision, licence=backbone.licence
            )
        how = (
            f"`python jobs/fetch_models.py --roles {role}` fetches it from the hub"
            if backbone.hub_id is not None
            else f"it is on no hub: `python jobs/fetch_models.py --import-file {role}=FILE` imports a local file"
        )
        raise BackboneError(
            f"No weights for {role} in the bundle at {self.uri}: {how}, and `python jobs/make_debug_models.py` "
            "makes a stand-in with random weights."
        )

    def weights(self, role: str) -> WeightsKind:
        """Whether the role's weights are the `published` ones or `debug` ones."""
        return self.entry(role).weights

    def folder(self, role: str) -> Path:
        """Local folder with the role's files; those of a remote bundle are copied to the cache once.

        Raises:
            BackboneError: the role is not to be had, a file is missing, or a copy's SHA-256 is not the manifest's.
        """
        entry = self.entry(role)
        if not entry.sha256:
            return _hub_snapshot(catalogue_entry(role))
        source = UPath(self.uri) / role
        if source.protocol in ("", "file", "local"):
            local = Path(source.path)
            missing = [name for name in entry.sha256 if not (local / name).is_file()]
            if missing:
                raise BackboneError(f"{local} lacks {', '.join(missing)}. Fetch or make {role} again.")
            return local
        return _cached_copy(source, role, entry)

    def verify(self, role: str) -> None:
        """Compare every file of the role in the bundle with the manifest's SHA-256.

        Raises:
            BackboneError: names the first file that differs.
        """
        for name, digest in self.entry(role).sha256.items():
            path = UPath(self.uri) / role / name
            if not path.exists() or file_sha256(path) != digest:
                raise BackboneError(f"{path} is not the file that was fetched. Fetch or make {role} again.")


def _cached_copy(source: UPath, role: str, entry: BundleEntry) -> Path:
    """Copy of a remote role, named by its content, so that a changed bundle is never mistaken for an old copy."""
    content = hashlib.sha256(json.dumps(dict(entry.sha256), sort_keys=True).encode()).hexdigest()[:16]
    cached = cache_folder() / "backbones" / f"{role}-{content}"
    if cached.is_dir():
        return cached
    cached.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{role}-", dir=cached.parent))
    try:
        for name, digest in entry.sha256.items():
            place = partial / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with (source / name).open("rb") as remote, place.open("wb") as local:
                shutil.copyfileobj(remote, local, 1 << 20)
            if file_sha256(place) != digest:
                raise BackboneError(f"{source / name} is not the file that was fetched. Fetch or make {role} again.")
        # Another process may have been first: then its copy is the same, and ours is dropped.
        if not cached.is_dir():
            try:
                partial.rename(cached)
            except OSError:
                if not cached.is_dir():
                    raise
    except FileNotFoundError as error:
        raise BackboneError(f"{source} lacks a file of its manifest. Fetch or make {role} again.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return cached


def _hub_snapshot(backbone: Backbone) -> Path:
    """The role's files in the hub client's own cache."""
    from huggingface_hub import snapshot_download  # pyright: ignore[reportUnknownVariableType] tqdm's type is open

    try:
        return Path(
            snapshot_download(
                cast(str, backbone.hub_id), revision=backbone.revision, allow_patterns=list(backbone.files)
            )
        )
    except Exception as error:
        raise BackboneError(
            f"{backbone.role} could not be had from the hub ({type(error).__name__}). Without internet, fill a bundle "
            "elsewhere with `jobs/fetch_models.py` and give its place."
        ) from error

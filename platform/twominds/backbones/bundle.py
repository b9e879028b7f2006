"""A bundle on disk or in an object store: its manifest, and how files get into it."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from upath import UPath

from twominds.backbones.catalogue import catalogue_entry
from twominds.errors import BackboneError

WeightsKind = Literal["published", "debug"]
MANIFEST = "manifest.json"


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

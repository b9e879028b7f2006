"""A bundle on disk or in an object store: its manifest, and how files get into it."""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from upath import UPath

from twominds.backbones.catalogue import catalogue_entry
from twominds.errors import BackboneError
from twominds.storage import is_local, write_whole

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


def check_files(folder: Path, sha256: Mapping[str, str], remedy: str) -> None:
    """Compares a local folder with the digests of a manifest: the same files, and no other that a loader might prefer.

    A file is read once in a process, as long as it stays what it was. Hidden files are nobody's.

    Args:
        folder: Folder of one role in the bundle.
        sha256: The manifest's digest of each file.
        remedy: What to do, for the error.

    Raises:
        BackboneError: names the files that are missing, or not in the manifest, or the first one that differs.
    """
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    if missing := sorted(sha256.keys() - paths.keys()):
        raise BackboneError(f"{folder} lacks {', '.join(missing)}. {remedy}")
    strange = sorted(name for name in paths.keys() - sha256.keys() if not paths[name].name.startswith("."))
    if strange:
        raise BackboneError(
            f"{folder} holds {', '.join(strange)}, which the bundle's manifest does not know and a loader might take. "
            f"Remove what you have put there. {remedy}"
        )
    for name, digest in sha256.items():
        if _known_sha256(paths[name]) != digest:
            raise BackboneError(f"{paths[name]} is not the file that was fetched. {remedy}")


def _known_sha256(path: Path) -> str:
    """`file_sha256` of a local file, remembered for as long as the file stays what it was."""
    state = path.stat()
    if time.time_ns() - state.st_ctime_ns < 1e9:  # a second change might leave the same times: remember nothing yet
        return file_sha256(path)
    return _sha256_of(path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@cache
def _sha256_of(path: Path, *state: int) -> str:
    del state
    return file_sha256(path)


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
        write_whole(target / path.relative_to(folder).as_posix(), path)
    shutil.rmtree(folder)
    with _alone(uri):
        roles = {**read_manifest(uri), role: entry}
        document = {"format": 1, "roles": {name: asdict(roles[name]) for name in sorted(roles)}}
        write_whole(UPath(uri) / MANIFEST, (json.dumps(document, indent=2) + "\n").encode())
    return entry


@contextmanager
def _alone(uri: str) -> Generator[None]:
    """Nobody else on this machine adds to the manifest meanwhile: what two read before either writes, one loses.

    An object store has no such lock: there a role that two jobs add at the same moment may have to be added again.
    """
    path = UPath(uri)
    if not is_local(path):
        yield
        return
    folder = os.open(path.path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)  # gives the lock back

"""Where a role's files are found: a local bundle, an object store, the hub."""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from upath import UPath

from twominds.backbones.bundle import BundleEntry, WeightsKind, check_files, file_sha256, read_manifest
from twominds.backbones.catalogue import catalogue_entry
from twominds.errors import BackboneError
from twominds.storage import is_local


def cache_folder() -> Path:
    """Where copies of remote bundles are kept: `TWOMINDS_CACHE`, or `twominds` in the user's cache folder."""
    configured = os.environ.get("TWOMINDS_CACHE", "")
    if configured:
        return Path(configured).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "twominds"


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
                weights="published", hub_id=backbone.hub_id, revision=backbone.revision, licence=backbone.licence
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
        """Local folder with the role's files, each of which is the manifest's; a remote bundle's are copied here once.

        To compare them takes about a second per gigabyte, once in a process.

        Raises:
            BackboneError: the role is not to be had, or a file is missing, is another, or is not the manifest's.
        """
        entry = self.entry(role)
        if not entry.sha256:  # not in the bundle: `entry` has checked that the hub is allowed
            return _from_hub(role)
        source = UPath(self.uri) / role
        if is_local(source):
            folder = Path(source.path)
            check_files(folder, entry.sha256, f"Fetch or make {role} again.")
        else:
            folder = _cached_copy(source, role, entry)
            check_files(folder, entry.sha256, f"Remove {folder}: it is a copy, and is made again.")
        return folder

    def config(self, role: str) -> dict[str, Any]:
        """The role's `config.json`, which says what kind of model it is.

        Raises:
            BackboneError: see `folder`.
        """
        return cast("dict[str, Any]", json.loads((self.folder(role) / "config.json").read_text()))

    def check(self, role: str) -> None:
        """What `folder` would find wrong, as far as it can be told without copying anything.

        Raises:
            BackboneError: the role is not to be had, or a local bundle's files are not the manifest's.
        """
        if self.entry(role).sha256 and is_local(UPath(self.uri)):
            self.folder(role)

    def verify(self, role: str) -> None:
        """Reads every file of the role in the bundle, wherever it is, and compares it with the manifest's SHA-256.

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


def _from_hub(role: str) -> Path:
    """The role's files in a bundle of the cache, fetched there once."""
    from twominds.backbones.hub import fetch_role  # brings torch with it

    bundle = cache_folder() / "hub"
    if role not in read_manifest(str(bundle)):
        fetch_role(str(bundle), role, staging=cache_folder() / "partial")
    return BackboneStore(uri=str(bundle)).folder(role)

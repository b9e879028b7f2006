"""From the hub into a bundle: the exact commit, checked sizes, safetensors only."""

import os
import shutil
from pathlib import Path
from typing import cast

from upath import UPath

from twominds.backbones.bundle import BundleEntry, add_to_bundle
from twominds.backbones.catalogue import Backbone, catalogue_entry
from twominds.backbones.state_dicts import read_state_dict, write_state_dict
from twominds.errors import BackboneError
from twominds.storage import is_local

_WEIGHTS = "model.safetensors"
_PICKLED_WEIGHTS = "pytorch_model.bin"


def fetch_role(uri: str, role: str, *, staging: Path, revision: str = "", endpoint: str = "") -> BundleEntry:
    """Fetch one role from the hub into the bundle at `uri`.

    The revision is resolved to a commit first and everything is taken from that commit, which the manifest names.
    Where a repository has no safetensors file, its `pytorch_model.bin` is read with `weights_only=True` and
    rewritten. A fetch that was interrupted keeps the files that were complete.

    Args:
        uri: The bundle, local or in an object store.
        role: A role of the catalogue.
        staging: Local folder for files on their way, kept when a fetch is interrupted.
        revision: Branch, tag or commit; "": the catalogue's.
        endpoint: The hub; "": `HF_ENDPOINT`, or the public one.

    Raises:
        BackboneError: the role is on no hub, the hub can't be reached, or the repository lacks a needed file.
    """
    backbone = catalogue_entry(role)
    if backbone.hub_id is None:
        raise BackboneError(
            f"{role} is on no hub that we can vouch for. Get a file from its authors and import it: "
            f"`python jobs/fetch_models.py --import-file {role}=FILE`."
        )
    wanted, endpoint = revision or backbone.revision, endpoint or os.environ.get("HF_ENDPOINT", "")
    try:
        commit, available = _repository(backbone.hub_id, wanted, endpoint)
        partial = staging / role / commit
        for name in _choose_files(backbone, available):
            _download(backbone.hub_id, name, commit, partial, endpoint)
    except BackboneError:
        raise
    except Exception as error:  # hub client, HTTP client, file system: each has its own, none says what to do
        raise BackboneError(_explanation(backbone, wanted, endpoint, error)) from error
    shutil.rmtree(partial / ".cache", ignore_errors=True)  # the hub client's own bookkeeping
    if (partial / _PICKLED_WEIGHTS).is_file():
        write_state_dict(read_state_dict(partial / _PICKLED_WEIGHTS), partial / _WEIGHTS)
        (partial / _PICKLED_WEIGHTS).unlink()
    entry = BundleEntry(weights="published", hub_id=backbone.hub_id, revision=commit, licence=backbone.licence)
    entry = add_to_bundle(uri, role, partial, entry)
    shutil.rmtree(staging / role, ignore_errors=True)
    return entry


def default_staging(uri: str, cache: Path) -> Path:
    """Where files wait: beside a local bundle (the same disk), in `cache` for a bundle in an object store."""
    path = UPath(uri)
    return Path(path.path) / ".partial" if is_local(path) else cache / "partial"


def _repository(hub_id: str, revision: str, endpoint: str) -> tuple[str, set[str]]:
    """The commit that `revision` stands for, and the names of its files."""
    from huggingface_hub import HfApi

    info = HfApi(endpoint=endpoint or None).model_info(hub_id, revision=revision)
    if not info.sha:
        raise BackboneError(f"The hub did not say which commit {revision!r} of {hub_id} is.")
    return info.sha, {sibling.rfilename for sibling in info.siblings or []}


def _choose_files(backbone: Backbone, available: set[str]) -> list[str]:
    names = [name for name in backbone.files if name in available]
    if _WEIGHTS in backbone.files and _WEIGHTS not in available and _PICKLED_WEIGHTS in available:
        names.append(_PICKLED_WEIGHTS)
    if "config.json" not in names or not {_WEIGHTS, _PICKLED_WEIGHTS} & set(names):
        raise BackboneError(
            f"{backbone.hub_id} has no config.json with model.safetensors or pytorch_model.bin at that revision. "
            f"Name another with `--revision {backbone.role}=COMMIT`."
        )
    return names


def _download(hub_id: str, name: str, commit: str, folder: Path, endpoint: str) -> None:
    from huggingface_hub import hf_hub_download  # pyright: ignore[reportUnknownVariableType] tqdm's type is open

    hf_hub_download(hub_id, name, revision=commit, local_dir=folder, endpoint=endpoint or None)


def _explanation(backbone: Backbone, revision: str, endpoint: str, error: Exception) -> str:
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    where = endpoint or cast(str, ENDPOINT)
    if isinstance(error, RevisionNotFoundError):
        return f"{backbone.hub_id} has no revision {revision!r}. Name another with `--revision {backbone.role}=COMMIT`."
    if isinstance(error, RepositoryNotFoundError):
        return f"The hub at {where} has no {backbone.hub_id}, or it wants an account (`hf auth login`)."
    return (
        f"{backbone.role} could not be fetched from the hub at {where} ({type(error).__name__}). Run the same command "
        "again to go on where it stopped. Without internet, fill the bundle on another machine and copy the folder, or "
        "make a stand-in with `python jobs/make_debug_models.py`."
    )

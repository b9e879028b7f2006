"""The `_about.json` of a folder of features or embeddings: what made it, so that no two makings are mixed."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from upath import UPath

from twominds.artifacts import from_json, to_json
from twominds.errors import ConfigError, MissingInputError
from twominds.media.reader import MediaConfig
from twominds.records import View
from twominds.storage import files_in, write_whole

ABOUT = "_about.json"


@dataclass(frozen=True, kw_only=True)
class About:
    """What made a folder of features or embeddings, kept beside them."""

    recipe: str
    corpus: str
    """Where the videos are: an absolute path or a URI."""
    fingerprint: str
    """Digest of everything that changes a feature: configs and weights."""
    models: str
    parts: dict[View, str] = field(default_factory=dict[View, str])
    """Per view: of features the fingerprint of all that bears on them, of embeddings the encoder's artifact id."""
    purpose: str = "research"
    """What BAH's clips were taken for: others did not consent."""
    media: MediaConfig = field(default_factory=MediaConfig)
    """How the videos were read: what is trained on this must be served with the same."""
    pooled: bool = False
    """Whether there are `pooled` features, which nothing but a fusion over them takes."""


def claim_folder(uri: str, about: About, *, renewable: bool = False) -> None:
    """Writes `_about.json` into an output folder, or checks that the one there was made of the same with the same.

    Recipes that differ later on share what is the same; the folder then goes by the recipe that asked for it last.
    Where the results are `renewable`, at little cost, those that were made with other settings are removed instead.

    Raises:
        ConfigError: it was made of other videos, or with other settings; mixing the two would spoil both.
    """
    path = UPath(uri) / ABOUT
    if path.exists():
        existing = read_about(uri)
        if existing.corpus != about.corpus:
            raise ConfigError(
                f"{uri} holds results of the videos at {existing.corpus}, not of those at {about.corpus}. "
                "Choose another --output or remove that folder."
            )
        if existing.purpose != about.purpose:
            raise ConfigError(
                f"{uri} holds clips for the purpose {existing.purpose}, not {about.purpose}: who consented differs. "
                "Choose another place or remove that folder."
            )
        if about.pooled and not existing.pooled and not renewable:
            raise ConfigError(
                f"{uri} was made for recipe {existing.recipe}, without the pooled features that are asked for now. "
                "Choose another --output or remove that folder."
            )
        same = replace(existing, models=about.models, recipe=about.recipe) == about
        if not same and not renewable:
            raise ConfigError(
                f"{uri} holds results of recipe {existing.recipe} made with other settings or weights "
                f"({existing.fingerprint}, now {about.fingerprint}). Choose another --output or remove that folder."
            )
        if same and existing.recipe == about.recipe:
            return
        for result in [] if same else files_in(uri, "*.parquet"):
            result.unlink()
    write_whole(path, json.dumps(to_json(about), indent=2).encode())


def absolute(uri: str) -> str:
    """A local path from the root on, so that it means the same in every folder; a URI as it is."""
    return uri if "://" in uri else str(Path(uri).expanduser().resolve())


def read_about(uri: str) -> About:
    """What made the folder at `uri`.

    Raises:
        MissingInputError: it is no folder of results.
    """
    path = UPath(uri) / ABOUT
    if not path.exists():
        raise MissingInputError(f"{uri} was not made by one of the jobs: it has no {ABOUT}.")
    return from_json(About, json.loads(path.read_text()))

"""The `_about.json` of a folder of features or embeddings: what made it, so that no two makings are mixed."""

import json
from dataclasses import dataclass, field, replace

from upath import UPath

from twominds.artifacts import from_json, to_json
from twominds.errors import ConfigError, MissingInputError
from twominds.media.reader import MediaConfig

ABOUT = "_about.json"


@dataclass(frozen=True, kw_only=True)
class About:
    """What made a folder of features or embeddings, kept beside them."""

    recipe: str
    corpus: str
    fingerprint: str
    """Of everything that changes a feature: configs and weights."""
    models: str
    media: MediaConfig = field(default_factory=MediaConfig)
    """How the videos were read: what is trained on this must be served with the same."""


def claim_folder(uri: str, about: About) -> None:
    """Writes `_about.json` into an output folder, or checks that the one there was made with the same settings.

    Raises:
        ConfigError: it was made with others; mixing the two would spoil both.
    """
    path = UPath(uri) / ABOUT
    if path.exists():
        existing = read_about(uri)
        if replace(existing, corpus=about.corpus, models=about.models) != about:
            raise ConfigError(
                f"{uri} holds results of recipe {existing.recipe} made with other settings or weights "
                f"({existing.fingerprint}, now {about.fingerprint}). Choose another --output or remove that folder."
            )
        return
    UPath(uri).mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(to_json(about), indent=2))


def read_about(uri: str) -> About:
    """What made the folder at `uri`.

    Raises:
        MissingInputError: it is no folder of results.
    """
    path = UPath(uri) / ABOUT
    if not path.exists():
        raise MissingInputError(f"{uri} was not made by one of the jobs: it has no {ABOUT}.")
    return from_json(About, json.loads(path.read_text()))

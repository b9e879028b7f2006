"""The `_about.json` of a folder of features or embeddings: what made it, so that no two makings are mixed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from upath import UPath

from twominds.artifacts import from_json, to_json
from twominds.errors import ConfigError, MissingInputError
from twominds.media.reader import MediaConfig
from twominds.pipelines import tables
from twominds.records import Clip, Modality
from twominds.storage import write_whole

ABOUT = "_about.json"


@dataclass(frozen=True, kw_only=True)
class About:
    """What made a folder of features or embeddings, kept beside them."""

    recipe: str
    corpus: str
    """Where the videos are: an absolute path or a URI."""
    fingerprint: str
    """Of everything that changes a feature: configs and weights."""
    models: str
    parts: dict[Modality, str] = field(default_factory=dict[Modality, str])
    """Per modality: of features the fingerprint of all that bears on them, of embeddings the encoder's artifact id."""
    purpose: str = "research"
    """What BAH's clips were taken for: others did not consent."""
    media: MediaConfig = field(default_factory=MediaConfig)
    """How the videos were read: what is trained on this must be served with the same."""


def claim_folder(uri: str, about: About) -> None:
    """Writes `_about.json` into an output folder, or checks that the one there was made of the same with the same.

    Recipes that differ later on share what is the same; the folder then goes by the recipe that asked for it last.

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
        if replace(existing, models=about.models, recipe=about.recipe) != about:
            raise ConfigError(
                f"{uri} holds results of recipe {existing.recipe} made with other settings or weights "
                f"({existing.fingerprint}, now {about.fingerprint}). Choose another --output or remove that folder."
            )
        if existing.recipe == about.recipe:
            return
    write_whole(path, json.dumps(to_json(about), indent=2).encode())


def absolute(uri: str) -> str:
    """A local path from the root on, so that it means the same in every folder; a URI as it is."""
    return uri if "://" in uri else str(Path(uri).expanduser().resolve())


def ids_done(uri: str, clips: Sequence[Clip]) -> set[str]:
    """The clips that a folder of results has already; refuses results that are no longer those of the corpus.

    Args:
        uri: Folder of results that carry `split` and `label`.
        clips: The corpus as it is now, or what the job before made of it (`tables.read_clips`).

    Raises:
        ConfigError: clips of the folder have left the corpus (withdrawn, perhaps), or are labelled or split otherwise.
    """
    now = {clip.clip_id: (clip.split, clip.label) for clip in clips}
    rows = tables.read_rows(uri, ["label"])
    gone = sum(row["clip_id"] not in now for row in rows)
    changed = sum(now.get(row["clip_id"], (row["split"], row["label"])) != (row["split"], row["label"]) for row in rows)
    if gone or changed:
        raise ConfigError(
            f"The corpus has changed since {uri} was made of it: {gone} clips are no longer there, {changed} have "
            "another label or split. Remove that folder and what was made of it, or choose another place."
        )
    return {row["clip_id"] for row in rows}


def read_about(uri: str) -> About:
    """What made the folder at `uri`.

    Raises:
        MissingInputError: it is no folder of results.
    """
    path = UPath(uri) / ABOUT
    if not path.exists():
        raise MissingInputError(f"{uri} was not made by one of the jobs: it has no {ABOUT}.")
    return from_json(About, json.loads(path.read_text()))

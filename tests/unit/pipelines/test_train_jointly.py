"""Joint trainings that end with the same weights: what is made of those of the first is what training again gives."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.testing import assert_close

from twominds import artifacts
from twominds.backbones import BundleEntry, add_to_bundle
from twominds.pipelines import train_jointly as jointly
from twominds.pipelines.train import TrainConfig
from twominds.pipelines.train_jointly import train_jointly, trained_jointly
from twominds.recipes.catalog import find_recipe
from twominds.recipes.recipe import Recipe
from twominds.records import PRESENT, Clip, Features, Modality, Split, View, absent, clip_labels
from twominds.results import tables
from twominds.results.about import About, claim_folder
from twominds.scoring.ensemble import Ensemble
from twominds.scoring.post_processing import Grids
from twominds.training.workers import ALONE

pytestmark = pytest.mark.usefixtures("one_thread")

VIEWS = (Modality.FACE, Modality.AUDIO)


def features(uri: Path, models: str) -> str:
    """Faces and voices of 60 clips, whose means say the label; some have no voice, and one has nothing."""
    rng, rows = np.random.default_rng(0), list[tables.Row]()
    for i in range(60):
        split = Split.TRAIN if i < 30 else Split.VALIDATION if i < 45 else Split.TEST
        clip = Clip(clip_id=f"{i:02}", video_uri="", split=split, labels=clip_labels(i % 2))
        row = {name: value for name, value in tables.clip_to_row(clip).items() if name in tables.WITHOUT_WORDS}
        for view in VIEWS:
            values = (rng.standard_normal((3 + i % 3, 8)) + 1.5 * (i % 2)).astype(np.float32)
            there = i != 33 and (view == Modality.FACE or i % 7 > 0)
            presence = PRESENT if there else absent("nothing there")
            found = Features(clip_id=clip.clip_id, view=view, presence=presence, values=values if there else None)
            row |= tables.features_to_row(found)
        rows.append(row)
    fields: list[pa.Field[Any]] = [tables.CLIP_SCHEMA.field(name) for name in tables.WITHOUT_WORDS]
    made_of: dict[View, str] = dict.fromkeys(VIEWS, "0" * 12)
    claim_folder(
        str(uri), About(recipe="simple/joint", corpus="drawn", fingerprint="0" * 12, models=models, parts=made_of)
    )
    schema = pa.schema([*fields, *tables.features_fields(*VIEWS)])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), uri / "all.parquet")
    return str(uri)


def bundle(uri: Path, roles: Sequence[str]) -> str:
    """A bundle that knows the roles; none of their files is read."""
    uri.mkdir()
    (uri / "empty").mkdir()
    entry = BundleEntry(weights="debug", hub_id=None, revision="x", licence="x")
    for role in roles:
        add_to_bundle(str(uri), role, uri / "empty", entry)
        (uri / "empty").mkdir(exist_ok=True)
    return str(uri)


def joint_config(folder: Path) -> TrainConfig:
    """The command for `simple/joint` on such features."""
    models = bundle(folder / "models", find_recipe("simple/joint").frozen_roles())
    return TrainConfig(
        features=features(folder / "features", models),
        output=str(folder / "encoders"),
        ensemble=str(folder / "ensemble"),
        models=models,
    )


class Lines:
    """In the place of the queue to the console."""

    def __init__(self) -> None:
        self.printed: list[str] = []

    def put(self, line: str) -> None:
        self.printed.append(line)


def recipe_with(grids: Grids, *, seed: int = 42, head: float = 0.5) -> Recipe:
    """`simple/joint` with a head of the voice's in its answer, and with this that is chosen after its training."""
    simple = find_recipe("simple/joint")
    assert simple.joint is not None
    fit = replace(simple.joint.fit, epochs=6)
    stage = replace(simple.joint, fit=fit, heads={Modality.AUDIO: head}, blend={Modality.AUDIO: 0.25})
    return replace(simple, stages=(stage,), grids=grids).with_seed(seed)


def trained(config: TrainConfig, recipe: Recipe, name: str, weights_from: str = "") -> tuple[str, list[str]]:
    """Where the encoders are, with their ensemble, and what was printed."""
    place = str(Path(config.output).parent / name)
    config = replace(config, output=place, ensemble=f"{place}/ensemble", checkpoint_interval_s=3600)
    stage, lines = recipe.joint, Lines()
    assert stage is not None
    train_jointly(config, recipe, stage, ALONE, None, cast(Any, lines), weights_from)
    assert trained_jointly(config, recipe) is not None, "it would be trained again"
    return place, lines.printed


CHOSEN = Grids(thresholds=(0.3, 0.5, 0.7))
WEIGHED = replace(CHOSEN, weight_step=0.25)


def test_what_is_chosen_afterwards_is_made_of_weights_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = joint_config(tmp_path)
    source, _ = trained(config, recipe_with(CHOSEN), "first")
    expected, _ = trained(config, recipe_with(WEIGHED), "trained again")

    def fit(*_: object, **__: object) -> None:
        raise AssertionError("it is trained again")

    monkeypatch.setattr(jointly, "fit", fit)
    place, lines = trained(config, recipe_with(WEIGHED), "second", source)
    assert lines[-1].startswith("jointly: weights of simple/joint, which is trained alike, best epoch ")
    for part in (*VIEWS, "ensemble"):
        found, again = (artifacts.load_tensors(f"{uri}/{part}") for uri in (place, expected))
        assert_close(found, again, rtol=0, atol=0)
        cards = [artifacts.read_card(f"{uri}/{part}") for uri in (place, expected)]
        assert cards[0] == replace(cards[1], created=cards[0].created)
    assert Ensemble.load(f"{place}/ensemble").members != Ensemble.load(f"{source}/ensemble").members


@pytest.mark.parametrize(
    "other",
    [
        recipe_with(WEIGHED, seed=7),
        recipe_with(WEIGHED, head=0.25),
        recipe_with(replace(WEIGHED, thresholds=(0.5,))),
    ],
    ids=["seed", "loss", "what chooses the epoch"],
)
def test_weights_of_another_training_are_not_taken(tmp_path: Path, other: Recipe) -> None:
    config = joint_config(tmp_path)
    source, _ = trained(config, recipe_with(CHOSEN), "first")
    _, lines = trained(config, other, "second", source)
    assert " of " in lines[-1]
    assert "trained alike" not in lines[-1]


def test_weights_of_other_clips_or_of_none_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    source, _ = trained(joint_config(tmp_path / "a"), recipe_with(CHOSEN), "first")
    config = joint_config(tmp_path / "b")
    file = next(Path(config.features).glob("*.parquet"))
    rows = pq.read_table(file)
    pq.write_table(rows.slice(1), file)  # without one clip of the training split
    for place in (source, str(tmp_path / "nowhere")):
        _, lines = trained(config, recipe_with(WEIGHED), "second", place)
        assert "trained alike" not in lines[-1]

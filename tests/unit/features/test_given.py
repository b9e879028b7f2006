"""Vectors that come with the clips become features whatever else is there, or say which column lacks them."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from twominds.artifacts import to_json
from twominds.backbones import BackboneStore
from twominds.errors import ArtifactError, ConfigError
from twominds.features.catalog import (
    FeaturesConfig,
    backbones_of,
    build_extractor,
    features_from_json,
    given_names,
    is_given,
)
from twominds.features.given import GivenVectors, GivenVectorsConfig
from twominds.recipes.leya import leya
from twominds.records import PRESENT, ClipMedia, Features, Modality
from twominds.results.tables import pack_media, unpack_media

MakeClip = Callable[..., ClipMedia]
NOWHERE = BackboneStore(uri="/nowhere")
VECTOR = np.array([0.5, -2.0, 1.0], np.float32)


def extract(media: list[ClipMedia], *, with_pooled: bool = False) -> list[Features]:
    return GivenVectors(GivenVectorsConfig(name="x"), NOWHERE, with_pooled=with_pooled).extract(media)


def test_the_vector_is_the_one_row(make_clip: MakeClip) -> None:
    media = [make_clip("a", vectors={"x": VECTOR, "y": VECTOR + 1}), make_clip("b", vectors={"x": 2 * VECTOR})]
    media = [replace(media[0], points_s=np.array([0.5]), warnings=("Of two tracks the first was taken.",)), media[1]]
    one, two = extract(media)
    assert one.values is not None
    assert two.values is not None
    assert (one.presence, one.times_s, one.pooled) == (PRESENT, None, None)
    assert (one.values.shape, one.values.dtype) == ((1, 3), np.float32)
    assert (one.values[0].tolist(), two.values[0].tolist()) == ([0.5, -2.0, 1.0], [1.0, -4.0, 2.0])
    assert one.warnings == ("Of two tracks the first was taken.",)
    assert one.points_s is not None
    (pooled,) = extract(media[:1], with_pooled=True)
    assert pooled.pooled is not None
    assert pooled.pooled.tolist() == [0.5, -2.0, 1.0, 0.0, 0.0, 0.0]


def test_it_is_there_without_its_modality_and_absent_with_it(make_clip: MakeClip) -> None:
    """As in the service, whose uploads bring no vectors."""
    media = [
        make_clip("no transcript", missing=Modality.TEXT, vectors={"x": VECTOR}),
        make_clip("no vector", transcript="Yes!"),
        make_clip("another", transcript="Yes!", vectors={"y": VECTOR}),
    ]
    there, *lacking = extract(media)
    assert there.presence == PRESENT
    assert [one.presence.reason for one in lacking] == ["there is no vector.x for it"] * 2
    assert [one.values for one in lacking] == [None, None]


def test_it_travels_with_the_decoded_clip(make_clip: MakeClip) -> None:
    (one,) = extract([unpack_media(pack_media(make_clip(vectors={"x": VECTOR, "other one": VECTOR})))])
    assert one.values is not None
    np.testing.assert_array_equal(one.values, VECTOR[None])


@pytest.mark.parametrize("view", ["text.openai", "face", "audio.x", "scene.y"])
def test_the_catalogue_knows_them_in_every_modality(view: str) -> None:
    config: FeaturesConfig = {view: GivenVectorsConfig(name="openai")}
    assert features_from_json(json.loads(json.dumps(to_json(config)))) == config
    assert backbones_of(config[view]) == ()
    assert is_given(config[view])
    extractor = build_extractor(view, config[view], NOWHERE, with_pooled=True)
    assert (type(extractor), extractor.view) == (GivenVectors, view)


def test_a_recipe_needs_neither_detector_nor_whisper_for_them() -> None:
    recipe = leya()
    features = {**recipe.features, "face": GivenVectorsConfig(name="a"), "text.b": GivenVectorsConfig(name="b")}
    changed = replace(recipe, features=features)
    assert changed.frozen_roles(["face", "text.b"]) == ()
    assert len(recipe.frozen_roles(["face"])) == 2
    assert given_names(features, ["scene", "face"]) == ["a"]


@pytest.mark.parametrize("name", ["", "Open AI", "vector.x"])
def test_a_name_that_no_column_has_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name of given vectors"):
        GivenVectorsConfig(name=name)


@pytest.mark.parametrize("value", [{"kind": "given"}, {"kind": "given", "name": "x", "dim": 3}])
def test_other_json_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError):
        features_from_json({"text": value})

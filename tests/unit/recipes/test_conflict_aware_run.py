"""ConflictAwareAH on made-up clips: features, the joint training for an epoch, encoders and ensemble, a score."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch
from tests.unit.recipes.test_hsemotion_run import CLIPS, Everywhere, made_up_clip, without

from twominds.backbones import BackboneStore
from twominds.encoders.embedding import embed
from twominds.features.catalog import build_extractor
from twominds.media.reader import MediaConfig
from twominds.pipelines.train_jointly import fit_jointly, new_encoders
from twominds.recipes.catalog import find_recipe
from twominds.recipes.conflict_aware import TEXT_BLEND, VIEWS
from twominds.recipes.recipe import Recipe
from twominds.recipes.stages import TrainJointly
from twominds.records import Embedding, Features, Labels, Modality, Score, Split, View
from twominds.scoring.ensemble import Ensemble
from twominds.search.assembly import assemble
from twominds.training.examples import Targets
from twominds.training.selection import LabelledSplits

TEXT = Modality.TEXT


@pytest.fixture(scope="module")
def features(tiny_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[View, list[Features]]]:
    folder, patched, store = tmp_path_factory.mktemp("clips"), pytest.MonkeyPatch(), BackboneStore(uri=tiny_bundle)

    def build(_: MediaConfig, *__: object) -> Everywhere:
        return Everywhere()

    patched.setattr("twominds.features.face_images.build_detector", build)
    recipe = find_recipe("conflict-aware/demo")
    clips = [replace(made_up_clip(i, folder), points_s=None) for i in range(CLIPS)]
    yield {
        view: build_extractor(view, recipe.features[view], store, with_pooled=False, media=recipe.media).extract(clips)
        for view in VIEWS
    }
    patched.undo()


def trained(
    recipe: Recipe, features: Mapping[View, list[Features]], uri: str
) -> tuple[Ensemble, list[dict[View, Embedding]]]:
    (stage,) = recipe.stages
    assert isinstance(stage, TrainJointly)
    stage = replace(stage, fit=replace(stage.fit, epochs=2))
    targets = Targets.of([Labels.of_clip(i % 2) for i in range(CLIPS)], [None] * CLIPS, recipe.task.output)
    splits = {
        view: LabelledSplits(dict.fromkeys((Split.TRAIN, Split.VALIDATION), (of_view, targets))).for_selection(
            "validation"
        )
        for view, of_view in features.items()
    }
    store = BackboneStore(uri=uri)
    encoders = new_encoders(recipe, features, store)
    model, result = fit_jointly(recipe, stage, encoders, splits)
    assert len(result.history) == 2
    made = assemble(recipe, {42: model.fusion.state_dict()}, model.fusion.dims, recipe.media)
    columns = {view: embed(model.encoder(view).eval(), features[view]) for view in VIEWS}
    return made.ensemble(recipe), [{view: columns[view][i] for view in VIEWS} for i in range(CLIPS)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layers", [0, 1])
def test_it_runs(
    layers: int, precision: Literal["fp32", "bf16"], features: dict[View, list[Features]], tiny_bundle: str
) -> None:
    recipe = find_recipe("conflict-aware/demo")
    (stage,) = recipe.stages
    assert isinstance(stage, TrainJointly)
    recipe = replace(recipe, stages=(replace(stage, fit=replace(stage.fit, precision=precision)),))
    encoders = {
        view: replace(cast("Any", of_view), trainable_layers=layers) for view, of_view in recipe.encoders.items()
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ensemble, clips = trained(replace(recipe, encoders=encoders), features, tiny_bundle)
    torch.set_num_threads(threads)
    assert [(member.name, member.weight) for member in ensemble.members] == [
        ("seed-42", 1 - TEXT_BLEND),
        (TEXT, TEXT_BLEND),
    ]
    full, words = ensemble.probabilities(clips)
    for i, score in enumerate(ensemble.score(clips, explain=True)):
        assert isinstance(score, Score)
        np.testing.assert_allclose(score.probabilities, 0.4 * full[i] + 0.6 * words[i], atol=1e-9)
    assert np.ptp(full[:, 1]) > 0
    assert np.ptp(words[:, 1]) > 0
    silent = [{view: e if view != TEXT else without(e) for view, e in clip.items()} for clip in clips]
    for said, score in zip(ensemble.probabilities(silent)[0], ensemble.score(silent), strict=True):
        assert isinstance(score, Score)
        np.testing.assert_allclose(score.probabilities, said, atol=1e-9)


def test_branches_begin_independently(features: dict[View, list[Features]], tiny_bundle: str) -> None:
    recipe, store = find_recipe("conflict-aware/demo"), BackboneStore(uri=tiny_bundle)
    once, again = (new_encoders(recipe, features, store) for _ in range(2))
    queries = [once[view].state_dict()["pooling.query.weight"] for view in VIEWS]
    for one, other in combinations(queries, 2):
        assert not torch.equal(one, other)
    for view in VIEWS:
        torch.testing.assert_close(once[view].state_dict(), again[view].state_dict(), rtol=0, atol=0)


def test_what_is_read_are_stretches_of_one_clock(features: dict[View, list[Features]]) -> None:
    """A clip of 0.6 s: fifteen frames and as many rows of sound, 25 a second."""
    for view, of_view in features.items():
        for item in of_view:
            assert item.presence.present, item.presence.reason
            if view != TEXT:
                assert item.values is not None
                assert len(item.values) == 15

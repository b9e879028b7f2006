"""Every recipe runs: features of made-up clips, its encoders for an epoch, its fusion for an epoch, probabilities.

On tiny backbones, without a video and without Ray. What recipes share is made once, as a study does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from twominds.backbones import BackboneStore
from twominds.encoders.catalog import ENCODERS
from twominds.encoders.classical import ClassicalTextConfig
from twominds.encoders.embedding import embed
from twominds.encoders.encoder import LearnsAtOnce
from twominds.features.catalog import build_extractor
from twominds.fusion.batch import FusionInputs, fusion_inputs
from twominds.fusion.catalog import build_fusion
from twominds.recipes.catalog import RECIPES, find_recipe
from twominds.recipes.recipe import Recipe
from twominds.records import PRESENT, ClipMedia, Embedding, Features, FloatArray, Modality, Split, View
from twominds.synthetic.weights import make_debug_models
from twominds.training.classical import fit_classical
from twominds.training.examples import FeatureExamples, FusionExamples, Targets
from twominds.training.fit import FitConfig, fit
from twominds.training.losses import loss_of_logits
from twominds.training.objective import Objective
from twominds.training.selection import LabelledSplits

CLIPS = 12
LABELS = torch.tensor([0, 1] * (CLIPS // 2))
WORDS = ("I", "want", "to", "stop", "but", "maybe", "not", "now", "really")


class Parts:
    """What recipes share, made on demand."""

    def __init__(self, store: BackboneStore) -> None:
        self._store, self._media = store, [made_up_clip(index) for index in range(CLIPS)]
        self._features: dict[str, list[Features]] = {}
        self._embeddings: dict[str, list[Embedding]] = {}
        self._probabilities: dict[str, Tensor] = {}

    def features(self, recipe: Recipe, view: View) -> list[Features]:
        key = repr(recipe.features[view])
        if key not in self._features:
            extractor = build_extractor(view, recipe.features[view], self._store, with_pooled=True)
            self._features[key] = extractor.extract(self._media)
        return self._features[key]

    def embeddings(self, recipe: Recipe, view: View) -> list[Embedding]:
        settings, fit_config = recipe.encoders[view], recipe.encoder_fits[view]
        key = repr((recipe.features[view], settings, fit_config))
        if key not in self._embeddings:
            if isinstance(settings, ClassicalTextConfig):
                settings = replace(settings, trees=5)
            features = self.features(recipe, view)
            torch.manual_seed(0)
            encoder = ENCODERS[type(settings)].pretrained(
                settings, num_outputs=2, store=self._store, example=features[0]
            )
            if isinstance(encoder, LearnsAtOnce):
                split = features, Targets.of_clips(LABELS)
                clips = LabelledSplits(dict.fromkeys((Split.TRAIN, Split.VALIDATION), split))
                fit_classical(encoder, clips.for_selection("validation"), Objective(), seed=0)
            else:
                examples = FeatureExamples(encoder, features, Targets.of_clips(LABELS))
                fit(
                    encoder,
                    examples,
                    examples,
                    one_epoch(fit_config),
                    seed=0,
                    loss=loss_of_logits,
                    objective=Objective(),
                )
            self._embeddings[key] = embed(encoder, features)
        return self._embeddings[key]

    def inputs(self, recipe: Recipe) -> FusionInputs:
        """What the fusion takes of all clips."""
        columns = {view: self.embeddings(recipe, view) for view in recipe.views}
        clips: list[Mapping[View, Embedding]] = [
            {view: column[index] for view, column in columns.items()} for index in range(CLIPS)
        ]
        return fusion_inputs(clips, recipe.views, recipe.fusion.inputs)

    def probabilities(self, recipe: Recipe) -> Tensor:
        """[N, 2] of one fusion model."""
        fusion = recipe.fusion
        parts = [(recipe.features[m], recipe.encoders[m], recipe.encoder_fits[m]) for m in recipe.views]
        key = repr((parts, fusion.model, fusion.fit, fusion.loss, fusion.inputs))
        if key not in self._probabilities:
            inputs = self.inputs(recipe)
            model = build_fusion(fusion.model, dims=inputs.dims, num_outputs=2, train=(inputs, LABELS))
            examples = FusionExamples(inputs, LABELS)
            fit(model, examples, examples, one_epoch(fusion.fit), seed=0, loss=fusion.loss, objective=Objective())
            with torch.inference_mode():
                self._probabilities[key] = model.eval()(inputs).logits.softmax(dim=1)
        return self._probabilities[key]


def one_epoch(config: FitConfig) -> FitConfig:
    return replace(config, epochs=1, min_epochs=0)


def made_up_clip(index: int) -> ClipMedia:
    rng = np.random.default_rng(index)
    return ClipMedia(
        clip_id=f"clip-{index:02}",
        duration_s=0.25,
        scene_frames=rng.integers(0, 256, (16, 224, 224, 3), dtype=np.uint8),
        face_crops=rng.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8),
        face_detected=np.ones(2, dtype=bool),
        audio=rng.normal(0, 0.1, 4000).astype(np.float32),
        transcript=" ".join(rng.choice(WORDS, 6)),
        transcript_source="corpus",
        presence=dict[View, int].fromkeys(Modality, PRESENT),
    )


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """On a bundle without the detector, which is what takes long to make, and no crop needs one here."""
    uri = str(tmp_path_factory.mktemp("rows") / "models")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # thousands of small operations: threads would wait for one another
    make_debug_models(uri, detector=False)
    yield Parts(BackboneStore(uri=uri))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("leya")])
def test_it_runs(name: str, parts: Parts) -> None:
    recipe = find_recipe(name)
    if recipe.reports == "encoder":
        (view,) = recipe.views
        of_clips = [cast(FloatArray, embedding.probabilities) for embedding in parts.embeddings(recipe, view)]
        assert {of_clip.shape for of_clip in of_clips} == {(1, 2)}
        check(np.concatenate(of_clips))
    else:
        check(parts.probabilities(recipe).numpy())


def check(probabilities: Sequence[Any] | np.ndarray[Any, Any]) -> None:
    """Of two classes for every clip, and not the same for all."""
    values = np.asarray(probabilities)
    assert values.shape == (CLIPS, 2)
    np.testing.assert_allclose(values.sum(axis=1), 1, rtol=1e-5)
    assert np.ptp(values[:, 1]) > 0


@pytest.mark.parametrize("name", ["leya/08", "leya/09"])
def test_the_fusion_takes_the_tfidf_vector_itself(name: str, parts: Parts) -> None:
    """Rows of length 1 over the vocabulary, none negative: a clip's coordinates are its own words and pairs of them."""
    recipe = find_recipe(name)
    tokens = parts.inputs(recipe).tokens[Modality.TEXT]
    torch.testing.assert_close(tokens.square().sum(dim=1), torch.ones(CLIPS))
    assert bool((tokens >= 0).all())
    first, n_grams = made_up_clip(0).transcript, (tokens[0] > 0).sum()
    words = [word for word in str(first).lower().split() if len(word) > 1]
    assert 1 <= int(n_grams) <= len(set(words)) + len(words) - 1

"""The systems that LEYA names in sections 3 and 4.2 without a row of its table."""

from dataclasses import fields

import pytest

from twominds.encoders.audio import AudioEncoderConfig
from twominds.encoders.classical import ClassicalTextConfig
from twominds.encoders.face_frames import FaceFramesEncoderConfig
from twominds.features.audio import AudioFeaturesConfig
from twominds.features.face_frames import FaceFramesFeaturesConfig
from twominds.features.text import TextFeaturesConfig
from twominds.features.words import WordsFeaturesConfig
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.recipes.catalog import find_recipe, find_study
from twominds.recipes.recipe import Recipe
from twominds.records import Modality, View

PREFIXES = ("leya", "leya/demo")


def of(view: View) -> list[Recipe]:
    """The alternatives that are an encoder of this modality by itself."""
    return [r for r in find_study("leya/alternatives") if r.reports == "encoder" and r.views == (view,)]


def test_each_frozen_language_model_is_tried_with_both_poolings_and_both_boostings() -> None:
    """Section 3.4: EmotionDistilRoBERTa, allMiniLM, EmotionTextClassifier and DeBERTa."""
    found: set[tuple[str, str, str]] = set()
    for recipe in of(Modality.TEXT):
        encoder, features = recipe.encoders["text"], recipe.features["text"]
        assert isinstance(encoder, ClassicalTextConfig)
        if isinstance(features, TextFeaturesConfig):
            assert features.backbone == encoder.backbone
            found.add((encoder.backbone, encoder.representation, encoder.classifier))
    roles = ("emotion_distilroberta", "all_minilm", "emotion_text_classifier", "deberta_base")
    assert found == {
        (f"text.{role}", representation, classifier)
        for role in roles
        for representation in ("cls", "mean")
        for classifier in ("lightgbm", "catboost")
    }


def test_tfidf_with_lightgbm_is_the_third_of_the_classical_systems() -> None:
    recipe = find_recipe("leya/text-tfidf-lightgbm")
    assert recipe.features["text"] == WordsFeaturesConfig()
    assert recipe.encoders["text"] == ClassicalTextConfig(representation="tfidf", classifier="lightgbm")


def test_frames_of_vit_and_clip_go_through_transformer_and_mamba() -> None:
    found: set[tuple[str, str]] = set()
    for recipe in of(Modality.FACE):
        features, encoder = recipe.features["face"], recipe.encoders["face"]
        assert isinstance(features, FaceFramesFeaturesConfig)
        assert isinstance(encoder, FaceFramesEncoderConfig)
        found.add((features.backbone, encoder.temporal))
    assert found == {
        (role, kind) for role in ("face.vit_base", "face.clip_vit_b32") for kind in ("transformer", "mamba")
    }


def test_audio_is_tried_with_a_transformer_and_on_other_layers() -> None:
    found: set[tuple[str, int | None]] = set()
    for recipe in of(Modality.AUDIO):
        features, encoder = recipe.features["audio"], recipe.encoders["audio"]
        assert isinstance(features, AudioFeaturesConfig)
        assert isinstance(encoder, AudioEncoderConfig)
        found.add((encoder.temporal, features.hidden_state))
    assert found == {("transformer", 10), ("mamba", 6), ("mamba", 8), ("mamba", 9), ("mamba", 11)}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_in_the_fusion_one_thing_differs_from_the_row(prefix: str) -> None:
    kinds = {"prob": "prob", "logits": "logits", "emb-prob": "emb+prob"}
    row = find_recipe(f"{prefix}/12")
    for name, inputs in kinds.items():
        recipe = find_recipe(f"{prefix}/inputs-{name}")
        assert recipe.fusion.inputs == inputs
        assert differences(recipe, row) == {"inputs"}
    recipe = find_recipe(f"{prefix}/fusion-cls")
    assert isinstance(recipe.fusion.model, TransformerFusionConfig)
    assert recipe.fusion.model.use_cls
    assert differences(recipe, row) == {"model", "space", "first_points"}
    fusers = {"attention": "attention_sum", "concat": "concat_mlp", "class-weighted": "class_weighted"}
    for name, kind in fusers.items():
        recipe = find_recipe(f"{prefix}/fusion-{name}")
        assert recipe.fusion.model.kind == kind
        assert differences(recipe, find_recipe(f"{prefix}/11")) - {"inputs"} == {"model", "space", "first_points"}
        assert recipe.fusion.inputs == ("logits" if kind == "class_weighted" else "emb")


def differences(one: Recipe, other: Recipe) -> set[str]:
    """Names of the fusion's settings that differ; all else must not."""
    for name in ("media", "features", "encoders", "encoder_fits", "encoder_seed", "task", "reports"):
        assert getattr(one, name) == getattr(other, name)
    names = [field.name for field in fields(one.fusion)]
    return {name for name in names if getattr(one.fusion, name) != getattr(other.fusion, name)}


def test_what_has_no_effect_is_not_searched() -> None:
    spaces = {
        name: set(find_recipe(f"leya/fusion-{name}").fusion.space) for name in ("concat", "class-weighted", "cls")
    }
    training = {"optimizer", "learning_rate", "weight_decay", "scheduler", "label_smoothing", "grad_clip"}
    assert spaces["class-weighted"] == training
    assert spaces["concat"] == training | {"hidden_dim", "dropout"}
    assert "use_cls" not in spaces["cls"]


def test_nothing_is_published_of_an_alternative() -> None:
    recipes = [*find_study("leya/alternatives"), *find_study("leya/demo/alternatives")]
    assert [recipe.published for recipe in recipes] == [None] * len(recipes)
    assert len(recipes) == 2 * (4 + 5 + 17 + 4 + 3)

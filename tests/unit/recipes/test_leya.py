"""The recipe says what the paper says (LEYA, sections 3 and 4.2)."""

import pytest

from twominds.artifacts import to_json
from twominds.encoders.audio import AudioEncoderConfig
from twominds.encoders.face import FaceEncoderConfig
from twominds.encoders.scene import SceneEncoderConfig
from twominds.encoders.text import TextEncoderConfig
from twominds.features.audio import AudioFeaturesConfig
from twominds.features.text import TextFeaturesConfig
from twominds.recipes.catalog import find_recipe
from twominds.recipes.leya import leya
from twominds.records import Modality, View


def test_the_encoders_are_the_papers_number_by_number() -> None:
    recipe = leya()
    assert recipe.encoders["face"] == FaceEncoderConfig(hidden_dim=16, embedding_dim=256, dropout=0.3)
    audio, scene = recipe.encoders["audio"], recipe.encoders["scene"]
    assert isinstance(audio, AudioEncoderConfig)
    assert (audio.hidden_dim, audio.dropout) == (256, 0.1)
    assert isinstance(scene, SceneEncoderConfig)
    assert scene.trainable_layers is None, "the paper fine-tunes the whole VideoMAE"
    assert isinstance(recipe.encoders["text"], TextEncoderConfig)
    assert all(64 <= width <= 128 for width in recipe.encoders["text"].hidden_dims)
    assert recipe.features["audio"] == AudioFeaturesConfig(hidden_state=10)
    assert recipe.features["text"] == TextFeaturesConfig(max_tokens=256)
    assert (recipe.media.scene_frames, recipe.media.face_frames, recipe.media.detector) == (16, 30, "yolo")


@pytest.mark.parametrize(
    ("view", "optimizer", "learning_rate", "weight_decay", "batch_size", "epochs"),
    [(Modality.SCENE, "adamw", 2e-5, 1e-2, 4, 15), (Modality.FACE, "adamw", 1e-3, 1e-3, 32, 100)],
)
def test_the_encoders_are_trained_as_in_the_paper(
    view: View, optimizer: str, learning_rate: float, weight_decay: float, batch_size: int, epochs: int
) -> None:
    fit = leya().encoder_fits[view]
    found = (fit.optimizer, fit.learning_rate, fit.weight_decay, fit.batch_size, fit.epochs)
    assert found == (optimizer, learning_rate, weight_decay, batch_size, epochs)


@pytest.mark.parametrize("name", ["leya", "leya/12", "leya/14"])
def test_the_selected_fusion_is_the_papers_number_by_number(name: str) -> None:
    """Section 4.2; momentum, batch, epochs and patience are the public code's. What is not listed is off."""
    fusion = find_recipe(name).fusion
    assert to_json(fusion.model) == {
        "kind": "transformer",
        "hidden_dim": 128,
        "num_layers": 6,
        "num_heads": 4,
        "feedforward_factor": 6,
        "use_cls": False,
        "dropout": 0.45,
        "prototypes_per_class": 16,
        "prototype_temperature": 0.3,
        "diversity_margin": 0.2,  # ours; lambda_div is 0
        "modality_dropout": 0.0,
        "standardize": "none",
        "pca_components": 24,  # of no effect
    }
    assert to_json(fusion.fit) == {
        "optimizer": "rmsprop",
        "learning_rate": 9.44e-5,
        "weight_decay": 5.55e-4,
        "momentum": 0.9,
        "scheduler": "cosine",
        "learning_rate_floor": 0.0,
        "label_smoothing": 0.02,
        "grad_clip": 0.5,
        "batch_size": 32,
        "epochs": 100,
        "patience": 10,
        "min_epochs": 0,
        "class_weights": True,
        "accumulate": 1,
        "evaluation_batch_size": None,
        "precision": "fp32",
    }
    assert (fusion.loss.prototype_weight, fusion.loss.diversity_weight) == (0.2, 0.0)
    assert (fusion.inputs, fusion.seeds) == ("emb", (42, 2025, 7777, 12345, 31415))


def test_the_demo_is_the_same_system() -> None:
    """What its smaller weights ask for is changed, and nothing of the fusion's model, loss, space or seeds."""
    paper, demo = leya().fusion, find_recipe("leya/demo").fusion
    for name in ("model", "loss", "space", "seeds", "inputs", "views", "first_points"):
        assert getattr(demo, name) == getattr(paper, name), name

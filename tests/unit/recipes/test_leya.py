"""The recipe says what the paper says (LEYA, sections 3 and 4.2)."""

import pytest

from twominds.encoders.face import FaceEncoderConfig
from twominds.encoders.text import TextEncoderConfig
from twominds.features.text import TextFeaturesConfig
from twominds.recipes.catalog import find_recipe
from twominds.recipes.leya import leya
from twominds.records import Modality


def test_the_encoders_are_the_papers_number_by_number() -> None:
    recipe = leya()
    assert recipe.encoders.face == FaceEncoderConfig(hidden_dim=16, embedding_dim=256, dropout=0.3)
    assert (recipe.encoders.audio.hidden_dim, recipe.encoders.audio.dropout) == (256, 0.1)
    assert recipe.encoders.scene.trainable_layers is None, "the paper fine-tunes the whole VideoMAE"
    assert isinstance(recipe.encoders.text, TextEncoderConfig)
    assert all(64 <= width <= 128 for width in recipe.encoders.text.hidden_dims)
    assert recipe.features.audio.hidden_state == 10
    assert recipe.features.text == TextFeaturesConfig(max_tokens=256)
    assert (recipe.media.scene_frames, recipe.media.face_frames, recipe.media.detector) == (16, 30, "yolo")


@pytest.mark.parametrize(
    ("modality", "optimizer", "learning_rate", "weight_decay", "batch_size", "epochs"),
    [(Modality.SCENE, "adamw", 2e-5, 1e-2, 4, 15), (Modality.FACE, "adamw", 1e-3, 1e-3, 32, 100)],
)
def test_the_encoders_are_trained_as_in_the_paper(
    modality: Modality, optimizer: str, learning_rate: float, weight_decay: float, batch_size: int, epochs: int
) -> None:
    fit = leya().encoder_fits.of(modality)
    found = (fit.optimizer, fit.learning_rate, fit.weight_decay, fit.batch_size, fit.epochs)
    assert found == (optimizer, learning_rate, weight_decay, batch_size, epochs)


def test_the_demo_is_the_same_system() -> None:
    """What its smaller weights ask for is changed, and nothing of the fusion's model, loss, space or seeds."""
    paper, demo = leya().fusion, find_recipe("leya/demo").fusion
    for name in ("model", "loss", "space", "seeds", "inputs", "modalities", "first_points"):
        assert getattr(demo, name) == getattr(paper, name), name

"""What holds of all four encoders alike."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from twominds.artifacts import Card, to_json
from twominds.backbones import BackboneStore
from twominds.encoders.artifact import load_encoder, save_encoder
from twominds.encoders.audio import AudioEncoderConfig
from twominds.encoders.catalog import ENCODERS, EncodersConfig, encoders_from_json
from twominds.encoders.encoder import Encoder
from twominds.encoders.face import FaceEncoder, FaceEncoderConfig
from twominds.encoders.face_frames import FaceFramesEncoder, FaceFramesEncoderConfig
from twominds.errors import ArtifactError
from twominds.recipes.leya import leya
from twominds.records import Features, Modality, absent
from twominds.tasks import AH_VIDEO

Make = Callable[..., Features]
CONFIG: EncodersConfig = {
    **leya().encoders,
    Modality.AUDIO: AudioEncoderConfig(hidden_dim=16, head_hidden_dim=8, num_layers=1),
}
LENGTHS = (7, 3, 11, 4)


def encoder_of(modality: Modality, store: BackboneStore, features_of: Make) -> Encoder:
    torch.manual_seed(0)
    example = features_of(modality)
    config = CONFIG[modality]
    return ENCODERS[type(config)].pretrained(config, num_outputs=2, store=store, example=example)


def test_one_encoder_per_modality() -> None:
    assert [ENCODERS[type(CONFIG[modality])].modality for modality in Modality] == list(Modality)


def test_configs_survive_json() -> None:
    assert encoders_from_json(json.loads(json.dumps(to_json(CONFIG)))) == CONFIG


@pytest.mark.parametrize(
    ("face", "encoder"),
    [
        (FaceEncoderConfig(dropout=0.2), FaceEncoder),
        (FaceFramesEncoderConfig(temporal="transformer", hidden_dim=64, dropout=0.2), FaceFramesEncoder),
    ],
)
def test_either_kind_of_face_encoder_survives_json(
    face: FaceEncoderConfig | FaceFramesEncoderConfig, encoder: type[Encoder]
) -> None:
    config: EncodersConfig = {**leya().encoders, Modality.FACE: face}
    back = encoders_from_json(json.loads(json.dumps(to_json(config))))
    assert back == config
    assert ENCODERS[type(back[Modality.FACE])] is encoder


def test_face_encoders_from_before_there_were_two_kinds_are_those_of_statistics() -> None:
    old = {"face": {"hidden_dim": 16, "embedding_dim": 256, "dropout": 0.1}}
    assert encoders_from_json(old)[Modality.FACE] == FaceEncoderConfig(dropout=0.1)


@pytest.mark.parametrize("modality", Modality)
def test_rebuilt_from_json_and_tensors_it_is_the_same_to_the_bit(
    modality: Modality, store: BackboneStore, features_of: Make
) -> None:
    encoder = encoder_of(modality, store, features_of).eval()
    architecture = json.loads(json.dumps(encoder.architecture))
    assert architecture == encoder.architecture
    assert store.uri not in json.dumps(architecture)
    tensors = save({name: tensor.contiguous() for name, tensor in encoder.state_dict().items()})
    config = encoders_from_json(to_json(CONFIG))[modality]
    rebuilt = ENCODERS[type(config)].from_architecture(config, num_outputs=2, architecture=architecture)
    rebuilt.load_state_dict(load(tensors))
    rebuilt.eval()
    assert rebuilt.embedding_dim == encoder.embedding_dim
    inputs = encoder.collate([features_of(modality, length) for length in LENGTHS])
    with torch.no_grad():
        before, after = encoder(inputs), rebuilt(inputs)
    assert torch.equal(before.logits, after.logits)
    assert torch.equal(before.embedding, after.embedding)
    assert after.embedding.shape == (len(LENGTHS), encoder.embedding_dim)
    frozen = [name for name, p in encoder.named_parameters() if not p.requires_grad]
    assert frozen == [name for name, p in rebuilt.named_parameters() if not p.requires_grad]


@pytest.mark.parametrize("modality", Modality)
def test_permuting_a_batch_permutes_the_outputs(modality: Modality, store: BackboneStore, features_of: Make) -> None:
    encoder = encoder_of(modality, store, features_of).eval()
    clips = [features_of(modality, length, seed) for seed, length in enumerate(LENGTHS)]
    order = [2, 0, 3, 1]
    with torch.no_grad():
        straight = encoder(encoder.collate(clips)).logits
        permuted = encoder(encoder.collate([clips[i] for i in order])).logits
    torch.testing.assert_close(permuted, straight[order], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(straight[0], straight[1], atol=1e-4)


@pytest.mark.parametrize("modality", Modality)
def test_learns_two_clips_apart(modality: Modality, store: BackboneStore, features_of: Make) -> None:
    encoder = encoder_of(modality, store, features_of).train()
    inputs = encoder.collate([features_of(modality, length, seed) for seed, length in enumerate(LENGTHS)])
    labels = torch.tensor([0, 1, 0, 1])
    optimizer = torch.optim.AdamW(encoder.parameter_groups(3e-3))

    def loss() -> Tensor:
        return torch.nn.functional.cross_entropy(encoder(inputs).logits, labels)

    start = loss().item()
    for _ in range(30):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    assert loss().item() < 0.6 * start


@pytest.mark.parametrize("modality", Modality)
def test_collate_refuses_what_is_not_there(modality: Modality, store: BackboneStore, features_of: Make) -> None:
    encoder = encoder_of(modality, store, features_of)
    present = features_of(modality)
    missing = Features(clip_id="a", view=modality, presence=absent("no such track"))
    with pytest.raises(ValueError, match="no such track"):
        encoder.collate([present, missing])
    empty: Any = np.zeros((0, 1), np.float32)
    with pytest.raises(ValueError, match="absent"):
        encoder.collate([replace(present, values=empty)])
    other = next(m for m in Modality if m != modality)
    with pytest.raises(ValueError, match=f"given {other}"):
        encoder.collate([features_of(other)])


def test_two_views_of_a_modality_survive_json() -> None:
    config: EncodersConfig = {"face": FaceEncoderConfig(), "face.effnet": FaceFramesEncoderConfig(temporal="lstm")}
    back = encoders_from_json(json.loads(json.dumps(to_json(config))))
    assert back == config
    assert encoders_from_json({"face.effnet": {"hidden_dim": 16}}) == {"face.effnet": FaceEncoderConfig(hidden_dim=16)}
    with pytest.raises(ArtifactError, match=r"no view 'pose'"):
        encoders_from_json({"pose": {}})


def test_an_encoder_of_another_view_is_saved_and_loaded_as_that(
    store: BackboneStore, features_of: Make, tmp_path: Path
) -> None:
    encoder = encoder_of(Modality.FACE, store, features_of)
    encoder.view = "face.effnet"
    config: EncodersConfig = {"face.effnet": CONFIG[Modality.FACE], "face": FaceFramesEncoderConfig()}
    save_encoder(str(tmp_path), encoder, config, Card(kind="encoder", task=AH_VIDEO, recipe="test", config={}))
    loaded, _ = load_encoder(str(tmp_path))
    assert isinstance(loaded, FaceEncoder)
    assert (loaded.view, loaded.modality) == ("face.effnet", Modality.FACE)

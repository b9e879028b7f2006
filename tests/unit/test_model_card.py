"""The model card: valid for the hub, true to the card, and a pushed folder that loads again."""

import socket
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml
from huggingface_hub import (
    CommitOperationAdd,
    ModelCard,
    metadata_load,  # pyright: ignore[reportUnknownVariableType] an open dict
)
from huggingface_hub.repocard_data import ModelCardData, model_index_to_eval_results

from twominds import artifacts
from twominds.artifacts import Card, UsedBackbone, to_json
from twominds.encoders.artifact import load_encoder, save_encoder
from twominds.encoders.face import FaceEncoder, FaceEncoderConfig
from twominds.errors import ArtifactError
from twominds.fusion.catalog import build_fusion
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.media.reader import MediaConfig
from twominds.model_card import metrics_of, publish, readme
from twominds.records import PRESENT, Embedding, Modality, View
from twominds.scoring.ensemble import Ensemble, EnsembleConfig, save_ensemble
from twominds.scoring.members import seed_name
from twominds.tasks import AH_VIDEO

FUSION = TransformerFusionConfig(hidden_dim=8, num_layers=1, num_heads=2, feedforward_factor=1, prototypes_per_class=2)
YOLO = UsedBackbone(role="detect.yolo_face", hub_id=None, revision="y.onnx", licence="AGPL-3.0", weights="published")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def backbone(**changes: Any) -> UsedBackbone:
    fields: dict[str, Any] = {
        "role": "audio.wav2vec2_emotion",
        "hub_id": "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim",
        "revision": "c0ffee",
        "licence": "CC-BY-NC-SA-4.0",
        "weights": "published",
    }
    return UsedBackbone(**fields | changes)


def card(**changes: Any) -> Card:
    fields: dict[str, Any] = {
        "kind": "ensemble",
        "artifact_id": "0123456789ab",
        "task": AH_VIDEO,
        "recipe": "leya/14",
        "config": {},
        "architecture": {"encoders": {"face": "a1", "audio": "b2"}},
        "data": {"embeddings": "feedfacecafe", "clips": {"train": 700, "val": 120}},
        "metrics": {
            "validation_score_mean": 0.8123,
            "validation_score_std": 0.0023,
            "validation_score": {"42": 0.81, "7777": 0.8146},
            "candidates_searched": 40,
        },
        "seeds": (42, 7777),
        "backbones": (backbone(), YOLO),
        "versions": {"torch": "2.13.0"},
    }
    return Card(**fields | changes)


TEST_METRICS = {
    "test_score": {"value": 0.7143, "interval": [0.66, 0.765]},
    "test_auc": 0.78,
    "test_auc_interval": (0.7, 0.8),
}


def test_the_front_matter_is_what_the_hub_reads(tmp_path: Path) -> None:
    text = readme(card(), test_metrics=TEST_METRICS)
    (tmp_path / "README.md").write_text(text)
    front = cast(Any, metadata_load)(tmp_path / "README.md")
    assert front == yaml.safe_load(text.split("---")[1])
    assert front["license"] == "other"
    assert front["license_name"] == "agpl-3.0-and-cc-by-nc-sa-4.0"
    assert front["library_name"] == "twominds"
    assert front["pipeline_tag"] == "video-classification"
    assert front["base_model"] == ["audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"]
    data = cast(ModelCardData, ModelCard(text).data)  # refuses a model-index that is none
    assert data.eval_results
    _, results = model_index_to_eval_results(front["model-index"])
    scores = {(r.metric_name, r.dataset_split): r.metric_value for r in results}
    assert scores == {
        ("validation_score_mean", "validation"): 0.8123,
        ("validation_score / 42", "validation"): 0.81,
        ("validation_score / 7777", "validation"): 0.8146,
        ("test_score", "test"): 0.7143,
    }  # neither a spread nor the area under a curve is an F1


def test_it_says_how_it_was_made_and_how_good_it_is() -> None:
    lines = readme(card(), test_metrics=TEST_METRICS).splitlines()
    for line in (
        "| recipe | leya/14 |",
        "| data: embeddings | feedfacecafe |",
        "| data: clips / train | 700 |",
        "| selected on | validation |",
        "| seeds | 42, 7777 |",
        "| versions | torch 2.13.0 |",
        "| candidates_searched | 40 |",
        "| validation_score / 42 | validation | 0.81 | - |",
        "| test_score | test | 0.7143 | 0.66 to 0.765 |",
        "| test_auc | test | 0.78 | 0.7 to 0.8 |",
        "| detect.yolo_face | y.onnx | AGPL-3.0 | published |",
    ):
        assert line in lines
    assert not any("test_score" in line for line in readme(card()).splitlines())  # only where a report measured it


def test_the_reports_number_replaces_the_cards() -> None:
    alone = card(metrics={"validation_score": 0.8146})
    lines = readme(alone, test_metrics={"validation_score": {"value": 0.8146, "interval": (0.75, 0.87)}}).splitlines()
    shown = [line for line in lines if line.startswith("| validation_score")]
    assert shown == ["| validation_score | validation | 0.8146 | 0.75 to 0.87 |"]


def test_it_warns_of_what_binds_and_of_what_misleads() -> None:
    text = readme(card())
    assert "NON-COMMERCIAL: the licence of audio.wav2vec2_emotion forbids commercial use" in text
    assert "AGPL-3.0: detect.yolo_face." in text
    assert "not a diagnosis" in text
    assert "DEBUG" not in text
    assert "Test labels took part" not in text
    free = readme(card(backbones=(backbone(role="text.all_minilm", licence="Apache-2.0"),)))
    assert "NON-COMMERCIAL" not in free
    assert "AGPL" not in free
    debug = readme(card(backbones=(backbone(weights="debug", licence="Apache-2.0", hub_id=None),)))
    assert "DEBUG WEIGHTS" in debug
    assert "NON-COMMERCIAL" not in debug  # random numbers are nobody's
    assert "debug-weights" in yaml.safe_load(debug.split("---")[1])["tags"]
    assert "Test labels took part" in readme(card(selected_on="validation+test"))


def test_a_catalogued_backbone_is_non_commercial_whatever_its_entry_is_called() -> None:
    assert "NON-COMMERCIAL" in readme(card(backbones=(backbone(licence="see the authors' page"),)))


def test_metrics_are_taken_apart() -> None:
    found = list(metrics_of({"a": 1, "b": {"c": 0.5, "c_interval": [0.4, 0.6], "d": {"value": 2, "interval": None}}}))
    assert [(m.name, m.value, m.interval) for m in found] == [
        ("a", 1, None),
        ("b / c", 0.5, (0.4, 0.6)),
        ("b / d", 2, None),
    ]


@pytest.fixture
def ensemble(tmp_path: Path) -> str:
    """Two seeds over one face encoder, saved as the jobs do."""
    face = FaceEncoderConfig(hidden_dim=4, embedding_dim=6)
    encoder = FaceEncoder(face, num_outputs=2, architecture={"input_dim": 5})
    sections: dict[str, Any] = {"features": {}, "media": to_json(MediaConfig())}
    save_encoder(
        str(tmp_path / "face"), encoder, {Modality.FACE: face}, card(kind="encoder", config=sections, backbones=(YOLO,))
    )
    dims: dict[View, int] = {Modality.FACE: 6}
    states = {
        seed_name(seed): build_fusion(FUSION, dims=dims, num_outputs=2, seed=seed).state_dict() for seed in (42, 7777)
    }
    save_ensemble(
        str(tmp_path / "ensemble"),
        states,
        EnsembleConfig(fusion=FUSION, views=(Modality.FACE,)),
        dims=dims,
        encoders={Modality.FACE: str(tmp_path / "face")},
        card=card(backbones=()),
    )
    return str(tmp_path / "ensemble")


def files_of(folder: str | Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


WHOLE = [
    "README.md",
    "card.json",
    "encoders/face/README.md",
    "encoders/face/card.json",
    "encoders/face/model.safetensors",
    "model.safetensors",
]


def test_every_saved_artifact_carries_one(ensemble: str, tmp_path: Path) -> None:
    assert files_of(ensemble) == WHOLE
    assert "# leya/14: face encoder" in (tmp_path / "face" / "README.md").read_text()
    for folder in (ensemble, f"{ensemble}/encoders/face"):
        text = (Path(folder) / "README.md").read_text()
        assert text == readme(artifacts.read_card(folder))
        assert "AGPL-3.0: detect.yolo_face." in text  # the encoder's backbones are the ensemble's


def test_a_pushed_folder_is_the_artifact_and_can_be_uploaded(ensemble: str, tmp_path: Path) -> None:
    target = tmp_path / "pushed"
    publish(ensemble, str(target), test_metrics=TEST_METRICS)
    assert files_of(target) == WHOLE
    for name in files_of(target):  # refuses a path that the hub would
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=target / name)
    for name in ("README.md", "encoders/face/README.md"):
        assert cast(ModelCardData, ModelCard.load(target / name).data).license == "other"
    assert "| test_score | test | 0.7143 | 0.66 to 0.765 |" in (target / "README.md").read_text()
    assert "test_score" not in (target / "encoders" / "face" / "README.md").read_text()
    vector = np.linspace(-1, 1, 6, dtype=np.float32)
    clip: dict[View, Embedding] = {
        Modality.FACE: Embedding(clip_id="a", view=Modality.FACE, presence=PRESENT, vectors=np.atleast_2d(vector))
    }
    before, after = Ensemble.load(ensemble).score([clip]), Ensemble.load(str(target)).score([clip])
    assert before == after
    assert load_encoder(f"{target}/encoders/face")[1] == load_encoder(f"{ensemble}/encoders/face")[1]


def test_a_push_replaces_an_earlier_one_and_nothing_else(ensemble: str, tmp_path: Path) -> None:
    target = tmp_path / "pushed"
    publish(ensemble, str(target), test_metrics=TEST_METRICS)
    (target / "encoders" / "audio").mkdir()  # of a model that had another modality
    (target / "encoders" / "audio" / "card.json").write_text("{}")
    (target / "card.json").unlink()  # cut off
    publish(ensemble, str(target))
    assert files_of(target) == WHOLE
    (target / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="no earlier push"):
        publish(ensemble, str(target))
    assert "notes.txt" in files_of(target)


def test_an_artifact_of_a_job_is_no_earlier_push(ensemble: str, tmp_path: Path) -> None:
    publish(ensemble, str(tmp_path / "first"))
    with pytest.raises(ArtifactError, match="no earlier push"):
        publish(str(tmp_path / "first"), ensemble)
    with pytest.raises(ArtifactError, match="holds the artifact itself"):
        publish(str(tmp_path / "first"), f"{tmp_path}/first/")
    with pytest.raises(ArtifactError, match="holds the artifact itself"):
        publish(str(tmp_path / "first" / "encoders" / "face"), str(tmp_path / "first"))
    assert files_of(ensemble) == files_of(tmp_path / "first") == WHOLE


def test_what_is_not_whole_is_not_pushed(ensemble: str, tmp_path: Path) -> None:
    (Path(ensemble) / "encoders" / "face" / "card.json").unlink()
    with pytest.raises(ArtifactError, match=r"No artifact at .*encoders/face"):
        publish(ensemble, str(tmp_path / "pushed"))
    assert not (tmp_path / "pushed").exists()

"""Artifacts: what is saved comes back, what is half-written or foreign is refused."""

import hashlib
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]  # an open PathLike

from twominds import artifacts
from twominds.artifacts import Card, UsedBackbone
from twominds.errors import ArtifactError
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.media.reader import MediaConfig
from twominds.scoring.ensemble import EnsembleConfig
from twominds.tasks import AH_VIDEO, TASKS, Task


def card(**changes: object) -> Card:
    fields: dict[str, object] = {"kind": "encoder", "task": AH_VIDEO, "recipe": "leya", "config": {"a": 1}}
    return artifacts.from_json(Card, fields | changes)


def backbone(role: str, weights: str) -> UsedBackbone:
    entry = {"role": role, "hub_id": None, "revision": "x", "licence": "MIT", "weights": weights}
    return artifacts.from_json(UsedBackbone, entry)


def test_round_trip_keeps_tensors_bit_for_bit_and_names_the_artifact(tmp_path: Path) -> None:
    tensors = {"weight": torch.randn(3, 4), "half": torch.randn(2).to(torch.bfloat16), "count": torch.tensor(7)}
    saved = artifacts.save(str(tmp_path / "a"), tensors, card())
    loaded = artifacts.load_tensors(str(tmp_path / "a"))
    assert artifacts.read_card(str(tmp_path / "a")) == saved
    assert saved.task == AH_VIDEO
    assert len(saved.artifact_id) == 12
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_id_is_that_of_content_and_config_alone(tmp_path: Path) -> None:
    tensors = {"w": torch.ones(2)}
    first = artifacts.save(str(tmp_path / "a"), tensors, card())
    later = artifacts.save(str(tmp_path / "b"), tensors, card(created="2030-01-01", metrics={"mf1": 0.5}))
    other_config = artifacts.save(str(tmp_path / "c"), tensors, card(config={"a": 2}))
    other_weights = artifacts.save(str(tmp_path / "d"), {"w": torch.zeros(2)}, card())
    assert first.artifact_id == later.artifact_id
    assert len({first.artifact_id, other_config.artifact_id, other_weights.artifact_id}) == 3


def test_weights_are_debug_as_soon_as_one_backbone_is() -> None:
    published, debug = backbone("text", "published"), backbone("scene", "debug")
    assert artifacts.merge_backbones([]) == ()
    assert artifacts.from_json(Card, vars(card()) | {"backbones": (published,)}).weights == "published"
    assert artifacts.from_json(Card, vars(card()) | {"backbones": (published, debug)}).weights == "debug"


def test_missing_incomplete_and_newer_artifacts_are_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"No artifact at .*nothing"):
        artifacts.read_card(str(tmp_path / "nothing"))
    folder = tmp_path / "a"
    artifacts.save(str(folder), {"w": torch.ones(1)}, card())
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match="incomplete"):
        artifacts.load_tensors(str(folder))
    raw = json.loads((folder / "card.json").read_text()) | {"format_version": 99}
    (folder / "card.json").write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match="newer version"):
        artifacts.read_card(str(folder))


def test_a_save_that_is_cut_off_leaves_no_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a"
    artifacts.save(str(folder), {"w": torch.ones(1)}, card())

    def cut_off(_: object) -> object:
        raise KeyboardInterrupt

    second = card()
    with monkeypatch.context() as patched:
        patched.setattr(artifacts, "to_json", cut_off)
        with pytest.raises(KeyboardInterrupt):
            artifacts.save(str(folder), {"w": torch.zeros(1)}, second)
    with pytest.raises(ArtifactError, match="No artifact"):
        artifacts.read_card(str(folder))


def test_one_changed_number_is_refused_by_the_name_of_its_file(tmp_path: Path) -> None:
    uri = str(tmp_path / "a")
    artifacts.save(uri, {"w": torch.arange(4.0)}, card(config={"threshold": 0.5}))
    path = tmp_path / "a" / "model.safetensors"
    whole = path.read_bytes()
    save_file(load_file(path) | {"w": torch.tensor([0.0, 1.0, 2.0, 4.0])}, path)
    assert len(path.read_bytes()) == len(whole)
    for load in (artifacts.load_tensors, artifacts.verified):
        with pytest.raises(ArtifactError, match=r"a/model\.safetensors .*changed or damaged"):
            load(uri)
    path.write_bytes(whole)
    assert artifacts.load_tensors(uri)["w"].tolist() == [0, 1, 2, 3]
    settings = tmp_path / "a" / "card.json"
    settings.write_text(settings.read_text().replace("0.5", "0.4"))
    with pytest.raises(ArtifactError, match=r"changed or damaged"):
        artifacts.load_tensors(uri)


def test_an_artifact_of_an_older_version_still_loads(tmp_path: Path) -> None:
    """Written as the first version did, with the id by its rule: tensors, then config and architecture as JSON."""
    payload = safetensors.torch.save({"w": torch.ones(2)})
    config, architecture = {"b": 1e-05, "a": ["é", None]}, {"dims": {"text": 3}}
    rule = json.dumps([config, architecture], sort_keys=True).encode()
    fields = {
        "kind": "encoder",
        "artifact_id": hashlib.sha256(payload + rule).hexdigest()[:12],
        "task": {"name": "ah-video", "classes": ["no_ah", "ah"]},
        "recipe": "leya",
        "config": config,
        "architecture": architecture,
        "metrics": {"validation_score": 0.7},
        "created": "2026-01-01T00:00:00+00:00",
        "format_version": 1,
    }
    (tmp_path / "card.json").write_text(json.dumps(fields, indent=2))
    (tmp_path / "model.safetensors").write_bytes(payload)
    assert artifacts.load_tensors(str(tmp_path))["w"].tolist() == [1, 1]


def test_configs_survive_json_and_wrong_fields_are_refused() -> None:
    config = MediaConfig(face_frames=12, detector="yunet", language=None)
    assert artifacts.from_json(MediaConfig, json.loads(json.dumps(artifacts.to_json(config)))) == config
    with pytest.raises(ArtifactError, match="MediaConfig"):
        artifacts.from_json(MediaConfig, {"face_frames": "many"})


def test_a_setting_that_there_is_not_is_refused_by_name_however_deep() -> None:
    config = artifacts.to_json(EnsembleConfig(fusion=TransformerFusionConfig()))
    config["media"]["face_frame"] = 3
    with pytest.raises(ArtifactError, match=r"Not a EnsembleConfig: it has no media\.face_frame\."):
        artifacts.from_json(EnsembleConfig, config)
    entry = {"role": "text", "hub_id": None, "revision": "x", "licence": "MIT", "weights": "debug", "colour": "red"}
    fields = artifacts.to_json(card()) | {"backbones": [entry]}
    with pytest.raises(ArtifactError, match=r"it has no backbones\.colour\."):
        artifacts.from_json(Card, fields)


def test_a_setting_that_older_versions_wrote_and_that_changed_nothing_is_passed_over() -> None:
    config = EnsembleConfig(fusion=TransformerFusionConfig())
    raw = artifacts.to_json(config)
    raw["media"]["decoder_threads"] = 1
    assert artifacts.from_json(EnsembleConfig, raw) == config


def test_fingerprint_ignores_the_order_of_keys_but_not_values() -> None:
    assert artifacts.fingerprint({"a": 1, "b": 2}) == artifacts.fingerprint({"b": 2, "a": 1})
    assert artifacts.fingerprint({"a": 1}) != artifacts.fingerprint({"a": 2})


def test_a_card_of_before_there_were_tasks_of_other_kinds_is_read() -> None:
    old = {
        "kind": "ensemble",
        "task": {"name": "ah-video", "classes": ["no_ah", "ah"]},
        "recipe": "leya",
        "config": {},
        "metrics": {
            "validation_mf1": {"42": 0.7},
            "validation_mf1_mean": 0.7,
            "validation_mf1_std": 0.0,
            "selection_mf1": 0.7,
            "selection_mf1_mean": 0.7,
        },
    }
    read = artifacts.from_json(Card, old)
    assert read.task == AH_VIDEO
    assert read.metrics == {
        "validation_score": {"42": 0.7},
        "validation_score_mean": 0.7,
        "validation_score_std": 0.0,
        "selection_score": 0.7,
        "selection_score_mean": 0.7,
    }


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_task_survives_json(task: Task) -> None:
    value = json.loads(json.dumps(artifacts.to_json(card(task=task))))
    assert artifacts.from_json(Card, value).task == task


def test_the_config_of_an_ensemble_of_before_there_were_views_is_read() -> None:
    today = artifacts.to_json(EnsembleConfig(fusion=TransformerFusionConfig(), views=("face", "text")))
    old = {name: value for name, value in today.items() if name != "views"} | {"modalities": ["face", "text"]}
    assert artifacts.from_json(EnsembleConfig, old).views == ("face", "text")
    assert artifacts.from_json(EnsembleConfig, today).views == ("face", "text")

import json
import socket
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle
from twominds.encoders.huggingface import backbone_config, build_backbone, load_backbone, transformer_layers
from twominds.errors import BackboneError

ROLE = "text.emotion_distilroberta"


@pytest.mark.parametrize("role", [ROLE, "text.all_minilm", "text.deberta_base", "scene.videomae_base"])
def test_a_config_rebuilds_the_model_without_files_or_network(
    role: str, store: BackboneStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_backbone(store, role)
    config = json.loads(json.dumps(backbone_config(backbone)))

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    rebuilt = build_backbone(config)
    assert type(rebuilt) is type(backbone)
    shapes = {name: tensor.shape for name, tensor in rebuilt.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in backbone.state_dict().items()}
    assert not any("pooler" in name for name in shapes)
    assert {p.dtype for p in rebuilt.parameters()} == {torch.float32}
    assert backbone_config(rebuilt) == config
    assert len(transformer_layers(rebuilt)) == 3


def test_a_model_without_the_pooler_option(tmp_path: Path) -> None:
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(0)
    model = cast(Any, DistilBertModel(DistilBertConfig(vocab_size=20, dim=8, hidden_dim=8, n_layers=2, n_heads=2)))
    model.save_pretrained(tmp_path / "model")
    entry = BundleEntry(weights="debug", hub_id=None, revision="x", licence="x")
    add_to_bundle(str(tmp_path), ROLE, tmp_path / "model", entry)
    loaded = load_backbone(BackboneStore(uri=str(tmp_path)), ROLE)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert len(transformer_layers(build_backbone(backbone_config(loaded)))) == 2


def test_files_that_are_no_model(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "nonsense"}')
    entry = BundleEntry(weights="debug", hub_id=None, revision="x", licence="x")
    add_to_bundle(str(tmp_path), ROLE, tmp_path / "model", entry)
    with pytest.raises(BackboneError, match=ROLE):
        load_backbone(BackboneStore(uri=str(tmp_path)), ROLE)


def test_a_model_without_layers_to_freeze() -> None:
    class Bare(torch.nn.Module):
        class config:  # noqa: N801 - as transformers names it
            num_hidden_layers = 2

    with pytest.raises(BackboneError, match="Bare"):
        transformer_layers(Bare())

"""Published checkpoints, small, under the names that are in their own files (written by older libraries)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType] open PathLike
from torch import Tensor, nn

from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle
from twominds.backbones.local_files import import_file
from twominds.errors import BackboneError
from twominds.features.face import FaceFeatures, FaceFeaturesConfig
from twominds.features.loading import load_backbone

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
FACE = "face.emotion_efficientnet_b0"


def wav2vec2() -> tuple[nn.Module, nn.Module]:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(
        conv_dim=(8,) * 7,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        **SIZES,
    )
    wrapper = nn.Module()  # audeering's own class, which no library has
    wrapper.wav2vec2, wrapper.classifier = Wav2Vec2Model(config), nn.Module()
    wrapper.classifier.dense, wrapper.classifier.out_proj = nn.Linear(16, 16), nn.Linear(16, 3)
    return wrapper, wrapper.wav2vec2


def roberta() -> tuple[nn.Module, nn.Module]:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    words: dict[str, Any] = {"vocab_size": 30, "max_position_embeddings": 20, "type_vocab_size": 1, "pad_token_id": 1}
    whole = RobertaForSequenceClassification(RobertaConfig(**words, **SIZES))
    return whole, cast(nn.Module, whole.roberta)


def videomae() -> tuple[nn.Module, nn.Module]:
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    config = VideoMAEConfig(image_size=32, num_frames=4, use_mean_pooling=True, **SIZES)
    whole = VideoMAEForVideoClassification(config)
    return whole, cast(nn.Module, whole.videomae)


PUBLISHED: dict[str, tuple[Callable[[], tuple[nn.Module, nn.Module]], dict[str, str], dict[str, Tensor]]] = {
    "audio.wav2vec2_emotion": (
        wav2vec2,
        {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"},
        {},
    ),
    "text.emotion_distilroberta": (roberta, {}, {"roberta.embeddings.position_ids": torch.arange(20)[None]}),
    "scene.videomae_base": (videomae, {"query.bias": "q_bias", "value.bias": "v_bias"}, {}),
}
"""What makes the model and its backbone, how the file names what is now called otherwise, and what it has besides."""


@pytest.mark.parametrize("role", PUBLISHED)
def test_a_published_file_fills_the_backbone(role: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, old_names, besides = PUBLISHED[role]
    whole, backbone = make()
    for parameter in whole.parameters():
        nn.init.normal_(parameter)  # nothing at the value that a fresh model has
    state = dict(whole.state_dict())
    for new, old in old_names.items():
        renamed = [name for name in state if name.endswith(new)]
        assert renamed
        for name in renamed:
            state[name.removesuffix(new) + old] = state.pop(name)
    files = tmp_path / "files"
    cast(Any, backbone).save_pretrained(files)  # its config.json
    save_file({name: tensor.contiguous() for name, tensor in (state | besides).items()}, files / "model.safetensors")
    entry = BundleEntry(weights="published", hub_id=None, revision="x", licence="x")
    add_to_bundle(str(tmp_path / "bundle"), role, files, entry)
    loaded = load_backbone(BackboneStore(uri=str(tmp_path / "bundle")), role).state_dict()
    expected = {name: tensor for name, tensor in backbone.state_dict().items() if not name.startswith("pooler.")}
    assert set(loaded) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(loaded[name], tensor), name


class LeyaFaceBackbone(nn.Module):
    """LEYA's published face backbone: torchvision's EfficientNet-B0, wrapped, with heads for emotion and affect."""

    def __init__(self) -> None:
        super().__init__()
        b0: Any = torchvision.models.efficientnet_b0()
        self.backbone = nn.Module()
        self.backbone.backbone, self.pool = b0.features, b0.avgpool
        self.emotion_head, self.va_head = nn.Linear(1280, 8), nn.Linear(1280, 2)


def test_leyas_face_backbone_is_torchvisions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LeyaFaceBackbone().eval()
    for name, statistics in model.named_buffers():
        if name.endswith("running_mean"):
            statistics.uniform_(-0.1, 0.1)
    torch.save({"epoch": 11, "model": model.state_dict(), "mf1": 0.7176}, tmp_path / "checkpoint.pt")
    import_file(str(tmp_path / "bundle"), FACE, tmp_path / "checkpoint.pt", staging=tmp_path / "staging")
    extractor = FaceFeatures(FaceFeaturesConfig(), BackboneStore(uri=str(tmp_path / "bundle")))
    crops = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        images = ((crops / 255 - mean) / std).permute(0, 3, 1, 2)
        expected = model.pool(cast(nn.Module, model.backbone.backbone)(images)).flatten(1)
    torch.testing.assert_close(
        torch.from_numpy(extractor.frame_features(crops.numpy())), expected, atol=1e-5, rtol=1e-4
    )


def test_torchvisions_own_file_is_taken_too(tmp_path: Path) -> None:
    state = cast(Any, torchvision.models.efficientnet_b0()).state_dict()
    torch.save(state, tmp_path / "b0.pth")
    import_file(str(tmp_path / "bundle"), FACE, tmp_path / "b0.pth", staging=tmp_path / "staging")
    stored = load_file(tmp_path / "bundle" / FACE / "model.safetensors")
    assert set(stored) == set(timm.create_model("efficientnet_b0", num_classes=0).state_dict())


def test_a_pickled_model_is_refused(tmp_path: Path) -> None:
    """As EmotiEffNet's authors publish theirs: the module itself, which only foreign code can load."""
    torch.save(LeyaFaceBackbone(), tmp_path / "whole.pt")
    with pytest.raises(BackboneError, match="can't be read as weights alone"):
        import_file(str(tmp_path / "bundle"), FACE, tmp_path / "whole.pt", staging=tmp_path / "staging")
    assert not (tmp_path / "bundle").exists()

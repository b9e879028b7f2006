"""Descriptors are read from files of their authors' names and shapes, and give what the authors' networks give."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import timm
import torch
from torch import Tensor, nn

from twominds.backbones.descriptors import DESCRIPTORS, import_descriptor, load_descriptor
from twominds.backbones.mobilefacenet import MobileFaceNet
from twominds.backbones.onnx_files import image_network
from twominds.errors import BackboneError


class MobileFaceNetOfTheAuthors(MobileFaceNet):
    """With its head beside the other parts."""

    def __init__(self, scores: int) -> None:
        super().__init__()
        self.fc = nn.Linear(512, scores)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(super().forward(images))


def as_published(role: str) -> nn.Module:
    """The network of a role, its head where its authors have it, with random weights."""
    scores = max(DESCRIPTORS[role].scores)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        match DESCRIPTORS[role].architecture:
            case "efficientnet_b0" | "efficientnet_b2" as name:
                model = cast(Any, timm.create_model(f"tf_{name}"))
                linear = nn.Linear(DESCRIPTORS[role].dim, scores)
                model.classifier = nn.Sequential(linear) if scores == 8 else linear
            case "mobilevitv2_150":
                model = cast(Any, timm.create_model("mobilevitv2_150", num_classes=scores))
            case _:
                model = MobileFaceNetOfTheAuthors(scores)
        for module in model.modules():  # as after training
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                cast(Tensor, module.running_mean).normal_(0, 0.1)
                cast(Tensor, module.running_var).uniform_(0.5, 1.5)
    return model.eval()


def images_of(role: str) -> Tensor:
    side_px = DESCRIPTORS[role].image_px
    return torch.randn(3, 3, side_px, side_px, generator=torch.Generator().manual_seed(1))


def expected(model: nn.Module, images: Tensor) -> Tensor:
    """Embedding and scores by the network's own parts."""
    with torch.inference_mode():
        if isinstance(model, MobileFaceNet):
            embedding = MobileFaceNet.forward(model, images)
        else:
            timms = cast(Any, model)
            embedding = timms.forward_head(timms.forward_features(images), pre_logits=True)
        return torch.cat([embedding, model(images)], dim=1)


def imported(role: str, file: Path, folder: Path) -> Callable[[Tensor], Tensor]:
    folder.mkdir()
    import_descriptor(role, file, folder)
    return load_descriptor(folder, json.loads((folder / "config.json").read_text()))


@pytest.mark.parametrize("role", [role for role, it in DESCRIPTORS.items() if it.architecture != "ddamfn"])
def test_a_state_dict_of_the_authors_names_gives_what_their_network_gives(role: str, tmp_path: Path) -> None:
    model, images = as_published(role), images_of(role)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    ours = imported(role, tmp_path / "weights.pt", tmp_path / "bundle")
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), expected(model, images), rtol=1e-5, atol=1e-5)
    config = json.loads((tmp_path / "bundle" / "config.json").read_text())
    assert (config["image_size"], config["dim"]) == (DESCRIPTORS[role].image_px, DESCRIPTORS[role].dim)
    assert config["scores"] == (8 if role in ("face.emotieffnet_b0", "face.emotieffnet_b2") else 10)


def export(model: nn.Module, images: Tensor, file: Path, *, any_batch: bool = True) -> None:
    """Writes an ONNX file as the authors' are: opset 11, its input called `input`."""
    axes = {"input": {0: "batch"}} if any_batch else None
    options = {"input_names": ["input"], "dynamic_axes": axes, "opset_version": 11, "dynamo": False}
    torch.onnx.export(model, (images[:1],), str(file), **cast(Any, options))


@pytest.mark.filterwarnings("ignore")  # of the older exporter, which writes opset 11
@pytest.mark.parametrize("role", ["face.emotieffnet_b0", "face.emotimobilefacenet_mtl"])
@pytest.mark.parametrize("any_batch", [True, False])
def test_an_onnx_file_gives_what_the_same_weights_give_in_torch(role: str, any_batch: bool, tmp_path: Path) -> None:
    model, images = as_published(role), images_of(role)
    export(model, images, tmp_path / "weights.onnx", any_batch=any_batch)
    ours = imported(role, tmp_path / "weights.onnx", tmp_path / "bundle")
    torch.testing.assert_close(ours(images), expected(model, images), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours(images[1:2]), ours(images)[1:2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("role", [role for role, it in DESCRIPTORS.items() if it.architecture != "ddamfn"])
def test_a_network_on_the_processor_gives_what_torch_gives_whatever_is_beside_an_image(role: str) -> None:
    model, images = as_published(role), images_of(role)
    ours = image_network(model, images.shape[-1], "cpu")
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), model(images), rtol=1e-4, atol=1e-5)
    assert torch.equal(ours(images[1:2]), ours(images)[1:2])


def test_mobilefacenet_is_as_large_as_its_authors() -> None:
    """Their file has 8.3 MB."""
    assert sum(value.numel() for value in MobileFaceNet().parameters()) == 2_059_520


@pytest.mark.filterwarnings("ignore")
def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    def refuse(role: str, content: object, why: str) -> None:
        torch.save(content, tmp_path / "weights.pt")
        with pytest.raises(BackboneError, match=why):
            import_descriptor(role, tmp_path / "weights.pt", tmp_path)

    b0 = as_published("face.emotieffnet_b0")
    state = b0.state_dict()
    headless = {name: value for name, value in state.items() if not name.startswith("classifier")}
    refuse("face.emotieffnet_b0_mtl", state, r"\(8, 1280\), not \(10, 1280\)")
    refuse("face.emotieffnet_b0", headless, "no last layer")
    refuse("face.emotieffnet_b0", state | {"more": torch.zeros(1)}, "is not a state dict of efficientnet_b0")
    refuse("face.emotieffnet_b0", b0, "can't be read as weights alone")
    refuse("face.ddamfn", state, "is no ONNX file")
    (tmp_path / "no.onnx").write_bytes(b"no")
    with pytest.raises(BackboneError, match="is no ONNX file"):
        import_descriptor("face.emotieffnet_b0", tmp_path / "no.onnx", tmp_path)
    export(nn.ReLU(), torch.zeros(1, 3), tmp_path / "relu.onnx")
    with pytest.raises(BackboneError, match="Relu, not a Gemm"):
        import_descriptor("face.emotieffnet_b0", tmp_path / "relu.onnx", tmp_path)
    export(nn.Linear(3, 8), torch.zeros(1, 3), tmp_path / "linear.onnx")
    with pytest.raises(BackboneError, match=r"\(8, 3\), not \(8, 1280\)"):
        import_descriptor("face.emotieffnet_b0", tmp_path / "linear.onnx", tmp_path)

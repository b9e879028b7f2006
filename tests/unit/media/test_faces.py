"""Detectors against their own libraries' answers, and what is cut out of a frame."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from torch import nn

from twominds.errors import BackboneError
from twominds.media.faces import (
    CorpusFaceCrops,
    YoloFaceDetector,
    YuNetFaceDetector,
    crop_faces,
    largest_box,
    prepare_ultralytics,
)
from twominds.records import ByteArray, FloatArray

NO_BOX = np.empty((0, 5), np.float32)


def boxes(*rows: tuple[float, float, float, float, float]) -> FloatArray:
    return np.array(rows, np.float32).reshape(-1, 5)


def test_the_largest_box_within_the_frame_wins_whatever_its_score() -> None:
    small, large = (10, 10, 20, 20, 0.9), (30, 30, 60, 50, 0.02)
    assert largest_box(boxes(small, large), 100, 80) == (30, 30, 60, 50)
    mostly_outside = (-500, -500, 12, 12, 0.9)
    assert largest_box(boxes(mostly_outside, small), 100, 80) == (0, 0, 12, 12)
    assert largest_box(boxes((90, 70, 300, 300, 0.5)), 100, 80) == (90, 70, 100, 80)
    assert largest_box(boxes((50, 50, 50.4, 70, 0.9), (200, 200, 300, 300, 0.9)), 100, 80) is None
    assert largest_box(NO_BOX, 100, 80) is None


def test_crops_hold_the_face_or_the_whole_frame() -> None:
    frame = np.zeros((100, 200, 3), np.uint8)
    frame[20:60, 50:90] = (200, 100, 50)
    faces = crop_faces([frame, frame], [boxes((50, 20, 90, 60, 0.7), (0, 0, 5, 5, 0.8)), NO_BOX], 224)
    assert faces.crops.shape == (2, 224, 224, 3)
    assert faces.detected.tolist() == [True, False]
    assert faces.scores.tolist() == pytest.approx([0.8, 0.0])
    np.testing.assert_array_equal(faces.crops[0], np.broadcast_to(np.array([200, 100, 50], np.uint8), (224, 224, 3)))
    assert faces.crops[1].mean() == pytest.approx(frame.mean(), rel=0.02)


@pytest.fixture(scope="module")
def yolo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small YOLOv8 for one class with random weights, calibrated so that some boxes pass 0.01 and most don't."""
    prepare_ultralytics()
    from ultralytics.nn import tasks

    folder = tmp_path_factory.mktemp("yolo")
    description = cast(
        dict[str, Any], yaml.safe_load((Path(tasks.__file__).parents[1] / "cfg/models/v8/yolov8.yaml").read_text())
    )
    description |= {"nc": 1, "scale": "n", "scales": {"n": [0.33, 0.125, 256]}}  # a quarter of YOLOv8-n
    (folder / "config.yaml").write_text(yaml.safe_dump(description))
    torch.manual_seed(0)
    model: Any = cast(Any, tasks).DetectionModel(description, verbose=False)
    norms: list[Any] = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0  # the statistics of one batch: activations that are neither dead nor saturated
        model.train()(torch.rand(4, 3, 128, 128))
        for branch in model.model[-1].cv3:
            branch[-1].weight.normal_(0, 0.15)
            branch[-1].bias.fill_(-6.0)
    safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors")
    return folder


def random_frames(*shapes: tuple[int, int]) -> list[ByteArray]:
    """Textures in which no two places are alike: equal scores would be suppressed in an arbitrary order."""
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 256, (height, width, 3), np.uint8) for height, width in shapes]
    return [cast(ByteArray, cv2.normalize(cv2.blur(image, (9, 9)), None, 0, 255, cv2.NORM_MINMAX)) for image in noise]  # pyright: ignore[reportCallIssue, reportArgumentType]  # OpenCV's types know no None


def test_yolo_gives_the_boxes_of_ultralytics_own_predict(yolo_folder: Path, tmp_path: Path) -> None:
    from ultralytics import YOLO

    frames = random_frames((288, 360), (480, 270))
    named = tmp_path / "yolov8n.yaml"  # ultralytics takes the size from the name
    named.write_bytes((yolo_folder / "config.yaml").read_bytes())
    model: Any = cast(Any, YOLO)(str(named), task="detect", verbose=False)
    model.model.load_state_dict(safetensors.torch.load_file(yolo_folder / "model.safetensors"))
    ours = YoloFaceDetector(yolo_folder).detect(frames)
    for frame, found in zip(frames, ours, strict=True):
        bgr = np.ascontiguousarray(frame[..., ::-1])
        result = model.predict(bgr, conf=0.01, iou=0.5, imgsz=640, rect=False, device="cpu", verbose=False, save=False)
        expected = result[0].boxes.data[:, :5].numpy()
        assert len(expected) > 1
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-2)


def test_yolo_boxes_do_not_depend_on_the_frames_beside_them(yolo_folder: Path) -> None:
    detector = YoloFaceDetector(yolo_folder)
    frames = random_frames((288, 360), (480, 270), (100, 640))
    together = detector.detect(frames)
    for frame, found in zip(frames, together, strict=True):
        np.testing.assert_allclose(detector.detect([frame])[0], found, rtol=1e-5, atol=1e-3)
    assert detector.detect([]) == []


def test_a_yolo_folder_that_makes_no_detector_is_refused(yolo_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"neither config\.yaml"):
        YoloFaceDetector(tmp_path)
    description = cast(dict[str, Any], yaml.safe_load((yolo_folder / "config.yaml").read_text()))
    weights = (yolo_folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights)
    for change in ({"nc": 3}, {"activation": "__import__('os').system('true')"}):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(description | change))
        with pytest.raises(BackboneError, match="do not make a detector"):
            YoloFaceDetector(tmp_path)


def test_a_file_that_is_no_onnx_network_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(BackboneError, match=r"model\.onnx can't be read"):
        YoloFaceDetector(tmp_path)


class OneBox(nn.Module):
    """One box, in the letterboxed square's pixels, whatever the picture."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        box = torch.tensor([320, 320, 64, 128, 0.9])  # centre, size, score
        return images[:, 0, 0, 0, None, None] * 0 + torch.nn.functional.pad(box[:, None], (7, 8392))


@pytest.mark.filterwarnings("ignore")  # of the older exporter
@pytest.mark.parametrize("batches", [{}, {"images": {0: "batch"}}])
def test_onnx_predictions_become_boxes_of_the_frame(batches: dict[str, dict[int, str]], tmp_path: Path) -> None:
    """Of files that take one image and of files that take many."""
    square = (torch.zeros(1, 3, 640, 640),)
    cast(Any, torch.onnx).export(
        OneBox(), square, tmp_path / "model.onnx", input_names=["images"], dynamic_axes=batches, dynamo=False
    )
    frames = [np.zeros((160, 320, 3), np.uint8), np.full((320, 320, 3), 255, np.uint8)]
    found = YoloFaceDetector(tmp_path).detect(frames)
    np.testing.assert_allclose(found[0], [[144, 48, 176, 112, 0.9]], atol=1e-3)  # half of it, 160 rows of padding off
    np.testing.assert_allclose(found[1], [[144, 128, 176, 192, 0.9]], atol=1e-3)


def test_ultralytics_is_imported_without_network_noise_or_files_at_home(tmp_path: Path) -> None:
    script = """
import os, socket, sys
def refuse(*_): raise AssertionError("network")
socket.getaddrinfo = socket.create_connection = refuse
from twominds.media.faces import prepare_ultralytics
prepare_ultralytics()
import ultralytics.nn.tasks
assert "OMP_NUM_THREADS" not in os.environ
"""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("YOLO_", "XDG_", "OMP_"))}
    environment |= {"HOME": str(home), "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= {"MPLCONFIGDIR": str(tmp_path / "matplotlib")}
    done = subprocess.run([sys.executable, "-c", script], cwd=work, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert not [path for path in home.rglob("*") if "ltralytics" in path.name]
    assert not list(work.iterdir())


def test_yunet_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"detect\.yunet"):
        YuNetFaceDetector(tmp_path)


@pytest.fixture
def yunet(shared_media: Path, tmp_path: Path) -> YuNetFaceDetector:
    (tmp_path / "model.onnx").write_bytes((shared_media / "models" / "yunet_n_dynamic.onnx").read_bytes())
    return YuNetFaceDetector(tmp_path)


def test_yunet_boxes_are_in_the_pixels_of_the_frame(yunet: YuNetFaceDetector, shared_media: Path) -> None:
    capture = cv2.VideoCapture(str(shared_media / "clips" / "fer_noaudio.mp4"))
    frame = cast(ByteArray, cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB))
    capture.release()
    doubled = cast(ByteArray, cv2.resize(frame, None, fx=3, fy=3))  # above 640: shrunk before it is looked at
    one, two, none = yunet.detect([frame, doubled, np.zeros((90, 120, 3), np.uint8)])
    assert len(one) >= 1
    assert none.shape == (0, 5)
    first, second = largest_box(one, 10_000, 10_000), largest_box(two, 10_000, 10_000)
    assert first is not None
    assert second is not None
    np.testing.assert_allclose(np.array(second) / 3, first, atol=12)


@pytest.fixture
def write_crops(tmp_path: Path) -> Callable[[list[int]], str]:
    def write(numbers: list[int]) -> str:
        folder = tmp_path / "a clip.mp4"
        folder.mkdir()
        for number in numbers:
            cv2.imwrite(str(folder / f"frame-{number}.jpg"), np.full((256, 256, 3), number, np.uint8))
        (folder / "notes.txt").touch()
        return str(folder)

    return write


def test_the_corpus_own_crops_are_sampled_by_their_numbers(write_crops: Callable[[list[int]], str]) -> None:
    uri = write_crops(list(range(120)))
    faces = CorpusFaceCrops().read(uri, count=30, size_px=224)
    assert faces is not None
    assert faces.crops.shape == (30, 224, 224, 3)
    assert faces.detected.all()
    np.testing.assert_allclose(faces.crops.mean(axis=(1, 2, 3)), [4 * k + 2 for k in range(30)], atol=1)


def test_a_crop_that_is_no_image_is_replaced_and_recorded(write_crops: Callable[[list[int]], str]) -> None:
    uri = write_crops([10, 20, 30])
    (Path(uri) / "frame-20.jpg").write_bytes(b"broken")
    (Path(uri) / "frame-10.jpg").write_bytes(b"")
    faces = CorpusFaceCrops().read(uri, count=3, size_px=32)
    assert faces is not None
    assert faces.detected.tolist() == [False, False, True]
    np.testing.assert_allclose(faces.crops.mean(axis=(1, 2, 3)), 30, atol=1)
    assert CorpusFaceCrops().read(f"{uri}/none", count=3, size_px=32) is None

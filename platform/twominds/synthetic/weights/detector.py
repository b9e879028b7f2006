"""A small YOLO that really finds drawn faces: trained in about a minute when the bundle is made.

Ultralytics' own `DetectionModel` and loss (`v8DetectionLoss`) in a plain loop; one detection layer at stride 32, since
faces of people who talk to a camera are large. The recipe's rule is a hard one for a detector: of all boxes with a
confidence above 0.01 the LARGEST is the face (LEYA, section 3.2), so a single unsure box that is too large spoils a
frame. Therefore the class logit is calibrated at the end, on drawn pictures that were not trained on: 0.01 lies where
that rule is right most often, and a typical face has 0.9. The detector knows nothing but where drawn faces are.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
import yaml
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] open PathLike
from torch import Tensor, nn

from twominds.media.faces import prepare_ultralytics
from twominds.records import ByteArray, FloatArray
from twominds.synthetic.weights.drawn import drawn_pictures

ARCHITECTURE: dict[str, Any] = {
    "nc": 1,
    "depth_multiple": 1.0,
    "width_multiple": 1.0,
    "backbone": [
        [-1, 1, "Conv", [16, 5, 4, 2]],
        [-1, 1, "Conv", [24, 3, 2]],
        [-1, 1, "Conv", [48, 3, 2]],
        [-1, 1, "C2f", [48, True]],
        [-1, 1, "Conv", [80, 3, 2]],
        [-1, 1, "C2f", [80, True]],
        [-1, 1, "SPPF", [80, 5]],
    ],
    "head": [[[6], 1, "Detect", ["nc"]]],
}
CONFIDENCE, IOU, SIDE_PX = 0.01, 0.5, 640
"""How the recipe runs the detector."""
TYPICAL_LOGIT = 2.2
"""Confidence 0.9."""

Picture = tuple[ByteArray, FloatArray]


def train_detector(folder: Path, *, steps: int, pictures: int, seed: int) -> None:
    """Train the detector and write config.yaml and model.safetensors into `folder`.

    Args:
        folder: Folder for the two files.
        steps: Optimizer steps of 8 pictures (AdamW, one cycle up to a learning rate of 4e-3).
        pictures: Different pictures that are drawn for it.
        seed: Everything random follows from it.
    """
    prepare_ultralytics()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _build()
        rng = np.random.default_rng([seed, 4])
        _fit(model, drawn_pictures(rng, pictures), rng, steps)
        _calibrate_confidence(model, drawn_pictures(rng, 64, faces=1) + drawn_pictures(rng, 16, faces=0))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(ARCHITECTURE, sort_keys=False))
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")


def _build() -> nn.Module:
    tasks, settings = (cast(Any, importlib.import_module(f"ultralytics.{name}")) for name in ("nn.tasks", "cfg"))
    model = tasks.DetectionModel(ARCHITECTURE, ch=3, verbose=False)
    model.args = settings.get_cfg()
    model.args.cls = 1.0  # one class: what is no face matters more than for COCO
    return cast(nn.Module, model)


def _fit(model: nn.Module, pictures: list[Picture], rng: np.random.Generator, steps: int) -> None:
    model.train().to(memory_format=cast(Any, torch.channels_last))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.15)
    for batch in _batches(pictures, rng, steps):
        loss, _ = cast(Any, model).loss(batch)
        optimizer.zero_grad()
        loss.sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    model.eval().to(memory_format=cast(Any, torch.contiguous_format))


def _batches(pictures: list[Picture], rng: np.random.Generator, steps: int) -> Iterator[dict[str, Tensor]]:
    """Batches of 8 in the form of ultralytics' loss, at the recipe's scale and at smaller ones."""
    for _ in range(steps):
        size = (SIDE_PX, SIDE_PX * 3 // 4) if rng.random() < 0.6 else (512, 384)
        bars = 80 if rng.random() < 0.4 else 0  # as when the frame is padded to a square
        images: list[ByteArray] = []
        owners: list[int] = []
        boxes: list[npt.NDArray[np.float64]] = []
        for index, chosen in enumerate(rng.integers(0, len(pictures), 8)):
            image, faces = _augment(pictures[int(chosen)], rng)
            images.append(_scaled(image, size, bars))
            height, width = image.shape[:2]
            corners = faces * np.array([size[0] / width, size[1] / height] * 2) + np.array([0, bars, 0, bars])
            corners /= np.array([size[0], size[1] + 2 * bars] * 2)
            boxes.extend(np.hstack([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]]))
            owners.extend([index] * len(faces))
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div_(255)
        brightness = torch.empty(8, 1, 1, 1).uniform_(0.7, 1.3)
        tint = torch.empty(8, 3, 1, 1).uniform_(-0.08, 0.08)
        yield {
            "img": pixels.mul_(brightness).add_(tint).clamp_(0, 1),  # in place: it is 39 MB
            "batch_idx": torch.tensor(owners, dtype=torch.float32),
            "cls": torch.zeros(len(owners), 1),
            "bboxes": torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4)),
        }


def _scaled(image: ByteArray, size: tuple[int, int], bars: int) -> ByteArray:
    """The image at (width, height), between grey bars as ultralytics' letterbox draws them."""
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return np.pad(np.asarray(scaled, np.uint8), ((bars, bars), (0, 0), (0, 0)), constant_values=114)


def _augment(picture: Picture, rng: np.random.Generator) -> Picture:
    """Mirror half of the pictures, zoom into a quarter of them (never cutting a face in two)."""
    image, boxes = picture[0], picture[1].copy()
    height, width = (int(side) for side in image.shape[:2])
    if rng.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    if rng.random() < 0.25:
        zoom = float(rng.uniform(1.0, 1.6))
        wide, high = int(width / zoom), int(height / zoom)
        left, top = int(rng.integers(0, width - wide + 1)), int(rng.integers(0, height - high + 1))
        inside = np.clip(boxes - np.array([left, top, left, top]), 0, [wide, high, wide, high]).astype(np.float32)
        visible = _areas(inside) / np.maximum(_areas(boxes), 1e-6)
        if not ((visible > 0.02) & (visible < 0.6)).any():
            return image[top : top + high, left : left + wide], inside[visible >= 0.6]
    return image, boxes


def _calibrate_confidence(model: nn.Module, pictures: list[Picture]) -> None:
    """Shift and stretch the class logit, which changes no order of boxes.

    0.01 comes to lie at the confidence from which the recipe's rule is right on most of `pictures`, and 0.9 at the
    median of the best box of those with a face.
    """
    nms = cast(Any, importlib.import_module("ultralytics.utils.nms"))
    predictions = torch.cat([_predict(model, image) for image, _ in pictures])
    shifts = np.arange(0.0, 5.01, 0.25)
    right: list[int] = []
    for shift in shifts:
        shifted = predictions.clone()
        shifted[:, 4:] = torch.sigmoid(torch.logit(shifted[:, 4:].clamp(1e-7, 1 - 1e-7)) - float(shift))
        kept = cast(list[Tensor], nms.non_max_suppression(shifted, CONFIDENCE, IOU, max_time_img=60.0))
        right.append(sum(_is_right(found.numpy(), faces) for found, (_, faces) in zip(kept, pictures, strict=True)))
    best = np.flatnonzero(np.array(right) == max(right))
    threshold = float(np.log(CONFIDENCE / (1 - CONFIDENCE)))
    zero = threshold + float(shifts[best[len(best) // 2]])  # the raw logit that becomes 0.01
    with_face = torch.tensor([len(faces) > 0 for _, faces in pictures])
    typical = float(torch.logit(predictions[with_face, 4].amax(dim=1).clamp(1e-7, 1 - 1e-7)).median())
    stretch = max(1.0, (TYPICAL_LOGIT - threshold) / max(typical - zero, 0.1))
    detect = cast(Any, model).model[-1]
    with torch.no_grad():
        for branch in detect.cv3:
            branch[-1].weight.mul_(stretch)
            branch[-1].bias.sub_(zero).mul_(stretch).add_(threshold)


@torch.inference_mode()
def _predict(model: nn.Module, image: ByteArray) -> Tensor:
    """Raw predictions [1, 5, anchors] for a picture padded to the recipe's square."""
    square = _scaled(image, (SIDE_PX, SIDE_PX * 3 // 4), SIDE_PX // 8)
    output = model(torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255)
    return cast(Tensor, output[0] if isinstance(output, tuple | list) else output).clone()


def _is_right(found: FloatArray, faces: FloatArray) -> bool:
    """Whether the largest box is the largest face, or both are missing."""
    if not len(faces) or not len(found):
        return len(faces) == len(found)
    largest = found[np.argmax(_areas(found[:, :4])), :4]
    face = faces[0] * 2.0 + np.array([0, SIDE_PX // 8, 0, SIDE_PX // 8], np.float32)  # pictures are half as wide
    corners = np.concatenate([np.maximum(largest[:2], face[:2]), np.minimum(largest[2:], face[2:])])
    shared = float(np.prod(np.maximum(corners[2:] - corners[:2], 0.0)))
    return shared / float(_areas(largest[None])[0] + _areas(face[None])[0] - shared) >= IOU


def _areas(boxes: FloatArray) -> FloatArray:
    return np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1, dtype=np.float32)

"""Where the face is in a frame: YOLO (the paper's), YuNet (for those who can't take AGPL), or the corpus's own crops.

LEYA, section 3.2: of a frame's boxes the largest is the face; a frame without a box is taken whole.
"""

import importlib
import logging
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import cv2
import numpy as np
import safetensors.torch
import torch
import yaml
from upath import UPath

from twominds.backbones.onnx_files import OnnxNetwork, image_network
from twominds.errors import BackboneError
from twominds.media.decode import uniform_positions
from twominds.records import BoolArray, ByteArray, FloatArray


class FaceDetector(Protocol):
    """Finds faces. Frames are independent of each other: nothing is tracked."""

    def detect(self, frames: Sequence[ByteArray]) -> list[FloatArray]:
        """For each frame (uint8 [H, W, 3] RGB) its boxes, float32 [n, 5]: x0, y0, x1, y1 in pixels, score."""
        ...


@dataclass(frozen=True, kw_only=True)
class FaceCrops:
    """The faces of a clip."""

    crops: ByteArray
    """[F, size, size, 3] RGB; a frame without a face is there whole."""
    detected: BoolArray
    """[F]: which crops are a face that was found."""
    scores: FloatArray
    """[F]: the best score of the frame's boxes, 0 where there is none."""
    numbers: tuple[int, ...] | None = None
    """[F]: which of the clip's frames, from 0, the corpus's own crops were cut from; None for those of a detector."""


def crop_faces(frames: Sequence[ByteArray], boxes: Sequence[FloatArray], size_px: int) -> FaceCrops:
    """Cut the largest box out of each frame [H, W, 3], or take the frame whole, resized to size_px x size_px."""
    found = [
        largest_box(of_frame, frame.shape[1], frame.shape[0]) for frame, of_frame in zip(frames, boxes, strict=True)
    ]
    crops = [
        resized_crop(frame if box is None else frame[box[1] : box[3], box[0] : box[2]], size_px)
        for frame, box in zip(frames, found, strict=True)
    ]
    return FaceCrops(
        crops=np.stack(crops),
        detected=np.array([box is not None for box in found]),
        scores=np.array([of_frame[:, 4].max(initial=0.0) for of_frame in boxes], np.float32),
    )


def largest_box(boxes: FloatArray, width: int, height: int) -> tuple[int, int, int, int] | None:
    """The box [n, 5] with the largest area inside the frame, as whole pixels x0, y0, x1, y1 (the last excluded).

    None without a box of at least 2x2 pixels.
    """
    limits = np.array([width, height, width, height], np.float32)
    clipped = np.rint(np.clip(boxes[:, :4], 0, limits)).astype(int)
    sides = clipped[:, 2:] - clipped[:, :2]
    areas = np.where((sides >= 2).all(axis=1), sides.prod(axis=1), 0)
    if not areas.any():
        return None
    x0, y0, x1, y1 = (int(value) for value in clipped[areas.argmax()])
    return x0, y0, x1, y1


def resized_crop(image: ByteArray, size_px: int) -> ByteArray:
    """A crop as a square: [H, W, 3] -> [size, size, 3]."""
    shrinks = min(image.shape[:2]) > size_px
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cast(ByteArray, cv2.resize(image, (size_px, size_px), interpolation=interpolation))


def prepare_ultralytics() -> None:
    """Call before the first `import ultralytics`: keeps it silent, off the network and out of the user's home.

    As it is, importing it looks hosts up, writes settings under the home folder, and may install packages or send
    usage figures later. What the user has set in the environment stays. Its settings go to the temporary folder.
    """
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("YOLO_CONFIG_DIR", str(Path(tempfile.gettempdir()) / f"twominds-ultralytics-{os.getuid()}"))
    threads = os.environ.get("OMP_NUM_THREADS")
    importlib.import_module("ultralytics.utils")
    logging.getLogger("ultralytics").setLevel(logging.ERROR)
    if threads is None:  # importing it sets 1, which every process started later would inherit
        os.environ.pop("OMP_NUM_THREADS", None)


class YoloFaceDetector:
    """A one-class YOLO run with ultralytics' own letterbox and non-maximum suppression.

    The settings of LEYA's public code: confidence 0.01, IoU 0.5, 640 pixels; each frame by itself. Every frame is
    padded to the full square, so that its boxes do not depend on the frames beside it.
    """

    def __init__(
        self, folder: Path, *, confidence: float = 0.01, iou: float = 0.5, size_px: int = 640, device: str = "cpu"
    ) -> None:
        """Load the detector from `folder`.

        It holds `config.yaml` (an ultralytics model description with one class) and `model.safetensors` (its
        state), or `model.onnx`.

        Raises:
            BackboneError: neither is there, they do not fit each other, or can't be read.
        """
        prepare_ultralytics()
        importlib.import_module("torchvision")  # else ultralytics falls back to a suppression of its own
        self._letterbox = cast(Any, importlib.import_module("ultralytics.data.augment")).LetterBox((size_px, size_px))
        self._suppress = cast(Any, importlib.import_module("ultralytics.utils.nms")).non_max_suppression
        self._scale_boxes = cast(Any, importlib.import_module("ultralytics.utils.ops")).scale_boxes
        self._size_px, self._confidence, self._iou, self._device = size_px, confidence, iou, device
        self._end2end = False
        if (folder / "model.safetensors").is_file() and (folder / "config.yaml").is_file():
            model = yolo_network(folder)
            self._end2end = bool(getattr(model, "end2end", False))
            self._network = image_network(model, size_px, device)
        elif (folder / "model.onnx").is_file():
            self._network = OnnxNetwork(folder / "model.onnx")
        else:
            raise BackboneError(
                f"detect.yolo_face in {folder} has neither config.yaml with model.safetensors nor model.onnx. "
                "`python jobs/fetch_models.py` or `python jobs/make_debug_models.py` makes it."
            )

    def detect(self, frames: Sequence[ByteArray]) -> list[FloatArray]:
        """See `FaceDetector`."""
        boxes: list[FloatArray] = []
        size = 4 if self._device == "cpu" else 15  # frames at once: more leave a processor's caches
        for start in range(0, len(frames), size):
            batch = frames[start : start + size]
            squares = np.stack([cast(ByteArray, self._letterbox(image=frame)) for frame in batch])
            pixels = torch.from_numpy(squares).to(self._device).movedim(-1, 1).contiguous().float().div_(255)
            predictions = self._predict(pixels)
            boxes += [self._boxes_of(predictions[i : i + 1], frame) for i, frame in enumerate(batch)]
        return boxes

    @torch.inference_mode()
    def _predict(self, pixels: torch.Tensor) -> torch.Tensor:
        """Raw predictions [B, 4 + 1, anchors] (or [B, boxes, 6] of an end-to-end model) for [B, 3, size, size]."""
        return self._network(pixels)

    def _boxes_of(self, prediction: torch.Tensor, frame: ByteArray) -> FloatArray:
        # One frame at a time: over a batch, ultralytics stops at a time limit and leaves the remaining frames empty.
        kept: torch.Tensor = self._suppress(prediction.clone(), self._confidence, self._iou, end2end=self._end2end)[0]
        kept[:, :4] = self._scale_boxes((self._size_px, self._size_px), kept[:, :4], frame.shape[:2])
        return kept[:, :5].cpu().numpy().astype(np.float32)


def yolo_network(folder: Path) -> torch.nn.Module:
    """Build the network from its description and fill it, without unpickling anything."""
    tasks = cast(Any, importlib.import_module("ultralytics.nn.tasks"))
    try:
        description = cast(dict[str, Any], yaml.safe_load((folder / "config.yaml").read_text()))
        activation = description.get("activation")
        if activation and not re.fullmatch(r"(torch\.)?nn\.\w+\([\w=., ]*\)", activation):  # ultralytics evaluates it
            raise ValueError(f"activation {activation!r} is none of torch.nn")
        model = tasks.DetectionModel(description, verbose=False)
        model.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"))
    except Exception as error:  # whatever ultralytics raises about a description that it cannot build
        raise BackboneError(
            f"detect.yolo_face in {folder}: config.yaml and model.safetensors do not make a detector "
            f"({str(error).partition(chr(10))[0]}). Make or fetch it again."
        ) from error
    return cast(torch.nn.Module, model.eval().fuse(verbose=False))


class YuNetFaceDetector:
    """OpenCV's YuNet (Wu et al. 2023), under a permissive licence."""

    def __init__(self, folder: Path, *, confidence: float = 0.6, iou: float = 0.3, size_px: int = 640) -> None:
        """Load `model.onnx` from `folder`; frames are shrunk to a long side of `size_px` first.

        Raises:
            BackboneError: the model is missing or OpenCV cannot read it.
        """
        self._size_px = size_px
        try:
            self._net = cv2.FaceDetectorYN.create(str(folder / "model.onnx"), "", (size_px, size_px), confidence, iou)
        except cv2.error as error:
            raise BackboneError(
                f"detect.yunet: {folder / 'model.onnx'} is missing or no YuNet model. Fetch or import it again."
            ) from error

    def detect(self, frames: Sequence[ByteArray]) -> list[FloatArray]:
        """See `FaceDetector`."""
        return [self._detect_one(frame) for frame in frames]

    def _detect_one(self, frame: ByteArray) -> FloatArray:
        height, width = frame.shape[:2]
        scale = min(1.0, self._size_px / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        if scale < 1:
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        self._net.setInputSize(size)
        rows = cast(FloatArray | None, self._net.detect(image)[1])  # x, y, w, h, five landmarks, score
        if rows is None:
            return np.empty((0, 5), np.float32)
        boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        boxes *= np.array([width / size[0], height / size[1]] * 2, np.float32)
        return np.concatenate([boxes, rows[:, 14:]], axis=1).astype(np.float32)


_CROP_NAMES = (
    (re.compile(r"frame-(\d+)\.jpe?g"), 0),
    (re.compile(r"(\d{5,})\.jpe?g"), 1),
    (re.compile(r"(\d+)\.jpe?g"), 0),
)
"""How files of crops are called, and the number of the first frame: BAH's, Aff-Wild2's, and Hume-Vidmimic2's (of which
every fifth frame may be there)."""


def numbered_crops(folder_uri: str) -> dict[int, UPath]:
    """The corpus's crops of one clip by the number of their frame, from 0, in order; empty where there are none."""
    folder = UPath(folder_uri)
    names = sorted(folder.iterdir(), key=lambda path: path.name) if folder.is_dir() else []
    found: dict[int, UPath] = {}
    for path in names:
        for pattern, first in _CROP_NAMES:
            if match := pattern.fullmatch(path.name):
                found[int(match[1]) - first] = path
                break
    return dict(sorted((number, path) for number, path in found.items() if number >= 0))


class CorpusFaceCrops:
    """The crops that come with a corpus (`numbered_crops`), in place of a detector.

    BAH's repeat the face before where their own detector found none, which cannot be told from the files.
    """

    def read(self, folder_uri: str, *, count: int, size_px: int) -> FaceCrops | None:
        """`count` crops uniform over the folder's frame numbers, as `decode` cuts time: midpoints of equal segments.

        A file that is no image is replaced by the crop before it (the first good one at the beginning) and is not
        counted as detected. None where the folder has no image.
        """
        numbered = numbered_crops(folder_uri)
        numbers = list(numbered)
        chosen = tuple(numbers[i] for i in uniform_positions(0, len(numbers), count)) if numbers else ()
        images = [read_crop(numbered[number]) for number in chosen]
        last = next((image for image in images if image is not None), None)
        if last is None:
            return None
        crops: list[ByteArray] = []
        for image in images:
            last = last if image is None else image
            crops.append(resized_crop(last, size_px))
        detected = np.array([image is not None for image in images])
        return FaceCrops(crops=np.stack(crops), detected=detected, scores=detected.astype(np.float32), numbers=chosen)


def read_crop(path: UPath) -> ByteArray | None:
    """RGB [H, W, 3] of a file; None where it is no image."""
    image = (
        cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB) if path.stat().st_size else None
    )
    return cast(ByteArray | None, image)

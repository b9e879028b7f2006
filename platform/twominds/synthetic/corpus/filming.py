"""Turns what people do in a clip into its files: who is in the picture when, the video, and the face crops."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from twominds.records import ByteArray, FloatArray
from twominds.synthetic.corpus.casting import pick, random_appearance, random_expression
from twominds.synthetic.corpus.config import SyntheticCorpusConfig
from twominds.synthetic.corpus.drawing import Person, Pose, Scene, draw_frame
from twominds.synthetic.corpus.plan import ClipPlan, crop_folders
from twominds.synthetic.corpus.video import truncate, write_video
from twominds.synthetic.corpus.voice import Speech, smooth_noise

_Curve = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CropFiles:
    """Where the face crops of a clip go."""

    folders: tuple[Path, ...]
    """One per person, from left to right."""
    name: str
    """Pattern of a file's name, with the number of the `frame`, from 0."""
    repeats: bool
    """Whether the face before stands in for one that is not to be seen."""
    side_px: int


def frame_times(rng: np.random.Generator, plan: ClipPlan, fps: float) -> _Curve:
    """When each frame of a clip is shown."""
    count = max(round(plan.duration_s * fps), 2)
    if "variable_frame_rate" not in plan.nuisances:
        return np.arange(count) / fps
    steps = rng.choice((0.5, 1.0, 1.5, 3.0), size=count - 1, p=(0.3, 0.4, 0.2, 0.1))
    return np.concatenate([[0.0], np.cumsum(steps * (count - 1) / steps.sum())]) / fps


def length_s(plan: ClipPlan, times_s: _Curve, fps: float) -> float:
    """The seconds of a clip."""
    return len(times_s) / fps if "variable_frame_rate" not in plan.nuisances else float(times_s[-1])


def cast_scenes(
    rng: np.random.Generator, plan: ClipPlan, people: list[Person], times_s: _Curve
) -> Iterator[tuple[Person, ...]]:
    """Who is in each frame."""
    if "no_face" in plan.nuisances:
        yield from (() for _ in people)
    elif "face_leaves" in plan.nuisances:
        start, length = float(rng.uniform(0.1, 0.5)) * times_s[-1], 0.4 * times_s[-1]
        away = np.clip(np.minimum(times_s - start, start + length - times_s) / 0.3, 0.0, 1.0)
        side = pick(rng, (-1.4, 1.4))
        for person, part in zip(people, away.tolist(), strict=True):
            yield (replace(person, pose=replace(person.pose, x=person.pose.x + side * part)),)
    elif "two_faces" in plan.nuisances:
        side = pick(rng, (-1.0, 1.0))
        other = Person(
            appearance=random_appearance(rng),
            pose=Pose(x=0.5 * side, y=0.32, head_height=0.24),
            expression=random_expression(rng),
        )
        drift = 0.02 * smooth_noise(rng, times_s, 0.5)
        for person, shift in zip(people, drift.tolist(), strict=True):
            behind = replace(other, pose=replace(other.pose, x=other.pose.x + shift))
            yield behind, replace(person, pose=replace(person.pose, x=person.pose.x - 0.12 * side))
    else:
        yield from ((person,) for person in people)


def film(
    config: SyntheticCorpusConfig, plan: ClipPlan, root: Path, scenes: list[Scene], speech: Speech, times_s: _Curve
) -> None:
    """Writes a clip's video (and face crops) below `root`, with the defects that it is to have."""
    file = root / plan.clip_id
    sound: FloatArray | None = speech.samples
    if "no_audio" in plan.nuisances:
        sound = None
    elif "silence" in plan.nuisances:
        sound = np.zeros_like(speech.samples)
    if "not_video" in plan.nuisances:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("This is a text file that somebody named .mp4.\n" * 50, encoding="utf-8")
        return
    size = (config.width, config.height)
    frames = _frames(scenes, size, _crop_files(config, plan, root) if config.face_crops else None)
    write_video(file, frames, times_s.tolist(), sound, size=size, rotated="rotated" in plan.nuisances)
    if "truncated" in plan.nuisances:
        truncate(file)


def _crop_files(config: SyntheticCorpusConfig, plan: ClipPlan, root: Path) -> CropFiles:
    return CropFiles(
        folders=tuple(root / folder for folder in crop_folders(config.layout, plan)),
        name="{frame1:05d}.jpg" if config.layout == "expr" else "frame-{frame}.jpg",
        repeats=config.layout != "expr",
        side_px=config.face_crop_px,
    )


def _frames(scenes: list[Scene], size: tuple[int, int], crops: CropFiles | None) -> Iterator[ByteArray]:
    """The pictures; also writes the face crops."""
    for folder in crops.folders if crops is not None else ():
        folder.mkdir(parents=True, exist_ok=True)
    before: list[ByteArray] = []
    for number, scene in enumerate(scenes):
        image, boxes = draw_frame(scene, size)
        if crops is not None:
            people = len(crops.folders)
            found = boxes[:1] if people == 1 else boxes[np.argsort(boxes[:, 0])]
            if len(found) == people:
                before = [_crop(image, box, crops.side_px) for box in found]
            elif not crops.repeats:
                before = []
            for folder, crop in zip(crops.folders, before, strict=False):
                cv2.imwrite(str(folder / crops.name.format(frame=number, frame1=number + 1)), crop[:, :, ::-1])
        yield image


def _crop(image: ByteArray, box: FloatArray, side_px: int) -> ByteArray:
    left, top, right, bottom = box.tolist()
    half = 0.55 * max(right - left, bottom - top)
    x, y = (left + right) / 2.0, (top + bottom) / 2.0
    scale = side_px / (2.0 * half)
    matrix = np.array([[scale, 0.0, scale * (half - x)], [0.0, scale, scale * (half - y)]])
    return np.asarray(
        cv2.warpAffine(image, matrix, (side_px, side_px), borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8
    )

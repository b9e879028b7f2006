"""Drawn people to calibrate random weights on, and to train the detector with: no corpus, no labels."""

from dataclasses import replace

import cv2
import numpy as np

from twominds.corpus.synthetic.casting import random_appearance, random_backdrop, random_pose, random_scene
from twominds.corpus.synthetic.casting import random_expression as random_face
from twominds.corpus.synthetic.drawing import Person, Pose, Scene, draw_frame
from twominds.records import ByteArray, FloatArray


def drawn_pictures(
    rng: np.random.Generator, count: int, faces: int | None = None
) -> list[tuple[ByteArray, FloatArray]]:
    """Pictures uint8 [240, 320, 3] with their face boxes float32 [n, 4], four to a room (rooms are slow to draw).

    Args:
        rng: Where the chance comes from.
        count: How many.
        faces: How many people in each; None: mostly one, sometimes none or two.
    """
    pictures: list[tuple[ByteArray, FloatArray]] = []
    backdrop = random_backdrop(rng)
    for index in range(count):
        if index % 4 == 0:
            backdrop = random_backdrop(rng)
        pictures.append(draw_frame(replace(random_scene(rng, faces), backdrop=backdrop)))
    return pictures


def drawn_faces(rng: np.random.Generator, count: int, size_px: int = 224) -> ByteArray:
    """Face crops uint8 [count, size, size, 3], cut at the box."""
    crops: list[ByteArray] = []
    while len(crops) < count:
        for picture, boxes in drawn_pictures(rng, 4, faces=1):
            if len(boxes):
                left, top, right, bottom = (round(float(edge)) for edge in boxes[0])
                crops.append(np.asarray(cv2.resize(picture[top:bottom, left:right], (size_px, size_px)), np.uint8))
    return np.stack(crops[:count])


def drawn_clips(rng: np.random.Generator, count: int, frames: int = 16, size_px: int = 224) -> ByteArray:
    """Clips uint8 [count, frames, size, size, 3] of one person each who moves from one pose to another and back."""
    clips: list[ByteArray] = []
    for _ in range(count):
        backdrop, appearance, face = random_backdrop(rng), random_appearance(rng), random_face(rng)
        start = random_pose(rng, float(rng.uniform(0.4, 0.6)))
        end = random_pose(rng, start.head_height)
        phases = np.cumsum(rng.uniform(0.0, 1.5, frames))
        poses = [_between(start, end, float(0.15 * (1.0 + np.sin(phase)))) for phase in phases]
        people = [Person(appearance=appearance, pose=pose, expression=face) for pose in poses]
        pictures = [draw_frame(Scene(backdrop=backdrop, people=(person,)))[0] for person in people]
        clips.append(np.stack([np.asarray(cv2.resize(one, (size_px, size_px)), np.uint8) for one in pictures]))
    return np.stack(clips)


def _between(start: Pose, end: Pose, share: float) -> Pose:
    moving = ("x", "y", "sway", "yaw", "pitch", "roll", "shrug", "hand")
    return replace(
        start, **{name: (1.0 - share) * getattr(start, name) + share * getattr(end, name) for name in moving}
    )

"""Drawn people to calibrate random weights on, and to train a detector on: no corpus, no A/H."""

from dataclasses import replace

import cv2
import numpy as np

from twominds.records import ByteArray, FloatArray
from twominds.synthetic.corpus.casting import (
    random_appearance,
    random_backdrop,
    random_expression,
    random_pose,
    random_scene,
)
from twominds.synthetic.corpus.drawing import Person, Pose, Scene, draw_frame


def drawn_pictures(
    rng: np.random.Generator, count: int, faces: int | None = None
) -> list[tuple[ByteArray, FloatArray]]:
    """Pictures uint8 [240, 320, 3] with their face boxes float32 [n, 4], four to a room (rooms are slow to draw).

    Args:
        rng: Where the chance comes from.
        count: Number of pictures.
        faces: How many people in each; None: mostly one, sometimes none or two.
    """
    pictures: list[tuple[ByteArray, FloatArray]] = []
    backdrop = random_backdrop(rng)
    for index in range(count):
        if index % 4 == 0:
            backdrop = random_backdrop(rng)
        pictures.append(draw_frame(replace(random_scene(rng, faces), backdrop=backdrop)))
    return pictures


def drawn_faces(rng: np.random.Generator, count: int, size_px: int) -> ByteArray:
    """Face crops uint8 [count, size, size, 3] of people who talk to the camera, all different."""
    crops: list[ByteArray] = []
    backdrop = random_backdrop(rng)
    while len(crops) < count:
        if len(crops) % 8 == 0:
            backdrop = random_backdrop(rng)
        pose = random_pose(rng, float(rng.uniform(0.4, 0.62)))
        pose = replace(pose, x=0.4 * pose.x, yaw=0.6 * pose.yaw, pitch=0.6 * pose.pitch, roll=0.8 * pose.roll)
        person = Person(appearance=random_appearance(rng), pose=pose, expression=random_expression(rng))
        picture, boxes = draw_frame(Scene(backdrop=backdrop, people=(person,)))
        if len(boxes):
            left, top, right, bottom = np.rint(boxes[0]).astype(int).tolist()
            crops.append(np.asarray(cv2.resize(picture[top:bottom, left:right], (size_px, size_px)), np.uint8))
    return np.stack(crops)


def drawn_clips(rng: np.random.Generator, count: int, frames: int = 16, size_px: int = 224) -> ByteArray:
    """Clips uint8 [count, frames, size, size, 3] of one person each who moves from one pose to another and back."""
    clips: list[ByteArray] = []
    for _ in range(count):
        backdrop, appearance, face = random_backdrop(rng), random_appearance(rng), random_expression(rng)
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

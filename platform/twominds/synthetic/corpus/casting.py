"""Random people, rooms and pictures of them: the variety of the corpus and of a face detector's training set."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from twominds.synthetic.corpus.anatomy import Anatomy, Expression
from twominds.synthetic.corpus.drawing import Appearance, HairStyle, Person, Pose, Scene
from twominds.synthetic.corpus.raster import Colour, mix
from twominds.synthetic.corpus.room import Backdrop, Room

_Choice = TypeVar("_Choice")

_HAIR: tuple[Colour, ...] = (
    (30, 25, 22),
    (66, 45, 32),
    (112, 78, 48),
    (190, 150, 90),
    (150, 70, 40),
    (160, 158, 155),
)
_SHIRTS: tuple[Colour, ...] = (
    (60, 80, 130),
    (140, 50, 50),
    (60, 110, 80),
    (190, 185, 175),
    (50, 50, 58),
    (120, 80, 120),
)
_WALLS: tuple[Colour, ...] = ((170, 175, 180), (205, 198, 185), (140, 155, 170), (120, 130, 115), (185, 165, 150))
_IRISES: tuple[Colour, ...] = ((70, 45, 30), (60, 90, 60), (80, 110, 150), (95, 75, 45))
_STYLES: tuple[HairStyle, ...] = ("short", "short", "long", "long", "bun", "bald")
_ROOMS: tuple[Room, ...] = ("plain", "shelf", "window", "blinds")


def pick(rng: np.random.Generator, choices: Sequence[_Choice]) -> _Choice:
    """One of `choices`, each as likely."""
    return choices[int(rng.integers(len(choices)))]


def _near(rng: np.random.Generator, colour: Colour, spread: int) -> Colour:
    red, green, blue = np.clip(np.asarray(colour) + rng.integers(-spread, spread + 1, 3), 0, 255).tolist()
    return red, green, blue


def random_appearance(rng: np.random.Generator) -> Appearance:
    """A person nobody has seen before."""
    skin = mix((248, 216, 192), (92, 60, 44), float(rng.beta(1.0, 1.6)))
    return Appearance(
        skin=skin,
        hair=_near(rng, pick(rng, _HAIR), 10),
        lips=mix(skin, (165, 55, 65), float(rng.uniform(0.45, 0.75))),
        iris=pick(rng, _IRISES),
        shirt=_near(rng, pick(rng, _SHIRTS), 25),
        hair_style=pick(rng, _STYLES),
        glasses=bool(rng.random() < 0.15),
        beard=float(rng.uniform(0.3, 1.0)) if rng.random() < 0.15 else 0.0,
        anatomy=Anatomy(
            aspect=float(rng.uniform(0.72, 0.82)),
            jaw=float(rng.uniform(0.1, 0.4)),
            eye_spacing=float(rng.uniform(0.37, 0.43)),
            eye_size=float(rng.uniform(0.9, 1.15)),
            brow_weight=float(rng.uniform(0.75, 1.35)),
            nose_length=float(rng.uniform(0.88, 1.12)),
            mouth_width=float(rng.uniform(0.88, 1.12)),
        ),
    )


def random_backdrop(rng: np.random.Generator) -> Backdrop:
    """A room and its light."""
    return Backdrop(
        wall=_near(rng, pick(rng, _WALLS), 20),
        accent=_near(rng, pick(rng, _HAIR), 40),
        room=pick(rng, _ROOMS),
        light_x=float(rng.uniform(-1.0, 1.0)),
        light=float(rng.uniform(0.2, 0.9)),
        layout=int(rng.integers(1 << 30)),
    )


def random_pose(rng: np.random.Generator, head_height: float) -> Pose:
    """Any pose the drawing is meant for, anywhere in the picture."""
    return Pose(
        x=float(rng.uniform(-0.4, 0.4)),
        y=float(rng.uniform(0.5 * head_height, 1.0 - 0.35 * head_height)),
        head_height=head_height,
        sway=float(rng.normal(0.0, 0.1)),
        yaw=float(np.clip(rng.normal(0.0, 0.3), -0.6, 0.6)),
        pitch=float(np.clip(rng.normal(0.0, 0.15), -0.3, 0.3)),
        roll=float(rng.normal(0.0, 0.15)),
        shrug=float(rng.beta(0.7, 1.5)),
        hand=float(rng.random()) if rng.random() < 0.3 else 0.0,
        hand_side=-1 if rng.random() < 0.5 else 1,
    )


def random_expression(rng: np.random.Generator) -> Expression:
    """An expression at random."""
    return Expression(
        mouth_open=float(rng.beta(0.8, 1.5)),
        smile=float(rng.uniform(-1.0, 1.0)),
        lip_press=float(rng.random()) if rng.random() < 0.3 else 0.0,
        brow_raise=float(rng.uniform(-1.0, 1.0)),
        brow_furrow=float(rng.random()) if rng.random() < 0.5 else 0.0,
        eye_open=0.0 if rng.random() < 0.05 else float(rng.uniform(0.4, 1.1)),
        gaze_x=float(rng.uniform(-1.0, 1.0)),
        gaze_y=float(rng.uniform(-1.0, 1.0)),
        flush=float(rng.uniform(-1.0, 1.0)),
    )


def random_scene(rng: np.random.Generator, faces: int | None = None) -> Scene:
    """A picture for training a face detector.

    Args:
        rng: Where the chance comes from.
        faces: How many people (0-2); by default 0, 1 or 2 with probability 0.15, 0.7 and 0.15. The second stands
            further back, beside the first. A face that is mostly out of the picture has no box.
    """
    count = faces if faces is not None else int(rng.choice(3, p=(0.15, 0.7, 0.15)))
    people: list[Person] = []
    if count == 2:
        people.append(_person(rng, random_pose(rng, float(rng.uniform(0.15, 0.32)))))
    if count >= 1:
        people.append(_person(rng, random_pose(rng, float(rng.uniform(0.25, 0.75 if count == 1 else 0.5)))))
    if count == 2:
        side = pick(rng, (-1.0, 1.0))
        back, front = people
        people = [
            replace(
                back, pose=replace(back.pose, x=-side * float(rng.uniform(0.35, 0.5)), y=float(rng.uniform(0.2, 0.4)))
            ),
            replace(front, pose=replace(front.pose, x=side * float(rng.uniform(0.1, 0.4)))),
        ]
    return Scene(backdrop=random_backdrop(rng), people=tuple(people))


def _person(rng: np.random.Generator, pose: Pose) -> Person:
    return Person(appearance=random_appearance(rng), pose=pose, expression=random_expression(rng))

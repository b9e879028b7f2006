"""The room behind a person, and its light."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

from twominds.records import ByteArray
from twominds.synthetic.corpus.raster import Colour, fill, mix

Room = Literal["plain", "shelf", "window", "blinds"]


@dataclass(frozen=True, kw_only=True)
class Backdrop:
    """The room behind the person."""

    wall: Colour = (170, 175, 180)
    accent: Colour = (110, 100, 90)
    room: Room = "plain"
    light_x: float = -0.5
    """Where the light comes from: -1 left .. 1 right."""
    light: float = 0.5
    """0 flat .. 1 strong."""
    layout: int = 0
    """Seeds where the shelves' books, the window's panes or the blinds' slats are."""


@lru_cache(maxsize=16)
def empty_room(backdrop: Backdrop, size: tuple[int, int]) -> ByteArray:
    """The empty room: uint8 [height, width, 3], lit from its side. Not to be written to."""
    width, height = size
    rng = np.random.default_rng(backdrop.layout)
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:] = backdrop.wall
    _furnish(image, backdrop, rng)
    image = np.asarray(cv2.GaussianBlur(image, (0, 0), max(height / 160.0, 0.6)), dtype=np.uint8)
    across = np.linspace(-1.0, 1.0, width)[None, :, None] * -backdrop.light_x
    down = np.linspace(-1.0, 1.0, height)[:, None, None]
    grain = rng.normal(0.0, 2.0, (height, width, 1))
    lit = image * (1.0 - backdrop.light * (0.16 + 0.2 * across + 0.1 * down)) + grain
    lit = np.clip(lit, 0, 255).astype(np.uint8)
    lit.setflags(write=False)
    return lit


def _furnish(image: ByteArray, backdrop: Backdrop, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]

    def box(left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        fill(image, corners * [width, height], colour)

    accent, dark = backdrop.accent, mix(backdrop.accent, (20, 20, 20), 0.5)
    if backdrop.room == "shelf":
        for top in (0.08, 0.38, 0.68):
            box(0.0, top + 0.24, 1.0, top + 0.27, dark)
            left = 0.0
            while left < 1.0:
                thickness, tall = rng.uniform(0.02, 0.05), rng.uniform(0.12, 0.23)
                box(left, top + 0.24 - tall, left + thickness, top + 0.24, _spine(rng, accent))
                left += thickness + (rng.uniform(0.0, 0.12) if rng.random() < 0.25 else 0.003)
    elif backdrop.room == "window":
        left, top = rng.uniform(0.02, 0.6), rng.uniform(0.02, 0.15)
        box(left, top, left + 0.34, top + 0.5, dark)
        for column, row in ((0, 0), (1, 0), (0, 1), (1, 1)):
            x, y = left + 0.015 + 0.16 * column, top + 0.02 + 0.24 * row
            box(x, y, x + 0.15, y + 0.22, mix((205, 225, 245), accent, 0.1 * (column + row)))
    elif backdrop.room == "blinds":
        step = rng.uniform(0.05, 0.09)
        for slat in np.arange(0.0, 1.0, step):
            box(0.0, float(slat), 1.0, float(slat) + 0.25 * step, mix(backdrop.wall, accent, 0.6))


def _spine(rng: np.random.Generator, accent: Colour) -> Colour:
    red, green, blue = rng.integers(30, 220, 3).tolist()
    return mix((red, green, blue), accent, 0.5)


@lru_cache(maxsize=32)
def sphere_shade(light_x: float, light: float) -> ByteArray:
    """Lambert shading of a ball lit from (light_x, -0.4, 0.8), 255 where nothing is darkened: uint8 [64, 64, 3]."""
    axis = np.linspace(-1.0, 1.0, 64)
    x, y = axis[None, :], axis[:, None]
    radius = np.square(x) + np.square(y)
    z = np.sqrt(np.clip(1.0 - 0.9 * radius, 0.0, None))
    direction = np.array([light_x, -0.4, 0.8])
    direction = direction / np.linalg.norm(direction)
    lit = np.clip(x * direction[0] + y * direction[1] + z * direction[2], 0.0, 1.0)
    darkness = light * 0.75 * (1.0 - lit) * np.clip((1.0 - radius) / 0.08, 0.0, 1.0)
    shade: ByteArray = np.asarray(np.round(255.0 * (1.0 - darkness)), dtype=np.uint8)
    return np.stack([shade] * 3, axis=2)

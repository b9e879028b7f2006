"""Moves a drawn person through a clip: the face and the body act out the clip's planted cues."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from twominds.synthetic.corpus.anatomy import Expression
from twominds.synthetic.corpus.casting import pick
from twominds.synthetic.corpus.drawing import Appearance, Person, Pose
from twominds.synthetic.corpus.voice import CONTROL_RATE_HZ, Speech, smooth_noise

_Curve = npt.NDArray[np.float64]

CONTRAST = 0.5
"""How much stronger (in latent units) the cues of face and body are inside a moment than outside it."""


@dataclass(frozen=True, kw_only=True)
class Acting:
    """What the face and the body of a clip are to show."""

    face: float
    """Latent of the face's hesitation."""
    body: float
    """Latent of the body's."""
    valence: float
    """-1 all unhappiness .. 1 all smile."""
    hesitant_face: bool = True
    """False: the face shows its valence alone (brows too), and no hesitation."""
    moments: Sequence[tuple[float, float]] = ()
    """(start, end) in seconds: where the cues are at their strongest."""
    face_contrast: float = CONTRAST
    """How much stronger the face's are there, around a mean that is `face`."""
    body_contrast: float = CONTRAST
    """How much stronger the body's are."""
    ramp_s: float = 0.0
    """How long it takes to get from one to the other."""


def intensity(latent: npt.ArrayLike) -> _Curve:
    """How much of a cue is seen, 0..1, of a latent in standard deviations: monotone, and wide over -2..2."""
    return 1.0 / (1.0 + np.exp(-1.3 * np.asarray(latent, dtype=np.float64)))


def in_moments(times_s: _Curve, moments: Sequence[tuple[float, float]]) -> npt.NDArray[np.bool_]:
    """Whether each time lies in a moment, ends included."""
    inside = np.zeros(len(times_s), dtype=np.bool_)
    for start, end in moments:
        inside |= (times_s >= start) & (times_s <= end)
    return inside


def animate(
    rng: np.random.Generator, appearance: Appearance, rest: Pose, acting: Acting, speech: Speech, times_s: _Curve
) -> list[Person]:
    """The person in each frame.

    Args:
        rng: Where the chance comes from.
        appearance: What the person looks like.
        rest: Where the person sits when still.
        acting: What is to be seen.
        speech: What is said: it moves the mouth.
        times_s: [frames] time of each frame.
    """
    inside = smoothed(in_moments(times_s, acting.moments).astype(np.float64), times_s, acting.ramp_s)
    inside -= inside.mean()
    face = intensity(acting.face + acting.face_contrast * inside)
    body = intensity(acting.body + acting.body_contrast * inside)

    def wander(rate_hz: float) -> _Curve:
        return smooth_noise(rng, times_s, rate_hz)

    def share(rate_hz: float) -> _Curve:
        """Uniform 0..1 over time, so that `x > share` holds for x of the time."""
        return 0.5 + 0.5 * np.tanh(0.9 * wander(rate_hz))

    position = np.clip(times_s * CONTROL_RATE_HZ, 0, len(speech.mouth) - 1)
    mouth = np.interp(position, np.arange(len(speech.mouth)), speech.mouth)
    if acting.hesitant_face:
        furrow = np.clip(1.1 * face - 0.1 + 0.06 * wander(1.0), 0.0, 1.0)
        press = np.clip(1.1 * face, 0.0, 1.0) * (1.0 - np.clip(3.0 * mouth, 0.0, 1.0))
        raised = 0.5 - 1.1 * face + 0.12 * wander(0.8)
        averted = _switch(face - share(0.7))
        wide = 1.1 - 0.5 * face
        flush = 2.0 * face - 1.0 + 0.05 * wander(0.5)
        smile = 0.5 * acting.valence + 0.08 * wander(0.5)
    else:
        furrow = np.clip(-0.9 * acting.valence + 0.05 * wander(1.0), 0.0, 1.0)
        press = np.zeros_like(mouth)
        raised = 0.6 * acting.valence + 0.08 * wander(0.8)
        averted = np.zeros_like(mouth)
        wide = np.full_like(mouth, 1.0)
        flush = -acting.valence + 0.05 * wander(0.5)
        smile = 0.95 * acting.valence + 0.04 * wander(0.5)
    look_x = averted * pick(rng, (-0.95, 0.95)) + 0.1 * wander(1.5)
    look_y = averted * pick(rng, (-0.5, 0.8)) + 0.08 * wander(1.5)
    eyes = wide * (1.0 - _blinks(rng, times_s))
    hand = _switch(1.15 * body - 0.15 - share(0.5))
    shrug = np.clip(body * (0.75 + 0.25 * wander(0.6)), 0.0, 1.0)
    x = rest.x + (0.01 + 0.1 * body) * wander(0.4)
    # Rocking from side to side: how far tells, and in a few seconds of a random walk it would not show.
    rocking = np.sin(2.0 * np.pi * (float(rng.uniform(0.8, 1.1)) * times_s + float(rng.random())))
    sway = (0.01 + 0.24 * body) * rocking + 0.02 * wander(0.9)
    yaw = rest.yaw + (0.05 + 0.2 * body) * wander(0.7)
    pitch = (0.04 + 0.05 * body) * wander(0.9)
    roll = (0.01 + 0.16 * body) * rocking + 0.02 * wander(0.8)
    lean = 1.0 + 0.4 * (0.5 - body) + 0.01 * wander(0.5)
    side = pick(rng, (-1, 1))
    return [
        Person(
            appearance=appearance,
            pose=replace(
                rest,
                x=float(x[frame]),
                y=rest.y - 0.02 * float(lean[frame] - 1.0),
                head_height=rest.head_height * float(lean[frame]),
                sway=float(sway[frame]),
                yaw=float(np.clip(yaw[frame], -0.55, 0.55)),
                pitch=float(np.clip(pitch[frame], -0.3, 0.3)),
                roll=float(np.clip(roll[frame], -0.45, 0.45)),
                shrug=float(shrug[frame]),
                hand=float(hand[frame]),
                hand_side=1 if side > 0 else -1,
            ),
            expression=Expression(
                mouth_open=float(mouth[frame]),
                smile=float(np.clip(smile[frame], -1.0, 1.0)),
                lip_press=float(press[frame]),
                brow_raise=float(np.clip(raised[frame], -1.0, 1.0)),
                brow_furrow=float(furrow[frame]),
                eye_open=float(np.clip(eyes[frame], 0.0, 1.2)),
                gaze_x=float(np.clip(look_x[frame], -1.0, 1.0)),
                gaze_y=float(np.clip(look_y[frame], -1.0, 1.0)),
                flush=float(np.clip(flush[frame], -1.0, 1.0)),
            ),
        )
        for frame in range(len(times_s))
    ]


def smoothed(curve: _Curve, times_s: _Curve, ramp_s: float) -> _Curve:
    """The curve with its steps drawn out to slopes of `ramp_s`, in whole frames, around where the steps are."""
    half = round(0.5 * ramp_s * len(times_s) / max(float(times_s[-1] - times_s[0]), 1e-6))
    if half < 1:
        return curve
    kernel = np.full(2 * half + 1, 1.0 / (2 * half + 1))
    return np.asarray(np.convolve(np.pad(curve, half, mode="edge"), kernel, mode="valid"), dtype=np.float64)


def _switch(margin: _Curve) -> _Curve:
    """0 where the margin is negative, 1 where it is positive, and a quick passage between."""
    return np.clip(0.5 + 5.0 * margin, 0.0, 1.0)


def _blinks(rng: np.random.Generator, times_s: _Curve) -> _Curve:
    """How shut the eyes are: a blink of 0.2 s about every 3 s."""
    shut = np.zeros_like(times_s)
    at_s = float(rng.exponential(3.0))
    while at_s < times_s[-1]:
        shut = np.maximum(shut, 1.0 - np.abs(times_s - at_s) / 0.1)
        at_s += 0.4 + float(rng.exponential(2.6))
    return np.clip(shut, 0.0, 1.0)

"""Draws one planned clip: words, voice, moving picture and file, and what is true of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from twominds.records import ByteArray, FloatArray
from twominds.synthetic.corpus.animation import Acting, animate, in_moments, intensity
from twominds.synthetic.corpus.casting import pick, random_appearance, random_backdrop, random_expression
from twominds.synthetic.corpus.config import PRESETS, SyntheticCorpusConfig
from twominds.synthetic.corpus.drawing import Person, Pose, Scene, draw_frame
from twominds.synthetic.corpus.phrases import as_sentences, feeling_clauses, hesitant_clauses
from twominds.synthetic.corpus.plan import ClipPlan, stream
from twominds.synthetic.corpus.video import truncate, write_video
from twominds.synthetic.corpus.voice import SpokenClause, random_speaker, smooth_noise, speak

_Curve = npt.NDArray[np.float64]

SEGMENT_MEAN_S, SEGMENT_STD_S = 4.25, 2.47
"""Length of an A/H segment in BAH."""


@dataclass(frozen=True, kw_only=True)
class DrawnClip:
    """What is true of a clip that was drawn."""

    plan: ClipPlan
    transcript: str
    clauses: tuple[SpokenClause, ...]
    moments: tuple[tuple[float, float], ...]
    """(start, end) in seconds of where the cues are strongest: the A/H segments of a clip with label 1."""
    frame_times_s: tuple[float, ...]
    pause_share: float
    cues: dict[str, list[str]]
    """What an annotator would note, by kind."""

    @property
    def segments(self) -> tuple[tuple[float, float], ...]:
        """The annotated A/H segments."""
        return self.moments if self.plan.label == 1 else ()

    @property
    def frame_labels(self) -> list[int]:
        """1 in the frames of a segment."""
        return in_moments(np.array(self.frame_times_s), self.segments).astype(int).tolist()


def draw_clip(config: SyntheticCorpusConfig, plan: ClipPlan, root: Path) -> DrawnClip:
    """Draws a clip and writes its video (and face crops) below `root`.

    Everything random comes from (seed, participant) for looks and voice, and from (seed, clip) for the rest.
    """
    cv2.setNumThreads(1)  # parallel over clips instead
    rng, person_rng = stream(config.seed, 2, plan.index), stream(config.seed, 1, plan.participant)
    appearance, speaker = random_appearance(person_rng), random_speaker(person_rng)
    backdrop = random_backdrop(person_rng)
    conflict = PRESETS[config.preset].labels == "disagreement"
    times_s = _frame_times(rng, plan, config.fps)
    duration_s = len(times_s) / config.fps if "variable_frame_rate" not in plan.nuisances else float(times_s[-1])
    moments = _moments(rng, duration_s)
    clauses = _clauses(rng, config, plan, conflict)
    speech = speak(rng, clauses, speaker, duration_s=duration_s, hesitation=float(intensity(plan.latents.audio)))
    acting = Acting(
        face=plan.latents.face,
        body=plan.latents.scene,
        valence=plan.face_valence * float(rng.uniform(0.8, 1.0)),
        hesitant_face=not conflict,
        moments=moments,
    )
    rest = Pose(
        x=float(rng.normal(0.0, 0.03)),
        y=float(rng.uniform(0.41, 0.45)),
        head_height=float(rng.uniform(0.5, 0.54)),
        yaw=float(rng.normal(0.0, 0.05)),
    )
    people = animate(rng, appearance, rest, acting, speech, times_s)
    scenes = [Scene(backdrop=backdrop, people=group) for group in _cast(rng, plan, people, times_s)]
    file = root / plan.clip_id
    sound: FloatArray | None = speech.samples
    if "no_audio" in plan.nuisances:
        sound = None
    elif "silence" in plan.nuisances:
        sound = np.zeros_like(speech.samples)
    crops = root / "cropped-aligned-faces" / plan.clip_id if config.face_crops else None
    size = (config.width, config.height)
    if "not_video" in plan.nuisances:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("This is a text file that somebody named .mp4.\n" * 50, encoding="utf-8")
    else:
        frames = _frames(scenes, size, crops, config.face_crop_px)
        write_video(file, frames, times_s.tolist(), sound, size=size, rotated="rotated" in plan.nuisances)
        if "truncated" in plan.nuisances:
            truncate(file)
    return DrawnClip(
        plan=plan,
        transcript=as_sentences(clauses),
        clauses=speech.clauses,
        moments=moments,
        frame_times_s=tuple(times_s.tolist()),
        pause_share=speech.pause_share,
        cues=_cues(plan, conflict),
    )


def _clauses(rng: np.random.Generator, config: SyntheticCorpusConfig, plan: ClipPlan, conflict: bool) -> list[str]:
    if "empty_transcript" in plan.nuisances:
        return []
    count = max(3, round(0.75 * config.clip_s))
    if conflict:
        return feeling_clauses(rng, plan.word_valence, count + 1)
    return hesitant_clauses(rng, float(intensity(plan.latents.text)), plan.word_valence, count)


def _frame_times(rng: np.random.Generator, plan: ClipPlan, fps: float) -> _Curve:
    count = max(round(plan.duration_s * fps), 2)
    if "variable_frame_rate" not in plan.nuisances:
        return np.arange(count) / fps
    steps = rng.choice((0.5, 1.0, 1.5, 3.0), size=count - 1, p=(0.3, 0.4, 0.2, 0.1))
    return np.concatenate([[0.0], np.cumsum(steps * (count - 1) / steps.sum())]) / fps


def _moments(rng: np.random.Generator, duration_s: float) -> tuple[tuple[float, float], ...]:
    """One stretch of the clip, or two of a long one; as in BAH, but inside the clip, to the millisecond."""
    count = 2 if duration_s > 12.0 and rng.random() < 0.5 else 1
    part = duration_s / count
    moments: list[tuple[float, float]] = []
    for index in range(count):
        length = float(np.clip(rng.normal(SEGMENT_MEAN_S, SEGMENT_STD_S), 0.2 * part, 0.6 * part))
        start = index * part + float(rng.uniform(0.05 * part, 0.95 * part - length))
        moments.append((round(start, 3), round(start + length, 3)))
    return tuple(moments)


def _cast(
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


def _frames(scenes: list[Scene], size: tuple[int, int], crops: Path | None, crop_px: int) -> Iterator[ByteArray]:
    """The pictures; also writes the face crops, which repeat the face before where none is found."""
    if crops is not None:
        crops.mkdir(parents=True, exist_ok=True)
    crop: ByteArray | None = None
    for number, scene in enumerate(scenes):
        image, boxes = draw_frame(scene, size)
        if crops is not None:
            if len(boxes):
                crop = _crop(image, boxes[0], crop_px)
            if crop is not None:
                cv2.imwrite(str(crops / f"frame-{number}.jpg"), crop[:, :, ::-1])
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


def _cues(plan: ClipPlan, conflict: bool) -> dict[str, list[str]]:
    """What an attentive annotator would note; a cue counts from the upper half of its range."""
    cues: dict[str, list[str]] = {kind: [] for kind in ("audio", "body", "facial", "inconsistencies", "language")}
    if plan.label == 1:
        if plan.latents.audio > 0:
            cues["audio"] = ["pauses", "fillers", "unsteady pitch"]
        if plan.latents.scene > 0:
            cues["body"] = ["sway", "shrug", "raised hand"]
        if plan.latents.face > 0 and not conflict:
            cues["facial"] = ["furrowed brows", "pressed lips", "averted gaze"]
        if plan.latents.text > 0 and not conflict:
            cues["language"] = ["hedging"]
        if plan.face_valence != plan.word_valence:
            cues["inconsistencies"] = ["face against words"]
    return cues

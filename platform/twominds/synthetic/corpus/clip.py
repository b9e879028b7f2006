"""Draws one planned clip: words, voice, moving picture and file, and what is true of them."""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from twominds.synthetic.corpus.animation import Acting, animate, in_moments, intensity
from twominds.synthetic.corpus.casting import random_appearance, random_backdrop
from twominds.synthetic.corpus.config import PRESETS, SyntheticCorpusConfig
from twominds.synthetic.corpus.drawing import Pose, Scene
from twominds.synthetic.corpus.filming import cast_scenes, film, frame_times, length_s
from twominds.synthetic.corpus.phrases import as_sentences, feeling_clauses, hesitant_clauses
from twominds.synthetic.corpus.plan import ClipPlan, stream
from twominds.synthetic.corpus.voice import SpokenClause, random_speaker, speak

SEGMENT_MEAN_S, SEGMENT_STD_S = 4.25, 2.47
"""Length of an A/H segment in BAH."""

CUES = {
    "audio": ("pauses", "fillers", "unsteady pitch"),
    "body": ("sway", "shrug", "raised hand"),
    "facial": ("furrowed brows", "pressed lips", "averted gaze"),
    "inconsistencies": ("face against words",),
    "language": ("hedging",),
}
"""How each kind of cue shows."""


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
    expressions: tuple[tuple[int, ...], ...] = ()
    """Of task `expression`: per annotated person, from left to right, the class of each frame; -1 is unknown."""
    intensities: tuple[float, ...] = ()
    """The intensities, of the task `mimicry` alone."""
    acted: dict[str, object] = field(default_factory=dict[str, object])
    """What was really to be seen and heard, in words of the task; without preset `none` it is what the labels say."""

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
    times_s = frame_times(rng, plan, config.fps)
    duration_s = length_s(plan, times_s, config.fps)
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
    scenes = [Scene(backdrop=backdrop, people=group) for group in cast_scenes(rng, plan, people, times_s)]
    film(config, plan, root, scenes, speech, times_s)
    return DrawnClip(
        plan=plan,
        transcript=as_sentences(clauses),
        clauses=speech.clauses,
        moments=moments,
        frame_times_s=tuple(times_s.tolist()),
        pause_share=speech.pause_share,
        cues=cues_of(plan, conflict=conflict),
    )


def _clauses(rng: np.random.Generator, config: SyntheticCorpusConfig, plan: ClipPlan, conflict: bool) -> list[str]:
    if "empty_transcript" in plan.nuisances:
        return []
    count = max(3, round(0.75 * config.clip_s))
    if conflict:
        return feeling_clauses(rng, plan.word_valence, count + 1)
    return hesitant_clauses(rng, float(intensity(plan.latents.text)), plan.word_valence, count)


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


def cues_of(plan: ClipPlan, *, conflict: bool) -> dict[str, list[str]]:
    """What an attentive annotator would note; a cue counts from the upper half of its range."""
    latents = plan.latents
    noted = {
        "audio": latents.audio > 0,
        "body": latents.scene > 0,
        "facial": latents.face > 0 and not conflict,
        "language": latents.text > 0 and not conflict,
        "inconsistencies": plan.face_valence != plan.word_valence,
    }
    return {kind: list(cues) if plan.label == 1 and noted[kind] else [] for kind, cues in CUES.items()}

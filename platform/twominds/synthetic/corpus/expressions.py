"""Draws a clip of task `expression`: a face goes through spans of the eight expressions, in Aff-Wild2's order."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twominds.synthetic.corpus.anatomy import Expression
from twominds.synthetic.corpus.animation import Acting, animate, smoothed
from twominds.synthetic.corpus.casting import random_appearance
from twominds.synthetic.corpus.clip import DrawnClip
from twominds.synthetic.corpus.config import SyntheticCorpusConfig
from twominds.synthetic.corpus.drawing import Appearance, Person, Pose, Scene, draw_frame
from twominds.synthetic.corpus.filming import cast_scenes, film
from twominds.synthetic.corpus.phrases import as_sentences, hesitant_clauses
from twominds.synthetic.corpus.plan import ClipPlan
from twominds.synthetic.corpus.staging import Stage, set_stage
from twominds.synthetic.corpus.voice import Speech, speak

EXPRESSIONS: tuple[Expression, ...] = (
    Expression(),
    Expression(brow_furrow=1.0, brow_raise=-0.8, lip_press=0.9, smile=-0.3, eye_open=0.85, flush=0.9),
    Expression(brow_furrow=0.8, brow_raise=-0.7, smile=-0.8, mouth_open=0.15, eye_open=0.35, flush=-0.4),
    Expression(brow_raise=0.9, brow_furrow=0.3, mouth_open=0.55, smile=-0.4, eye_open=1.2, flush=-1.0),
    Expression(smile=1.0, mouth_open=0.35, eye_open=0.8, flush=0.3),
    Expression(smile=-1.0, brow_raise=0.2, brow_furrow=0.3, eye_open=0.5, gaze_y=0.8, flush=-0.3),
    Expression(brow_raise=1.0, mouth_open=1.0, eye_open=1.2),
    Expression(gaze_x=0.95, gaze_y=-0.6, smile=0.4, lip_press=0.6, eye_open=0.75, brow_raise=0.3),
)
"""Neutral, Anger, Disgust, Fear, Happiness, Sadness, Surprise, Other."""
HEADS = (
    (0.0, 0.0, 0.0),
    (0.2, 0.0, 0.0),
    (0.0, -0.5, 0.0),
    (-0.1, -0.2, -0.35),
    (0.0, 0.0, 0.35),
    (0.38, 0.0, -0.2),
    (-0.38, 0.0, 0.0),
    (0.0, 0.5, 0.0),
)
"""How the head goes with each: pitch, yaw and roll. Overdone, for frozen random features see a turned head better than
a line of ink."""
_RAMP_S = 0.3
_UNKNOWN_SHARE = 0.05
_MOUTH = 0.3  # how much of the speech's movement shows

_Classes = npt.NDArray[np.int64]


def draw_expressions(config: SyntheticCorpusConfig, plan: ClipPlan, root: Path) -> DrawnClip:
    """Draws a clip and writes its video (and face crops) below `root`.

    Frames without a face are unknown. Where there are two people (nuisance `two_faces`) both have expressions; the
    layout of Aff-Wild2 has labels for both, any other for the one in front.
    """
    stage = set_stage(config, plan)
    rng = stage.rng
    clauses = hesitant_clauses(rng, 0.3, plan.word_valence, max(3, round(0.6 * config.clip_s)))
    clauses = [] if "empty_transcript" in plan.nuisances else clauses
    speech = speak(rng, clauses, stage.speaker, duration_s=stage.duration_s, hesitation=0.3)
    acted, labels = _classes(stage.acted, stage), _classes(stage.labelled, stage, unknown=True)
    people = _people(rng, stage, stage.appearance, stage.rest, speech, acted)
    if "two_faces" in plan.nuisances:
        side = -1.0 if rng.random() < 0.5 else 1.0
        silent = replace(speech, mouth=np.zeros_like(speech.mouth))
        rest = replace(stage.rest, x=0.42 * side, y=0.36, head_height=0.3)
        other_acted, other_labels = _classes(stage.acted, stage), _classes(stage.labelled, stage, unknown=True)
        others = _people(rng, stage, random_appearance(rng), rest, silent, other_acted)
        people = [replace(one, pose=replace(one.pose, x=one.pose.x - 0.2 * side)) for one in people]
        groups: list[tuple[Person, ...]] = list(zip(others, people, strict=True))
        annotations = [other_labels, labels] if side < 0 else [labels, other_labels]
        if config.layout != "expr":
            annotations = [labels]
    else:
        groups = list(cast_scenes(rng, plan, people, stage.times_s))
        annotations = [labels]
    scenes = [Scene(backdrop=stage.backdrop, people=group) for group in groups]
    film(config, plan, root, scenes, speech, stage.times_s)
    seen = np.array([len(draw_frame(scene, (64, 48))[1]) > 0 for scene in scenes])
    return DrawnClip(
        plan=plan,
        transcript=as_sentences(clauses),
        clauses=speech.clauses,
        moments=(),
        frame_times_s=tuple(stage.times_s.tolist()),
        pause_share=speech.pause_share,
        cues={},
        expressions=tuple(tuple(np.where(seen, classes, -1).tolist()) for classes in annotations),
        acted={"expressions": acted.tolist()},
    )


def _classes(rng: np.random.Generator, stage: Stage, *, unknown: bool = False) -> _Classes:
    """The expression of each frame: spans of 1.5 to 3.5 s, each of the eight before any comes again.

    Args:
        rng: Where the chance comes from; without and with `unknown` it gives the same spans.
        stage: The clip before anything happens in it.
        unknown: Whether some spans are -1, since nobody annotated them.
    """
    classes = np.zeros(len(stage.times_s), np.int64)
    start, order = 0.0, list[int]()
    while start <= stage.times_s[-1]:
        order = order or rng.permutation(len(EXPRESSIONS)).tolist()
        length, nobody = float(rng.uniform(1.5, 3.5)), bool(rng.random() < _UNKNOWN_SHARE)
        classes[(stage.times_s >= start)] = -1 if unknown and nobody else order[0]
        start, order = start + length, order[1:]
    return classes


def _people(
    rng: np.random.Generator, stage: Stage, appearance: Appearance, rest: Pose, speech: Speech, classes: _Classes
) -> list[Person]:
    """The person in each frame, with the face of its expression, which comes and goes in a third of a second."""
    calm = Acting(face=0.0, body=-1.5, valence=0.0, hesitant_face=False)
    people = animate(rng, appearance, rest, calm, speech, stage.times_s)
    strength = float(rng.uniform(0.85, 1.0))
    fields = list(asdict(EXPRESSIONS[0]))
    targets = np.array([[getattr(expression, name) for name in fields] for expression in EXPRESSIONS])
    neutral = targets[0]
    wanted = neutral + strength * (targets - neutral)
    curves = {name: smoothed(wanted[classes, index], stage.times_s, _RAMP_S) for index, name in enumerate(fields)}
    heads = strength * np.array(HEADS)[classes]
    turns = np.stack([smoothed(axis, stage.times_s, _RAMP_S) for axis in heads.T], axis=1)
    shown: list[Person] = []
    for frame, person in enumerate(people):
        now = {name: float(curve[frame]) for name, curve in curves.items()}
        rested = person.expression
        now["mouth_open"] = max(now["mouth_open"], _MOUTH * rested.mouth_open)
        now["eye_open"] *= min(rested.eye_open, 1.0)  # blinks
        pitch, yaw, roll = turns[frame].tolist()
        pose = replace(person.pose, pitch=person.pose.pitch + pitch, yaw=rest.yaw + yaw, roll=person.pose.roll + roll)
        shown.append(replace(person, pose=pose, expression=Expression(**now)))
    return shown

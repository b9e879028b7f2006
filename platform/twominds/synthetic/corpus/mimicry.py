"""Draws a clip of task `mimicry`: words, face, voice and body each tell of some of the six intensities."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from twominds.synthetic.corpus.animation import Acting, animate
from twominds.synthetic.corpus.clip import DrawnClip
from twominds.synthetic.corpus.config import SyntheticCorpusConfig
from twominds.synthetic.corpus.drawing import Person, Scene
from twominds.synthetic.corpus.filming import cast_scenes, film
from twominds.synthetic.corpus.phrases import as_sentences, moved_clauses
from twominds.synthetic.corpus.plan import ClipPlan
from twominds.synthetic.corpus.staging import Stage, set_stage
from twominds.synthetic.corpus.voice import Speaker, Speech, smooth_noise, speak

_BETA = (0.8, 1.0)  # many are low
_LOW_HZ, _OCTAVES = 95.0, 1.4  # the pitch without Joy, and how far it rises with it
_OWN_PITCH = 0.15  # how much of a person's own pitch is left
_LOWERED = 0.6  # radians by which Determination lowers the head, from a raised one
_CLAUSES_PER_S, _FEWEST_CLAUSES = 0.9, 4


def draw_mimicry(config: SyntheticCorpusConfig, plan: ClipPlan, root: Path) -> DrawnClip:
    """Draws a clip and writes its video (and face crops) below `root`."""
    stage = set_stage(config, plan)
    rng = stage.rng
    acted, labels = _intensities(stage.acted), _intensities(stage.labelled)
    admiration, amusement, determination, pain, excitement, joy = acted
    count = max(_FEWEST_CLAUSES, round(_CLAUSES_PER_S * stage.duration_s))
    clauses = moved_clauses(rng, admiration, pain, count)
    clauses = [] if "empty_transcript" in plan.nuisances else clauses
    speaker = _speaker(stage.speaker, joy=joy, excitement=excitement)
    speech = speak(rng, clauses, speaker, duration_s=stage.duration_s, hesitation=1.0 - excitement)
    people = _people(stage, speech, amusement=amusement, determination=determination, excitement=excitement)
    scenes = [Scene(backdrop=stage.backdrop, people=group) for group in cast_scenes(rng, plan, people, stage.times_s)]
    film(config, plan, root, scenes, speech, stage.times_s)
    return DrawnClip(
        plan=plan,
        transcript=as_sentences(clauses),
        clauses=speech.clauses,
        moments=(),
        frame_times_s=tuple(stage.times_s.tolist()),
        pause_share=speech.pause_share,
        cues={},
        intensities=labels,
        acted={"intensities": acted},
    )


def _intensities(rng: np.random.Generator) -> tuple[float, ...]:
    """Admiration, Amusement, Determination, Empathic Pain, Excitement, Joy: each for itself, 0..1."""
    return tuple(np.round(rng.beta(*_BETA, size=6), 4).tolist())


def _speaker(speaker: Speaker, *, joy: float, excitement: float) -> Speaker:
    own = (speaker.pitch_hz / 150.0) ** _OWN_PITCH
    return replace(speaker, pitch_hz=_LOW_HZ * 2.0 ** (_OCTAVES * joy) * own, loudness=0.25 + 0.45 * excitement)


def _people(stage: Stage, speech: Speech, *, amusement: float, determination: float, excitement: float) -> list[Person]:
    rng, times_s = stage.rng, stage.times_s
    acting = Acting(face=0.0, body=4.0 * (excitement - 0.5), valence=0.0, hesitant_face=False)
    people = animate(rng, stage.appearance, stage.rest, acting, speech, times_s)
    wobble, tension = 0.06 * smooth_noise(rng, times_s, 0.8), 0.06 * smooth_noise(rng, times_s, 0.8)
    shown: list[Person] = []
    for frame, person in enumerate(people):
        smile = float(np.clip(amusement + wobble[frame], 0.0, 1.0))
        furrow = float(np.clip(determination + tension[frame], 0.0, 1.0))
        mouth = person.expression.mouth_open
        face = replace(
            person.expression,
            smile=smile,
            brow_furrow=furrow,
            brow_raise=-0.7 * furrow,
            lip_press=furrow * float(np.clip(1.0 - 3.0 * mouth, 0.0, 1.0)),
            flush=2.0 * smile - 1.0,
        )
        pose = replace(person.pose, pitch=person.pose.pitch + _LOWERED * (furrow - 0.5), hand=furrow)
        shown.append(replace(person, pose=pose, expression=face))
    return shown

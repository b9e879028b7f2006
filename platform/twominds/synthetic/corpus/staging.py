"""Who sits where in a clip, and who speaks: what clips of all tasks but `ah-video` begin with."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from twominds.synthetic.corpus.casting import random_appearance, random_backdrop
from twominds.synthetic.corpus.config import SyntheticCorpusConfig
from twominds.synthetic.corpus.drawing import Appearance, Pose
from twominds.synthetic.corpus.filming import frame_times, length_s
from twominds.synthetic.corpus.plan import ClipPlan, stream
from twominds.synthetic.corpus.room import Backdrop
from twominds.synthetic.corpus.voice import CONTROL_RATE_HZ, Speaker, Speech, SpokenClause, random_speaker

_ACTED, _LABELLED = 3, 4  # streams of random numbers


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A clip before anything happens in it."""

    rng: np.random.Generator
    """Draws all that tells nothing of the label."""
    acted: np.random.Generator
    """Draws what is to be seen and heard."""
    labelled: np.random.Generator
    """Draws what the labels say: the same numbers as `acted`, but in preset `none`."""
    appearance: Appearance
    speaker: Speaker
    backdrop: Backdrop
    rest: Pose
    times_s: npt.NDArray[np.float64]
    duration_s: float
    """In whole steps of the voice's controls."""


def set_stage(config: SyntheticCorpusConfig, plan: ClipPlan) -> Stage:
    """The stage of a planned clip: looks and voice are the participant's, all else the clip's."""
    cv2.setNumThreads(1)  # parallel over clips instead
    rng, person_rng = stream(config.seed, 2, plan.index), stream(config.seed, 1, plan.participant)
    times_s = frame_times(rng, plan, config.fps)
    return Stage(
        rng=rng,
        acted=stream(config.seed, _ACTED, plan.index),
        labelled=stream(config.seed, _LABELLED if config.preset == "none" else _ACTED, plan.index),
        appearance=random_appearance(person_rng),
        speaker=random_speaker(person_rng),
        backdrop=random_backdrop(person_rng),
        rest=Pose(
            x=float(rng.normal(0.0, 0.03)),
            y=float(rng.uniform(0.41, 0.45)),
            head_height=float(rng.uniform(0.5, 0.54)),
            yaw=float(rng.normal(0.0, 0.05)),
        ),
        times_s=times_s,
        duration_s=in_steps(length_s(plan, times_s, config.fps)),
    )


def in_steps(time_s: float) -> float:
    """The time in whole steps of the voice's controls, so that speech can be cut there and joined."""
    return round(time_s * CONTROL_RATE_HZ) / CONTROL_RATE_HZ


def joined(parts: Sequence[Speech]) -> Speech:
    """What is said one after another."""
    clauses: list[SpokenClause] = []
    starts = np.cumsum([0, *(len(part.mouth) for part in parts)]) / CONTROL_RATE_HZ
    for part, start in zip(parts, starts.tolist(), strict=False):
        clauses += [
            SpokenClause(text=clause.text, start_s=clause.start_s + start, end_s=clause.end_s + start)
            for clause in part.clauses
        ]
    pauses = sum(part.pause_share * len(part.mouth) for part in parts)
    return Speech(
        samples=np.concatenate([part.samples for part in parts]),
        mouth=np.concatenate([part.mouth for part in parts]),
        clauses=tuple(clauses),
        pause_share=pauses / sum(len(part.mouth) for part in parts),
    )

"""Draws a clip of task `ah-frame`: face, body, voice and words are hesitant in its A/H segments, and nowhere else."""

from itertools import pairwise
from pathlib import Path

import numpy as np

from twominds.synthetic.corpus.animation import Acting, animate, in_moments, intensity, smoothed
from twominds.synthetic.corpus.casting import pick
from twominds.synthetic.corpus.clip import CUES, SEGMENT_MEAN_S, SEGMENT_STD_S, DrawnClip
from twominds.synthetic.corpus.config import SyntheticCorpusConfig
from twominds.synthetic.corpus.drawing import Scene
from twominds.synthetic.corpus.filming import cast_scenes, film
from twominds.synthetic.corpus.phrases import TOPICS, as_sentences, graded_clauses
from twominds.synthetic.corpus.plan import ClipPlan
from twominds.synthetic.corpus.staging import Stage, in_steps, joined, set_stage
from twominds.synthetic.corpus.voice import Speech, speak

CONTRAST = 1.8
"""How far apart a cue is inside and outside a segment, in its `CueStrengths`."""
_OWN_STD = 0.5  # of a clip's own level of each cue, whatever happens in it
_PART_S = 10.0  # there is a segment in about so many seconds
_SHORTEST_S = 1.5
_EDGE = 0.15  # share of a part that is free before and after its segment
_CLAUSES_PER_S = 0.75
_RAMP_S = 0.4

Spans = tuple[tuple[float, float], ...]


def draw_timeline(config: SyntheticCorpusConfig, plan: ClipPlan, root: Path) -> DrawnClip:
    """Draws a clip and writes its video (and face crops) below `root`.

    In preset `none` another toss than the label's decides whether segments are acted, and where.
    """
    stage = set_stage(config, plan)
    hesitates = bool(plan.label) if config.preset == "default" else bool(stage.rng.random() < 0.5)
    acted = segments(stage.acted, stage.duration_s) if hesitates else ()
    moments = segments(stage.labelled, stage.duration_s) if plan.label else ()
    strengths, rng = config.strengths, stage.rng
    outside: dict[str, float] = {}
    contrast: dict[str, float] = {}
    for cue in ("text", "audio", "face", "scene"):
        contrast[cue] = CONTRAST * getattr(strengths, cue)
        outside[cue] = _OWN_STD * float(rng.normal()) - 0.5 * contrast[cue]
    inside = smoothed(in_moments(stage.times_s, acted).astype(np.float64), stage.times_s, _RAMP_S).mean()
    speech = _speech(stage, plan, acted, outside, contrast)
    acting = Acting(
        face=outside["face"] + contrast["face"] * float(inside),
        body=outside["scene"] + contrast["scene"] * float(inside),
        valence=plan.face_valence * float(rng.uniform(0.2, 0.6)),
        moments=acted,
        face_contrast=contrast["face"],
        body_contrast=contrast["scene"],
        ramp_s=_RAMP_S,
    )
    people = animate(rng, stage.appearance, stage.rest, acting, speech, stage.times_s)
    scenes = [Scene(backdrop=stage.backdrop, people=group) for group in cast_scenes(rng, plan, people, stage.times_s)]
    film(config, plan, root, scenes, speech, stage.times_s)
    return DrawnClip(
        plan=plan,
        transcript=as_sentences([clause.text for clause in speech.clauses]),
        clauses=speech.clauses,
        moments=moments,
        frame_times_s=tuple(stage.times_s.tolist()),
        pause_share=speech.pause_share,
        cues={kind: list(cues) if plan.label and kind != "inconsistencies" else [] for kind, cues in CUES.items()},
        acted={"segments_s": acted},
    )


def segments(rng: np.random.Generator, duration_s: float) -> Spans:
    """The A/H segments of a clip that has any: about one in ten seconds, of BAH's lengths as far as there is room."""
    count = max(1, round(duration_s / _PART_S))
    part = duration_s / count
    found: list[tuple[float, float]] = []
    for index in range(count):
        length = float(np.clip(rng.normal(SEGMENT_MEAN_S, SEGMENT_STD_S), _SHORTEST_S, 0.6 * part))
        start = index * part + float(rng.uniform(_EDGE * part, (1.0 - _EDGE) * part - length))
        found.append((in_steps(start), in_steps(start + length)))
    return tuple(found)


def stretches(moments: Spans, duration_s: float) -> list[tuple[float, float, bool]]:
    """The clip cut at its segments: start, end, and whether it is one."""
    cuts = sorted({0.0, duration_s, *(time for moment in moments for time in moment)})
    return [(start, end, (start, end) in moments) for start, end in pairwise(cuts)]


def _speech(
    stage: Stage, plan: ClipPlan, acted: Spans, outside: dict[str, float], contrast: dict[str, float]
) -> Speech:
    """Each stretch is spoken for itself, with its own words and its own hesitation."""
    parts: list[Speech] = []
    for start, end, hesitant in stretches(acted, stage.duration_s):
        level = {cue: float(intensity(outside[cue] + contrast[cue] * hesitant)) for cue in ("text", "audio")}
        count = max(1, round(_CLAUSES_PER_S * (end - start)))
        clauses = graded_clauses(stage.rng, level["text"], count)
        if not parts:
            clauses.insert(0, pick(stage.rng, TOPICS))
        if "empty_transcript" in plan.nuisances:
            clauses = []
        parts.append(speak(stage.rng, clauses, stage.speaker, duration_s=end - start, hesitation=level["audio"]))
    return joined(parts)

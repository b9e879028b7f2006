"""Decides everything about a drawn corpus before anything is drawn: who, which split, which truth, which defects."""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from twominds.records import Split
from twominds.synthetic.corpus.casting import pick
from twominds.synthetic.corpus.config import PRESETS, QUESTIONS, Layout, NuisanceRates, SyntheticCorpusConfig

Valence = Literal[-1, 1]
Nuisance = Literal[
    "no_audio",
    "silence",
    "no_face",
    "face_leaves",
    "two_faces",
    "empty_transcript",
    "variable_frame_rate",
    "rotated",
    "space_in_path",
    "odd_suffix",
    "truncated",
    "not_video",
]

PLACES: dict[Layout, str] = {
    "bah": "Videos/{person}/Visite_1/{name}.mp4",
    "bah-v1": "Videos/{person}/Visite_1/{name}.mp4",
    "abaw8": "videos/{person}/Visite 1/{name}.mp4",
    "expr": "videos/{name}.mp4",
    "emi": "raw/{number:05d}.mp4",
    "table": "clips/{name}.mp4",
}
"""Where a layout has its videos."""
NUISANCES: tuple[Nuisance, ...] = get_args(Nuisance)

_CLIPS_PER_PARTICIPANT = {Split.TRAIN: 778 / 195, Split.VALIDATION: 124 / 30, Split.TEST: 525 / 75}  # BAH's
_EXCLUSIVE: tuple[frozenset[Nuisance], ...] = (
    frozenset({"no_audio", "silence"}),
    frozenset({"no_face", "face_leaves", "two_faces"}),
)
_BROKEN: frozenset[Nuisance] = frozenset({"truncated", "not_video"})


@dataclass(frozen=True, kw_only=True)
class ParticipantPlan:
    """An invented person."""

    participant_id: str
    split: Split
    about: dict[str, object]
    """The fields of `meta_data.yml`."""


@dataclass(frozen=True, kw_only=True)
class Latents:
    """The planted truth of one clip, in standard deviations: larger is more ambivalent or hesitant."""

    text: float
    audio: float
    face: float
    scene: float


@dataclass(frozen=True, kw_only=True)
class ClipPlan:
    """One clip to be drawn."""

    index: int
    clip_id: str
    """The video's path in the corpus: `Videos/...mp4` in BAH's layout."""
    participant: int
    """Index into the plan's participants."""
    question: int
    split: Split
    label: int
    latents: Latents
    word_valence: Valence
    """Whether the words are willing (1) or unwilling (-1)."""
    face_valence: Valence
    """Whether the face is glad (1) or not (-1)."""
    duration_s: float
    nuisances: frozenset[Nuisance]


@dataclass(frozen=True, kw_only=True)
class CorpusPlan:
    """The whole corpus, without a pixel."""

    participants: tuple[ParticipantPlan, ...]
    clips: tuple[ClipPlan, ...]


def person_id(participant: int) -> str:
    """The id of a participant, by their index in the plan."""
    return str(1001 + participant)


def crop_folders(layout: Layout, plan: ClipPlan) -> tuple[str, ...]:
    """Where a clip's face crops are, per annotated person from left to right."""
    if layout == "expr":
        stem = plan.clip_id.removeprefix("videos/").removesuffix(".mp4")
        return tuple(f"cropped_aligned/{name}" for name in annotated(stem, plan))
    key = plan.clip_id.removeprefix("videos/").replace("/Visite 1/", "/Visite_1/")  # ABAW-8 has both spellings
    return (f"cropped-aligned-faces/{key}",)


def annotated(stem: str, plan: ClipPlan) -> tuple[str, ...]:
    """The names under which Aff-Wild2 has a video's people, from left to right."""
    return (f"{stem}_left", f"{stem}_right") if "two_faces" in plan.nuisances else (stem,)


def stream(seed: int, *key: int) -> np.random.Generator:
    """The random numbers of one purpose, which no other purpose's number of draws can shift."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def plan_corpus(config: SyntheticCorpusConfig) -> CorpusPlan:
    """Plans a corpus; takes milliseconds, and depends on nothing but the config."""
    rng = stream(config.seed, 0)
    sizes = _split_sizes(config)
    participants: list[ParticipantPlan] = []
    clips: list[ClipPlan] = []
    for split, size in sizes.items():
        clips_each = config.clips_per_person or _CLIPS_PER_PARTICIPANT[split]
        count = max(math.ceil(size / len(QUESTIONS)), round(size / clips_each), 1)
        first = len(participants)
        for _ in range(count):
            participants.append(_participant(rng, person_id(len(participants)), split))
        owners = [first + index % count for index in range(size)]
        orders = {owner: rng.permutation(len(QUESTIONS)) for owner in set(owners)}
        questions = [int(orders[owner][index // count]) + 1 for index, owner in enumerate(owners)]
        truths = _truths(rng, config, questions)
        for owner, question, (label, latents, words, face) in zip(owners, questions, truths, strict=True):
            clips.append(
                ClipPlan(
                    index=len(clips),
                    clip_id="",
                    participant=owner,
                    question=question,
                    split=split,
                    label=label,
                    latents=latents,
                    word_valence=words,
                    face_valence=face,
                    duration_s=config.clip_s * float(rng.uniform(0.85, 1.15)),
                    nuisances=frozenset(),
                )
            )
    return CorpusPlan(participants=tuple(participants), clips=_with_files(rng, config, participants, clips))


def _split_sizes(config: SyntheticCorpusConfig) -> dict[Split, int]:
    """Clips per split, whole groups of four where the four combinations must balance."""
    unit = 4 if PRESETS[config.preset].labels == "disagreement" else 1
    validation, test = (
        unit * max(round(config.clips * share / unit), max(4 // unit, 1))
        for share in (config.split_shares.validation, config.split_shares.test)
    )
    return {Split.TRAIN: config.clips - validation - test, Split.VALIDATION: validation, Split.TEST: test}


def _truths(
    rng: np.random.Generator, config: SyntheticCorpusConfig, questions: list[int]
) -> list[tuple[int, Latents, Valence, Valence]]:
    """Label, latents, the words' and the face's valence of each clip of one split."""
    preset, strengths = PRESETS[config.preset], config.strengths
    size = len(questions)
    combinations: list[tuple[Valence, Valence]] = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    order = rng.permutation(size)
    truths: list[tuple[int, Latents, Valence, Valence]] = []
    for index, question in enumerate(questions):
        noise = rng.normal(size=5).tolist()
        words, face = combinations[int(order[index]) % 4]
        label = int(rng.random() < preset.question_priors[question - 1])
        sign = 0.0
        if preset.labels == "disagreement":
            label = int(words != face)
        elif preset.labels == "cues":
            sign = label - 0.5
            disagree = sign * strengths.disagreement + noise[4] > 0
            face = -1 if disagree == (words > 0) else 1
        latents = Latents(
            text=sign * strengths.text + noise[0],
            audio=sign * strengths.audio + noise[1],
            face=sign * strengths.face + noise[2],
            scene=sign * strengths.scene + noise[3],
        )
        truths.append((label, latents, words, face))
    return truths


def _with_files(
    rng: np.random.Generator,
    config: SyntheticCorpusConfig,
    participants: list[ParticipantPlan],
    clips: list[ClipPlan],
) -> tuple[ClipPlan, ...]:
    """The clips with their defects and file names."""
    defects = _nuisances(rng, config.defects, len(clips))
    named: list[ClipPlan] = []
    for clip, nuisances in zip(clips, defects, strict=True):
        person = participants[clip.participant].participant_id
        day, hour, minute, second = (int(rng.integers(low, high)) for low, high in ((1, 29), (8, 20), (0, 60), (0, 60)))
        name = f"{person}_Question_{clip.question}_2000-01-{day:02d}_{hour:02d}-{minute:02d}-{second:02d}_Video"
        if "odd_suffix" in nuisances:
            name += "-DESKTOP-" + "".join(pick(rng, "ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(4))
        if "space_in_path" in nuisances:
            name = name.replace("_", " ", 2) + " (1)"
        clip_id = PLACES[config.layout].format(person=person, name=name, number=clip.index + 1)
        named.append(replace(clip, clip_id=clip_id, nuisances=nuisances))
    return tuple(named)


def _nuisances(rng: np.random.Generator, rates: NuisanceRates, clips: int) -> list[frozenset[Nuisance]]:
    """Which clips have which defect: as many as the rate says, rounded up, whatever their label."""
    chosen: list[set[Nuisance]] = [set() for _ in range(clips)]
    for nuisance in sorted(NUISANCES, key=lambda name: name not in _BROKEN):  # a broken file has no other defect
        count = math.ceil(getattr(rates, nuisance) * clips - 1e-9)
        rivals = next((group for group in _EXCLUSIVE if nuisance in group), frozenset[Nuisance]())
        free = [index for index in rng.permutation(clips).tolist() if not chosen[index] & (rivals | _BROKEN)]
        for index in free[:count]:
            chosen[index].add(nuisance)
    return [frozenset(nuisances) for nuisances in chosen]


def _participant(rng: np.random.Generator, participant_id: str, split: Split) -> ParticipantPlan:
    age = int(rng.integers(18, 80))
    low = next(start for start in (65, 55, 45, 35, 25, 18) if age >= start)
    ethnicity = pick(rng, ("Asian", "Black", "Latin American", "Middle Eastern", "White"))
    return ParticipantPlan(
        participant_id=participant_id,
        split=split,
        about={
            "Age": age,
            "Age range": "65+" if low == 65 else f"{low}-{24 if low == 18 else low + 9}",
            "Birth country": "Nowhere",
            "Canada province": pick(rng, ("Alberta", "British Columbia", "Manitoba", "Ontario", "Quebec")),
            "Ethnicity": f"{ethnicity} (invented)",
            "Ethnicity simplified": ethnicity,
            "Gender": pick(rng, ("Female", "Male", "Female", "Male", "Non-binary")),
            "Is student": "Yes" if age < 30 and rng.random() < 0.5 else "No",
            "Use in challenges": "No" if rng.random() < 0.05 else "Yes",
            "Use in publications": "No" if rng.random() < 0.2 else "Yes",
        },
    )

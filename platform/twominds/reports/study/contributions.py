"""What the headline's answers are made of: the modalities' contributions over many clips, and which disagree."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from twominds.records import Clip, Contributions, Modality
from twominds.reports.study.groups import GROUPINGS
from twominds.reports.study.points import LabelledPoints
from twominds.reports.study.results import StudyResults
from twominds.tasks import Task

EVERY = "all"
"""The grouping of all clips, and of those by their true class."""
TRUE_CLASS = "true class"


@dataclass(frozen=True, kw_only=True)
class MeanContribution:
    """One modality's, over the clips that have it; of several outputs the mean over them."""

    mean: float
    absolute: float
    """Of its sizes, whichever way they pull."""
    clips: int


@dataclass(frozen=True, kw_only=True)
class GroupContributions:
    """What the answers to the clips of one group are made of."""

    grouping: str
    group: str
    clips: int
    by_modality: Mapping[Modality, MeanContribution]
    opposed: Mapping[str, int]
    """In how many clips each pair of modalities is the opposed one, the most first."""


_Clips = list[tuple[Clip, Contributions]]


def group_contributions(results: StudyResults) -> list[GroupContributions]:
    """Of all reported clips together, by their true class (of two), and per group; none where one modality is all."""
    explained = {
        (split, i): score.contributions
        for split, scores in results.scores.items()
        for i, score in enumerate(scores)
        if score is not None and score.contributions is not None
    }
    if not explained:
        return []
    every = [(results.points[split].clips[i], found) for (split, i), found in explained.items()]
    groups = [_group(EVERY, "all clips", every)]
    if results.task.is_binary:
        positive = {split: _positive(points) for split, points in results.points.items()}
        by_class: Mapping[bool, _Clips] = {False: [], True: []}
        for (split, i), found in explained.items():
            by_class[i in positive[split]].append((results.points[split].clips[i], found))
        named = zip(class_names(results.task), by_class.values(), strict=True)
        groups += [_group(TRUE_CLASS, name, clips) for name, clips in named if clips]
    return [*groups, *(group for name, of in GROUPINGS.items() for group in _by_group(name, of, every))]


def class_names(task: Task) -> tuple[str, str]:
    """What clips are called without and with the last of two classes."""
    negative, positive = task.names
    return (f"{positive} nowhere", f"{positive} somewhere") if task.per_frame else (negative, positive)


def _positive(points: LabelledPoints) -> set[int]:
    return set(points.owners[points.truth == 1].tolist())


def _by_group(grouping: str, of: Callable[[Clip], str | None], every: _Clips) -> Iterator[GroupContributions]:
    for name in sorted({name for clip, _ in every if (name := of(clip))}):
        yield _group(grouping, name, [(clip, found) for clip, found in every if of(clip) == name])


def _group(grouping: str, group: str, clips: _Clips) -> GroupContributions:
    values: dict[Modality, list[Sequence[float]]] = {}
    pairs = Counter[str]()
    for _, found in clips:
        for modality, own in found.by_modality.items():
            values.setdefault(modality, []).append(own)
        if found.opposed:
            pairs[" – ".join(m for m in Modality if m in found.opposed)] += 1
    return GroupContributions(
        grouping=grouping,
        group=group,
        clips=len(clips),
        by_modality={
            m: MeanContribution(
                mean=float(np.mean(values[m])), absolute=float(np.abs(values[m]).mean()), clips=len(values[m])
            )
            for m in Modality
            if m in values
        },
        opposed=dict(sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))),
    )

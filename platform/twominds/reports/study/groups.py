"""How the headline row does on groups of clips."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from twominds.records import BoolArray, Clip, Split
from twominds.reports.study.points import LabelledPoints
from twominds.reports.study.results import Answers
from twominds.tasks import Classes, Task
from twominds.training.bootstrap import Estimate, PeopleBootstrap
from twominds.training.metrics import metric_of

FEW_CLIPS = 10
"""Groups of fewer clips are flagged: their score says little."""
FEW_PEOPLE = 5
"""Groups of fewer people are flagged: their interval says little."""

GROUPINGS: dict[str, Callable[[Clip], str | None]] = {
    "question": lambda clip: None if clip.question is None else str(clip.question),
    "gender": lambda clip: clip.attributes.get("gender"),
    "age range": lambda clip: clip.attributes.get("age_range"),
    "ethnicity": lambda clip: clip.attributes.get("ethnicity"),
}
"""What the headline row is also scored by; clips of which the corpus does not say are left out."""


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """The headline row on the clips of one group."""

    grouping: str
    group: str
    split: Split
    clips: int
    people: int
    score: Estimate
    notes: tuple[str, ...]
    """What to beware of."""


def group_scores(
    splits: Mapping[Split, LabelledPoints], answers: Mapping[Split, Answers], task: Task
) -> Iterator[GroupScore]:
    """Each group's, in the order of the groupings, groups and splits.

    Args:
        splits: What is known of each split.
        answers: What the headline row answered.
        task: What is recognised.
    """
    for grouping, of in GROUPINGS.items():
        found = {split: points for split, points in splits.items() if split in answers}
        for group in sorted({name for points in found.values() for clip in points.clips if (name := of(clip))}):
            for split, points in found.items():
                chosen = points.where(lambda clip, of=of, group=group: of(clip) == group)
                if chosen.any():
                    yield _group(grouping, group, split, points, chosen, answers[split], task)


def _group(
    grouping: str,
    group: str,
    split: Split,
    points: LabelledPoints,
    chosen: BoolArray,
    answers: Answers,
    task: Task,
) -> GroupScore:
    draws = PeopleBootstrap(points.truth, points.people, metric_of(task), known=chosen)
    clips, truth = points.count(chosen), points.truth[chosen]
    lacks = isinstance(task.output, Classes) and len(set(truth.tolist())) < task.num_outputs
    notes = {
        f"fewer than {FEW_CLIPS} clips": clips < FEW_CLIPS,
        f"fewer than {FEW_PEOPLE} people": draws.people < FEW_PEOPLE,
        "a class is missing and counts as 0": lacks and task.metric == "macro_f1",
        "a class is missing": lacks and task.metric != "macro_f1",
    }
    return GroupScore(
        grouping=grouping,
        group=group,
        split=split,
        clips=clips,
        people=draws.people,
        score=draws.estimate(answers.predictions),
        notes=tuple(note for note, applies in notes.items() if applies),
    )

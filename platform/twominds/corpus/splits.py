"""Splits are of people: nobody, and no file, may be in training and in what tests it."""

from collections.abc import Callable, Iterable, Sequence

from twominds.corpus.places import identity
from twominds.corpus.problems import Problems, numbered, shown
from twominds.records import Clip, Split

_LEARNED_AND_TESTED = (Split.TRAIN, Split.VALIDATION, Split.TEST)

NumberedClips = Sequence[tuple[int, Clip]]
"""Clips with the number of the row or line that names them."""


def check_people(clips: NumberedClips, problems: Problems) -> None:
    """Adds people who are in several splits to `problems`."""
    for person, places in _in_several(clips, lambda clip: clip.participant_id, problems.unit):
        problems.add(
            "nobody may be in more than one of train, val and test (move all clips of a participant to one of them)",
            found=f"participant {shown(person)} in {places}",
        )


def check_files(clips: NumberedClips, problems: Problems) -> list[str]:
    """Adds files that are in several splits to `problems`; those that are in one split twice are worth a note."""
    for _, places in _in_several(clips, lambda clip: identity(clip.video_uri), problems.unit):
        problems.add("no video may be in more than one of train, val and test", found=f"one in {places}")
    twice = len(clips) - len({identity(clip.video_uri) for _, clip in clips})
    return [f"Clips whose video is that of another clip: {twice}."] if twice else []


def _in_several(
    clips: Iterable[tuple[int, Clip]], key: Callable[[Clip], str | None], unit: str
) -> list[tuple[str, str]]:
    """What is in several splits, and where: such as `train (row 2) and test (rows 3 and 4)`."""
    found: dict[str, dict[Split, list[int]]] = {}
    for number, clip in clips:
        name, split = key(clip), clip.split
        if name is not None and split is not None and split in _LEARNED_AND_TESTED:
            found.setdefault(name, {}).setdefault(split, []).append(number)
    return [
        (name, " and ".join(f"{split.value} ({numbered(unit, numbers)})" for split, numbers in by_split.items()))
        for name, by_split in found.items()
        if len(by_split) > 1
    ]

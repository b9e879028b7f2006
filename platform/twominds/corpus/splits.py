"""Splits are of people: nobody, and no file, may be in training and in what tests it."""

from collections.abc import Callable, Sequence

from twominds.corpus.places import identity
from twominds.corpus.problems import Problems, numbered, shown
from twominds.records import Clip, Split

_APART = (Split.TRAIN, Split.VALIDATION, Split.TEST)

NumberedClips = Sequence[tuple[int, Clip]]
"""Clips with the number of the row or line that names them."""


def check_people(clips: NumberedClips, problems: Problems) -> list[str]:
    """Adds people who are in several splits to `problems`; those who are in the private one, too, are worth a note.

    Participants whose ids differ by case alone are taken for one.
    """
    for person, places in _in_several(clips, _person, problems.unit):
        problems.add(
            "nobody may be in more than one of train, val and test (move all clips of a participant to one of them)",
            found=f"participant {shown(person)} in {places}",
        )
    also = len(_in_several(clips, _person, problems.unit, tuple(Split)))
    return [f"Participants of the private split who are in another one, too: {also}."] if also else []


def check_files(clips: NumberedClips, problems: Problems) -> list[str]:
    """Adds files that are in several splits to `problems`; those that are in one split twice are worth a note."""
    for _, places in _in_several(clips, _file, problems.unit):
        problems.add("no video may be in more than one of train, val and test", found=f"one in {places}")
    twice = len(clips) - len({_file(clip) for _, clip in clips})
    return [f"Clips whose video is that of another clip: {twice}."] if twice else []


def _person(clip: Clip) -> str | None:
    return None if clip.participant_id is None else clip.participant_id.casefold()


def _file(clip: Clip) -> str:
    return identity(clip.video_uri)


def _in_several(
    clips: NumberedClips, key: Callable[[Clip], str | None], unit: str, splits: Sequence[Split] = _APART
) -> list[tuple[str, str]]:
    """What is in several splits, and where: such as `train (row 2) and test (rows 3 and 4)`."""
    found: dict[str, dict[Split, list[int]]] = {}
    for number, clip in clips:
        name, split = key(clip), clip.split
        if name is not None and split is not None and split in splits:
            found.setdefault(name, {}).setdefault(split, []).append(number)
    return [
        (name, " and ".join(f"{split.value} ({numbered(unit, numbers)})" for split, numbers in by_split.items()))
        for name, by_split in found.items()
        if len(by_split) > 1
    ]

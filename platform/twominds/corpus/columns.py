"""Which column of a table means what: ours by name, whatever its case, blanks and underscores; the rest attributes.

Ours are `COLUMNS` in a table of clips, `LABEL_COLUMNS` in one of segments or frames, and the names of a task's
intensities in either. `vector.NAME` is one of ours in any: a vector that a model of the user made of the clip.

A column whose name is close to one of ours that the table lacks is refused: labels or words that only lie in an
attribute are lost, and nobody would notice. Close is a name

- with a word in it that is ours, its plural or a slip of the pen (`labels`, `transcript_en`, `Transcription`), or
- that is commonly given to the same thing (`text`, `speaker_id`, `filename`).
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from twominds.corpus.problems import Problems, listed
from twominds.errors import CorpusError

COLUMNS = ("clip_id", "video", "split", "label", "transcript", "participant", "question")
"""Columns of a table of clips that have a meaning; the others are attributes."""
LABEL_COLUMNS = ("clip_id", "video", "start_s", "end_s", "time_s", "frame", "label")
"""Columns of a table of labels in time that have a meaning."""

VECTOR = "vector."
"""What stands before the name of vectors in a column's name."""

_OTHER_NAMES: Mapping[str, frozenset[str]] = {
    "clip_id": frozenset({"id", "clip", "sample", "videoid", "sampleid"}),
    "video": frozenset({"file", "filename", "filepath", "path", "url", "uri", "clip", "media", "movie", "recording"}),
    "split": frozenset({"set", "subset", "fold", "partition"}),
    "label": frozenset(
        {"class", "target", "y", "ah", "globalah", "ambivalence", "hesitancy", "annotation", "truth", "gt"}
    ),
    "transcript": frozenset({"text", "words", "utterance", "sentence", "caption", "subtitle", "speech"}),
    "participant": frozenset({"speaker", "subject", "person", "user", "patient", "client", "interviewee", "pid"}),
    "question": frozenset({"prompt", "q"}),
    "start_s": frozenset({"start", "begin", "from", "onset", "starttime", "begintime"}),
    "end_s": frozenset({"end", "stop", "to", "until", "offset", "endtime", "stoptime"}),
    "time_s": frozenset({"time", "timestamp", "t", "second", "sec", "timesec"}),
    "frame": frozenset({"frameindex", "frameidx", "image", "img"}),
}
_ADDITIONS = frozenset({"id", "no", "nr", "number", "name", "code", "key", "file", "ground", "gold", "true", "final"})
"""Words that leave the meaning of another as it is: `speaker_id`, `subject_nr`, `ground_truth`."""
_NEAR = 0.8
"""`difflib`'s ratio from which a word is a slip of the pen: `lable`, `partcipant`, `transcription`."""

_VECTOR = re.compile(r"vector\.([a-z0-9_-]+)")
_LIKE_VECTOR = re.compile(r"vectors?[\W_]+\w")
_SEVERAL = re.compile("[ _]")
_WORDS = re.compile(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+|\d+")


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """Where in a row things are."""

    ours: Mapping[str, int]
    """By our name; those that the table lacks are not in it."""
    attributes: Mapping[str, int]
    """The other columns, by the table's name."""


def our_name(name: str) -> str | None:
    """Which of our columns a table's column is; None: none of them."""
    return _BY_COMPACT_NAME.get(_compact(name))


def meaning_of(
    columns: Sequence[str],
    problems: Problems,
    known: Sequence[str] = COLUMNS,
    *,
    outputs: Sequence[str] = (),
    needs_video: bool = True,
) -> Meaning:
    """What the columns of a table mean; adds to `problems` those that could mean one of ours.

    Args:
        columns: Their names in the table.
        problems: What is wrong with the table so far; more is added.
        known: The names of the columns that we read.
        outputs: The names of a task's intensities, which are ours, too.
        needs_video: Whether there must be a column `video`.

    Raises:
        CorpusError: there is no column `video`; names those that there are, and the one that it may be.
    """
    names = {_compact(name): name for name in (*known, *outputs)}
    ours: dict[str, int] = {}
    attributes: dict[str, int] = {}
    for index, name in enumerate(column.strip() for column in columns):
        one_of_ours = names.get(_compact(name)) or _vector_column(name)
        before = ours if one_of_ours else attributes
        if (one_of_ours or name) in before:
            twice = sorted({columns[before[one_of_ours or name]].strip(), name})
            problems.add(f"two columns mean the same ({listed(f'`{one}`' for one in twice)}): keep one of them")
        before.setdefault(one_of_ours or name, index)
    if needs_video and "video" not in ours:
        raise CorpusError(f"{problems.file} has no column `video`{_instead([name.strip() for name in columns])}")
    for name in attributes:
        if _LIKE_VECTOR.match(name.casefold()):
            remedy = "if these are vectors, name it `vector.NAME`, NAME of a-z, 0-9, _ and -; else otherwise than this"
            problems.add(remedy, column=name)
        for lacking in _close_to(name, [one for one in names.values() if one not in ours])[:1]:
            problems.add(f"rename it to `{lacking}`, or, if it is something else, to a name less like it", column=name)
    return Meaning(ours=ours, attributes=attributes)


def _vector_column(name: str) -> str | None:
    found = _VECTOR.fullmatch(name.casefold())
    return f"{VECTOR}{found[1]}" if found else None


def _instead(names: Sequence[str]) -> str:
    found = listed(f"`{name}`" for name in names) or "none"
    candidates = [name for name in names if _close_to(name, ["video"])]
    if len(candidates) == 1:
        return f"; found {found}. If it is `{candidates[0]}`, rename it to `video`."
    return f"; found {found}. `video` is the path of each file; in a CSV file the first row names the columns."


def _close_to(name: str, ours: Iterable[str]) -> list[str]:
    compact = _compact(name)
    words = [word.lower() for word in _WORDS.findall(name)]
    meant = {compact, _singular(compact), _singular("".join(word for word in words if word not in _ADDITIONS))}
    return [
        one
        for one in ours
        if meant & _OTHER_NAMES.get(one, frozenset())
        or any(_resembles(word, _compact(one)) for word in ([compact] if _SEVERAL.search(one) else [*words, compact]))
    ]


def _resembles(word: str, ours: str) -> bool:
    return ours in word or difflib.SequenceMatcher(None, word, ours, autojunk=False).ratio() >= _NEAR


def _singular(word: str) -> str:
    return word.removesuffix("s")


def _compact(name: str) -> str:
    """Letters and digits alone, in small letters."""
    return "".join(character for character in name.casefold() if character.isalnum())


_BY_COMPACT_NAME = {_compact(name): name for name in COLUMNS}

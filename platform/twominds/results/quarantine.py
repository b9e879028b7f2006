"""Clips that could not be processed, in `<uri>/quarantine/*.jsonl`: a line for each, with why and at which stage."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace

from upath import UPath

from twominds.records import Clip, Corpus, Failure
from twominds.results import tables
from twominds.storage import files_in, read_if_there, write_whole

QUARANTINE = "quarantine"
_OF_CORPUS = "corpus"
_CARRIED = "from-before"

Aside = tuple[Clip, Failure]
"""A clip in quarantine, without its words, and why it is there."""


def quarantine_files(uri: str) -> list[UPath]:
    """The quarantine below `uri`."""
    return files_in(f"{uri}/{QUARANTINE}", "*.jsonl")


def read_aside(path: UPath) -> list[Aside]:
    """The clips of one file."""
    rows = [json.loads(line) for line in path.read_text().split("\n") if line]
    return [
        (tables.clip_from_row(row), Failure(clip_id=row["clip_id"], stage=row["stage"], reason=row["reason"]))
        for row in rows
    ]


def write_aside(path: UPath, aside: Sequence[Aside]) -> None:
    """Writes one file, unless it says the same already, or nothing is to be said and it is not there."""
    text = "".join(json.dumps(_line(*one)) + "\n" for one in aside).encode()
    if text != (read_if_there(path) or b""):
        write_whole(path, text)


def put_aside(uri: str, name: str, aside: Sequence[Aside]) -> None:
    """Puts clips in the quarantine below `uri`, in a file called `name`."""
    write_aside(UPath(uri) / QUARANTINE / f"{name}.jsonl", aside)


def _line(clip: Clip, failure: Failure) -> tables.Row:
    """What the corpus says of the clip is there, too: its label counts, although nothing else of it does."""
    row = tables.clip_to_row(clip)
    return {name: row[name] for name in tables.WITHOUT_WORDS} | {"stage": failure.stage, "reason": failure.reason}


def quarantine_corpus(uri: str, corpus: Corpus, done: Collection[str]) -> None:
    """Puts the clips of which the corpus itself says that they are of no use in quarantine, unless they are done.

    They take the place of those of an earlier run: the corpus may have been mended since.
    """
    clips = {clip.clip_id: clip for clip in corpus.clips}
    put_aside(uri, _OF_CORPUS, [(clips[f.clip_id], f) for f in corpus.failures if f.clip_id not in done])


def carry_quarantine(source: str, uri: str) -> list[Failure]:
    """Puts the clips in quarantine below `source` in that below `uri` as well: what is made of results lacks them.

    They take the place of those of an earlier run. Returns why they are there.
    """
    aside = quarantined_clips(source)
    put_aside(uri, _CARRIED, aside)
    return [nameless(*one) for one in aside]


def quarantined_clips(uri: str) -> list[Aside]:
    """The clips in quarantine below `uri`, each once, with what the corpus says of them (not their words)."""
    aside = [one for path in quarantine_files(uri) for one in read_aside(path)]
    return list({clip.clip_id: (clip, failure) for clip, failure in aside}.values())


def read_quarantine(uri: str) -> list[Failure]:
    """Why the clips that are in quarantine below `uri` are there, for the summary."""
    return [nameless(*aside) for aside in quarantined_clips(uri)]


def empty_quarantine(uri: str) -> None:
    """Forgets the clips that are in quarantine below `uri`, so that they are tried again."""
    for path in quarantine_files(uri):
        path.unlink()


def nameless(clip: Clip, failure: Failure) -> Failure:
    """A failure for the summary, without the file's name: that may tell who it is, and stays in the quarantine."""
    reason = failure.reason.replace(clip.video_uri, "the file")
    return replace(failure, reason=reason[:1].upper() + reason[1:])

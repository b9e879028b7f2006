"""BAH's labels of frames, joined to the clips of its split files."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from upath import UPath

from twominds.corpus.annotations import read_annotations, read_frame_labels
from twominds.corpus.bah import LAYOUTS, BahVersion
from twominds.corpus.problems import listed
from twominds.errors import CorpusError
from twominds.records import Clip, Corpus, Labels, Split

_FOLDERS = re.compile(r"^(cropped-aligned-faces/)?(videos/)?", re.IGNORECASE)
_VISIT = re.compile(r"/visite[ _]", re.IGNORECASE)


def with_frame_labels(corpus: Corpus, root_uri: str, *, version: BahVersion) -> Corpus:
    """A corpus of `read_bah` with the labels of the clips' frames in place of those of the clips.

    They are those of `split-frames/`, and, of a clip that is not there, those of the annotations' YAML. Frames that
    neither lists are unknown, and so are all frames of a private split. `Visite 1` and `Visite_1`, which both occur,
    are taken for one.

    Raises:
        CorpusError: there is neither, or one of them is wrong; names file, lines and clips.
    """
    root = UPath(root_uri)
    annotations = root / LAYOUTS[version].annotations
    listed_frames = _listed(root)
    wanted = [clip for clip in corpus.clips if clip.split is not Split.PRIVATE]
    found, unused = _joined(wanted, listed_frames)
    if len(found) < len(wanted) and annotations.exists():
        of_clips = {
            clip_id: annotation.frame_labels
            for clip_id, annotation in read_annotations(root_uri, version=version).items()
            if annotation.frame_labels is not None
        }
        others, _ = _joined([clip for clip in wanted if clip.clip_id not in found], of_clips)
        found |= others
    if wanted and not found:
        raise CorpusError(
            f"{root} has no labels of frames for its clips: expected {root / 'split-frames'} with train.txt, ..., or "
            f"`frame_annotation` in {annotations}."
        )
    notes = list(corpus.notes)
    if len(found) < len(wanted):
        notes.append(f"Clips of whose frames no label is known: {len(wanted) - len(found)}.")
    if unused:
        notes.append(
            f"Clips of {root / 'split-frames'} passed over, since they are none of the clips in use: {unused}."
        )
    other = sum(_contradicts(clip.label, found[clip.clip_id]) for clip in wanted if clip.clip_id in found)
    if other:
        notes.append(f"Clips whose own label is not that of any frame, or the other way round: {other}.")
    clips = tuple(replace(clip, labels=found.get(clip.clip_id)) for clip in corpus.clips)
    return replace(corpus, clips=clips, notes=tuple(notes))


def _listed(root: UPath) -> dict[str, Labels]:
    """What `split-frames/` has for all splits together."""
    labels: dict[str, Labels] = {}
    for split in (Split.TRAIN, Split.VALIDATION, Split.TEST):
        file = root / "split-frames" / f"{split.value}.txt"
        of_split = read_frame_labels(str(root), split) if file.exists() else {}
        if twice := [clip_id for clip_id in of_split if clip_id in labels]:
            raise CorpusError(f"{file}: frames of {listed(twice, 3)} are in the file of another split, too.")
        labels |= of_split
    return labels


def _joined(clips: Iterable[Clip], labels: Mapping[str, Labels]) -> tuple[dict[str, Labels], int]:
    """The labels by clip id, and how many of them are of no clip."""
    by_key = {_key(name): name for name in labels}
    names = {clip.clip_id: clip.clip_id if clip.clip_id in labels else by_key.get(_key(clip.clip_id)) for clip in clips}
    found = {clip_id: labels[name] for clip_id, name in names.items() if name is not None}
    return found, len(set(labels) - set(names.values()))


def _key(name: str) -> str:
    return _VISIT.sub("/visite_", _FOLDERS.sub("", name))


def _contradicts(label: int | None, frames: Labels) -> bool:
    return label is not None and bool(frames.known.all()) and bool(frames.values.max(initial=0)) != bool(label)

"""Reads Aff-Wild2 with the annotation of its eight expressions, as the ABAW challenges hand it out.

    EXPR_Recognition_Challenge/{Train_Set,Validation_Set}/NAME.txt   # the classes' names, then one number per frame
    videos/, new_vids/, batch1/, ...                                 # NAME.mp4, NAME.avi
    cropped_aligned/NAME/00001.jpg                                   # not needed; the first frame is 1

Of two people in one video each has an annotation, `NAME_left` and `NAME_right`, or one has the video's own name.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from upath import UPath

from twominds.corpus.fitting import LabelRequest
from twominds.corpus.folders import VIDEO_SUFFIXES
from twominds.corpus.labels import frame_labels
from twominds.corpus.problems import Problems, listed, refuse, shown
from twominds.corpus.text_files import read_text
from twominds.errors import CorpusError
from twominds.records import Clip, Corpus, Failure, Labels, Split
from twominds.tasks import EXPRESSION

_SETS = {"train_set": Split.TRAIN, "validation_set": Split.VALIDATION, "test_set": Split.TEST}
_CROPS = ("cropped_aligned", "cropped")
_SIDES = ("_left", "_right")
_UNKNOWN = -1


@dataclass(frozen=True, kw_only=True)
class AffWild2Tree:
    """Where a copy of Aff-Wild2 is."""

    root: UPath
    sets: tuple[UPath, ...]
    """The folders of annotations, by split."""


def find_aff_wild2(uri: str) -> AffWild2Tree | None:
    """The tree at `uri`; None where no folder `EXPR...` with a `Train_Set` or `Validation_Set` is."""
    root = UPath(uri)
    below = _folders(root)
    annotations = [folder for folder in below if "annotation" in folder.name.casefold()]
    for folder in (*below, *(inner for outer in annotations for inner in _folders(outer))):
        if folder.name.casefold().startswith("expr"):
            sets = [one for one in _folders(folder) if one.name.casefold() in _SETS]
            if sets:
                return AffWild2Tree(root=root, sets=tuple(sorted(sets, key=lambda one: list(_SETS).index(_name(one)))))
    return None


def read_aff_wild2(tree: AffWild2Tree, request: LabelRequest) -> Corpus:
    """A clip for each annotation, which is one person in one video; opens no video.

    Frames with -1 are unknown. Of two people in a video nobody can tell who is meant without the corpus's own face
    crops: without these such clips are failures.

    Raises:
        CorpusError: an annotation is not as described above; names the files and lines. Or no video has one.
    """
    notes: list[str] = []
    fits = request.fits((EXPRESSION,), f"Aff-Wild2 at {tree.root}", notes)
    videos = _videos(tree)
    crops = next((tree.root / name for name in _CROPS if (tree.root / name).is_dir()), None)
    cropped = {folder.name for folder in _folders(crops)} if crops is not None else set[str]()
    problems: list[Problems] = []
    clips: list[Clip] = []
    seen: dict[str, UPath] = {}
    for folder in tree.sets:
        for file in sorted((one for one in folder.iterdir() if one.suffix.lower() == ".txt"), key=lambda one: one.name):
            problems.append(Problems(file, unit="line"))
            labels = _read_annotation(problems[-1]) if fits else None
            if file.stem in seen:
                problems[-1].add("a video is in one set alone", found=f"another one in {seen[file.stem].name}")
            seen[file.stem] = folder
            name = _video_name(file.stem, videos)
            clip = Clip(
                clip_id=file.stem,
                video_uri=videos.get(name, [str(tree.root / "videos" / f"{name}.mp4")])[0],
                split=_SETS[_name(folder)],
                labels=labels,
                face_crops_uri=str(crops / file.stem) if crops is not None and file.stem in cropped else None,
            )
            clips.append(clip)
    refuse(problems)
    if not clips:
        raise CorpusError(
            f"{listed(map(str, tree.sets))} have no annotations: expected a file NAME.txt for each video."
        )
    names = {clip.clip_id: _video_name(clip.clip_id, videos) for clip in clips}
    notes += _notes(clips, names, videos)
    return Corpus(clips=tuple(clips), failures=tuple(_failures(clips, names, videos)), notes=tuple(notes))


def _read_annotation(problems: Problems) -> Labels | None:
    header, *lines = read_text(problems.file).rstrip().split("\n")
    known = {name.casefold(): index for index, name in enumerate(EXPRESSION.names)}
    names = [name.strip().casefold() for name in header.split(",")]
    if not set(names) <= set(known):
        remedy = f"name the classes of the numbers below, separated by commas, such as {', '.join(EXPRESSION.names)}"
        problems.add(remedy, row=1, found=shown(header.strip()))
        return None
    codes = {str(number): known[name] for number, name in enumerate(names)}
    frames: dict[int, tuple[float]] = {}
    for frame, line in enumerate(lines):
        code = line.strip()
        if code in codes:
            frames[frame] = (codes[code],)
        elif code != str(_UNKNOWN):
            remedy = f"write one number for each frame, from 0 to {len(names) - 1}, or -1 where nobody knows"
            problems.add(remedy, row=frame + 2, found=shown(code))
    return frame_labels(frames, len(lines))


def _videos(tree: AffWild2Tree) -> dict[str, list[str]]:
    """The files by their names without suffix; those of face crops, which are millions, are not looked through."""
    found: dict[str, list[str]] = {}
    folders = [one for one in _folders(tree.root) if not _name(one).startswith("cropped")]
    for folder in (tree.root, *folders):
        for file in sorted(folder.iterdir(), key=str):
            if file.suffix.lower() in VIDEO_SUFFIXES:
                found.setdefault(PurePosixPath(file.name).stem, []).append(str(file))
    return found


def _video_name(annotation: str, videos: Iterable[str]) -> str:
    """The name of the video of which an annotation is: without the side of the person, unless a video is named so."""
    if annotation in videos:
        return annotation
    return next((annotation.removesuffix(side) for side in _SIDES if annotation.endswith(side)), annotation)


def _failures(clips: Iterable[Clip], names: dict[str, str], videos: dict[str, list[str]]) -> Iterator[Failure]:
    people = Counter(names.values())
    for clip in clips:
        name = names[clip.clip_id]
        if len(videos.get(name, [])) > 1:
            reason = f"Several files are named {name}: {listed(videos[name])}."
            yield Failure(clip_id=clip.clip_id, stage="corpus", reason=reason)
        elif (people[name] > 1 or clip.clip_id != name) and clip.face_crops_uri is None:
            reason = f"Several people are in {name}, and without face crops in {_CROPS[0]}/ nobody knows who is meant."
            yield Failure(clip_id=clip.clip_id, stage="corpus", reason=reason)


def _notes(clips: Iterable[Clip], names: dict[str, str], videos: Iterable[str]) -> Iterator[str]:
    splits: dict[str, set[Split | None]] = {}
    for clip in clips:
        splits.setdefault(names[clip.clip_id], set()).add(clip.split)
    if several := sum(len(of_video) > 1 for of_video in splits.values()):
        yield f"Videos of which one person is in one split and one in another: {several}."
    if shared := sum(count > 1 for count in Counter(names.values()).values()):
        yield f"Videos of several people, whom only the corpus's own face crops tell apart: {shared}."
    if without := len(set(videos) - set(names.values())):
        yield f"Videos passed over, since nobody annotated their expressions: {without}."


def _folders(folder: UPath) -> list[UPath]:
    """The folders in a folder; none where there is no such folder."""
    return sorted((one for one in folder.iterdir() if one.is_dir()), key=str) if folder.is_dir() else []


def _name(folder: UPath) -> str:
    return folder.name.casefold()

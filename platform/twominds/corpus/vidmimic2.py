"""Reads Hume-Vidmimic2 with its six intensities of emotional mimicry, as the ABAW challenges hand it out.

    train_split.csv, valid_split.csv, test_split.csv   # Filename, then a column for each intensity, from 0 to 1
    raw/00012.mp4                                       # Filename with five digits
    text/00012.txt                                      # what is said, where somebody has written it down
    face_images/00012/5.jpg                             # face crops by frame, where they are

The test split may be below `test_data/`, with a `raw/` of its own; its labels are zeros, as nobody outside knows them.
"""

from pathlib import PurePosixPath

from upath import UPath

from twominds.corpus.cells import is_empty, short_text_of
from twominds.corpus.columns import meaning_of
from twominds.corpus.fitting import LabelRequest
from twominds.corpus.folders import VIDEO_SUFFIXES
from twominds.corpus.problems import Problems, refuse, shown
from twominds.corpus.rows import read_table
from twominds.corpus.table_rows import TableRow, add_lacking
from twominds.corpus.text_files import read_text
from twominds.errors import CorpusError
from twominds.records import Clip, Corpus, Labels, Split
from twominds.tasks import MIMICRY

_FILES = {
    Split.TRAIN: ("train_split.csv",),
    Split.VALIDATION: ("valid_split.csv",),
    Split.TEST: ("test_split.csv", "test_data/test_split.csv"),
}
_FILENAME = "Filename"
_DIGITS = 5


def find_vidmimic2(uri: str) -> UPath | None:
    """The folder of the split files at `uri` (or at its `data/`); None where there are none."""
    for folder in (UPath(uri), UPath(uri) / "data"):
        if folder.is_dir() and any((folder / _FILES[split][0]).exists() for split in (Split.TRAIN, Split.VALIDATION)):
            return folder
    return None


def read_vidmimic2(root: UPath, request: LabelRequest) -> Corpus:
    """The clips of the split files; opens no video.

    Raises:
        CorpusError: a split file is not as described above; names the files, rows and columns.
    """
    notes: list[str] = []
    fits = request.fits((MIMICRY,), f"Hume-Vidmimic2 at {root}", notes)
    videos = _by_number(root, "raw", VIDEO_SUFFIXES)
    texts = _by_number(root, "text", {".txt"})
    crops = _crops(root)
    problems: list[Problems] = []
    clips: dict[str, Clip] = {}
    for split, names in _FILES.items():
        file = next((root / name for name in names if (root / name).exists()), None)
        if file is None:
            continue
        problems.append(Problems(file))
        labels = _read_split(problems[-1], clips)
        if split is Split.TEST and labels and not any(label is not None and any(label) for label in labels.values()):
            labels = dict.fromkeys(labels)
            notes.append(f"{file.name} has no label but zeros: those of its clips are unknown.")
        for number, label in labels.items():
            clips[number] = Clip(
                clip_id=number,
                video_uri=str(videos.get(number, root / "raw" / f"{number}.mp4")),
                split=split,
                labels=Labels.of_clip(*label) if fits and label is not None else None,
                transcript=read_text(texts[number]).strip() if number in texts else None,
                face_crops_uri=str(crops[number]) if number in crops else None,
            )
    refuse(problems)
    if not clips:
        raise CorpusError(f"The split files in {root} have no rows.")
    return Corpus(clips=tuple(clips.values()), notes=tuple(notes))


def _read_split(problems: Problems, before: dict[str, Clip]) -> dict[str, tuple[float, ...] | None]:
    """The intensities of a split file's clips, by number; None where there are none."""
    table = read_table(problems.file, problems)
    meaning = meaning_of(table.columns, problems, (_FILENAME,), outputs=MIMICRY.names, needs_video=False)
    add_lacking(meaning, MIMICRY, problems)
    if _FILENAME not in meaning.ours:
        problems.add(f"there is no column `{_FILENAME}`: name the one with the numbers of the videos so")
        return {}
    labels: dict[str, tuple[float, ...] | None] = {}
    for number, cells in table.rows:
        row = TableRow(cells=cells, number=number, meaning=meaning, problems=problems)
        if all(is_empty(cell) for cell in cells):
            continue
        if is_empty(row.cell(_FILENAME)):
            problems.add("write the number of the video", row=number, column=_FILENAME)
        name, label = row.read(_FILENAME, short_text_of), row.labels(MIMICRY)
        if name is None:
            continue
        clip_id = _clip_id(name)
        if clip_id in labels or clip_id in before:
            problems.add("a video may be there only once", row=number, column=_FILENAME, found=shown(name))
        labels[clip_id] = label
    return labels


def _clip_id(name: str) -> str:
    """A video's number as its file has it: with leading zeros, which spreadsheets drop, and without a suffix."""
    stem = PurePosixPath(name).stem if PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES else name
    return stem.zfill(_DIGITS) if stem.isdigit() else stem


def _crops(root: UPath) -> dict[str, UPath]:
    """The folders of face crops, by the video's number."""
    folders = [found for place in (root, root.parent, root / "test_data") if (found := place / "face_images").is_dir()]
    return {_clip_id(folder.name): folder for found in reversed(folders) for folder in found.iterdir()}


def _by_number(root: UPath, name: str, suffixes: frozenset[str] | set[str]) -> dict[str, UPath]:
    """The files in the folders of that name: beside the split files, beside their `data/`, and of the test split."""
    beside = [root.parent / name] if root.name == "data" else []
    folders = [root / name, *beside, root / "test_data" / name]
    files = (file for folder in reversed(folders) if folder.is_dir() for file in folder.iterdir())
    return {_clip_id(PurePosixPath(file.name).stem): file for file in files if file.suffix.lower() in suffixes}

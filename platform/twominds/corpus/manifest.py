"""Reads any videos as clips: a published corpus, a folder, a table, one file; and finds out which it was given."""

from dataclasses import replace

from upath import UPath

from twominds.corpus.aff_wild2 import find_aff_wild2, read_aff_wild2
from twominds.corpus.bah import BahVersion, Purpose, find_bah, read_bah
from twominds.corpus.bah_frames import with_frame_labels
from twominds.corpus.clip_tables import read_clip_table
from twominds.corpus.fitting import NO_LABELS, LabelRequest
from twominds.corpus.folders import VIDEO_SUFFIXES, read_folder
from twominds.corpus.label_tables import with_labels_of
from twominds.corpus.places import missing
from twominds.corpus.vectors import with_vectors_of
from twominds.corpus.vidmimic2 import find_vidmimic2, read_vidmimic2
from twominds.errors import CorpusError
from twominds.records import Clip, Corpus, Failure
from twominds.tasks import AH_FRAME, AH_VIDEO, Task


def read_corpus(
    uri: str,
    *,
    purpose: Purpose = "research",
    task: Task = AH_VIDEO,
    labels: str = "",
    labels_required: bool = True,
    vectors: str = "",
) -> Corpus:
    """The corpus at `uri`: a tree of a published corpus, a folder of videos, a table of videos, or one video.

    The published ones are BAH (any version), Aff-Wild2 with its expressions, and Hume-Vidmimic2. A file that is
    missing on this machine makes its clip a failure; on an object store that shows when it is decoded.

    Args:
        uri: Local path or URI such as `s3://bucket/prefix`.
        purpose: What BAH's clips are for (see `bah.read_bah`).
        task: What the labels are to say.
        labels: A table of labels of segments or frames, in place of the corpus's own (see `with_labels_of`).
        labels_required: Whether a corpus whose labels are for another task is refused; else it is read without them.
        vectors: A table of vectors that models of the user made of the clips (see `with_vectors_of`).

    Raises:
        CorpusError: nothing is there, or it is none of these; names the file and the rows. Or its labels are for other
            tasks; names these. Or a purpose was given that only BAH's own metadata can be asked about.
    """
    request = NO_LABELS if labels else LabelRequest(task=task, required=labels_required)
    tree = find_bah(uri)
    if tree is not None:
        corpus = _read_bah(*tree, purpose, request)
    elif purpose != "research":
        raise CorpusError(f"{uri} is no BAH tree: nothing there says who consented to a {purpose}.")
    else:
        corpus = _read_other(uri, request)
    if labels:
        corpus = with_labels_of(corpus, uri, labels, task)
    if vectors:
        corpus = with_vectors_of(corpus, uri, vectors)
    known = {failure.clip_id for failure in corpus.failures}
    lost = [
        Failure(clip_id=clip.clip_id, stage="corpus", reason=reason)
        for clip in corpus.clips
        if clip.clip_id not in known and (reason := missing(clip.video_uri))
    ]
    return replace(corpus, failures=(*corpus.failures, *lost))


def _read_bah(root: UPath, version: BahVersion, purpose: Purpose, request: LabelRequest) -> Corpus:
    corpus = read_bah(str(root), version=version, purpose=purpose)
    notes = list(corpus.notes)
    if not request.fits((AH_VIDEO, AH_FRAME), f"The BAH tree at {root}", notes):
        return replace(corpus, clips=tuple(replace(clip, labels=None) for clip in corpus.clips), notes=tuple(notes))
    if request.task is not None and request.task.per_frame:
        return with_frame_labels(corpus, str(root), version=version)
    return corpus


def _read_other(uri: str, request: LabelRequest) -> Corpus:
    expressions, mimicry = find_aff_wild2(uri), find_vidmimic2(uri)
    if expressions is not None:
        return read_aff_wild2(expressions, request)
    if mimicry is not None:
        return read_vidmimic2(mimicry, request)
    return read_manifest(uri, task=request.task, required=request.required)


def read_manifest(uri: str, *, task: Task | None = AH_VIDEO, required: bool = True) -> Corpus:
    """The corpus of a folder of videos (see `read_folder`), of a table that names videos, or of one video.

    A table (`.csv`, `.tsv`, `.jsonl`, `.parquet`) has a column `video` (path relative to the table, or URI) and may
    have `clip_id` (default: the video as written), `split`, `label` (0, 1, ... or yes and no; for a task of
    intensities one column for each, by its name), `transcript`, `participant` and `question`, whatever the case,
    blanks and underscores of these names; and `vector.NAME`, lists of numbers of the user's own models. Other columns
    become the clip's attributes; one whose name is close to one of these is refused (see `columns`). Text is UTF-8, or
    UTF-16 with a byte order mark; cells are separated by commas, semicolons or tabs. Empty cells, NaN and null count as
    absent, but a transcript that is "" in JSON lines or Parquet says that nobody speaks.

    Args:
        uri: Local path or URI.
        task: What the labels are to say; None: they are not looked at.
        required: Whether labels for another task are refused (see `LabelRequest`).

    Raises:
        CorpusError: nothing is there, or rows are wrong; names the file, all such rows, and what to write instead.
    """
    path = UPath(uri)
    if path.is_dir():
        return read_folder(path)
    if not path.exists():
        raise CorpusError(f"There is nothing at {uri}: give a folder of videos, a table of videos, or a BAH tree.")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return Corpus(clips=(Clip(clip_id=path.name, video_uri=str(path)),))
    return read_clip_table(path, task, required=required)

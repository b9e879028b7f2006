"""Reads any videos as clips: a folder, a table, one file; and finds out which it was given."""

from dataclasses import replace

from upath import UPath

from twominds.corpus.bah import Purpose, find_bah, read_bah
from twominds.corpus.clip_tables import read_clip_table
from twominds.corpus.folders import VIDEO_SUFFIXES, read_folder
from twominds.corpus.places import missing
from twominds.errors import CorpusError
from twominds.records import AH_VIDEO, Clip, Corpus, Failure, Task


def read_corpus(uri: str, *, purpose: Purpose = "research", task: Task = AH_VIDEO) -> Corpus:
    """The corpus at `uri`: a BAH tree (any version), a folder of videos, a table of videos, or one video.

    A file that is missing on this machine makes its clip a failure; on an object store that shows when it is decoded.

    Args:
        uri: Local path or URI such as `s3://bucket/prefix`.
        purpose: What BAH's clips are for (see `bah.read_bah`).
        task: Whose classes the labels of a table are.

    Raises:
        CorpusError: nothing is there, or it is none of these; names the file and the rows. Or a purpose was given that
            only BAH's own metadata can be asked about.
    """
    tree = find_bah(uri)
    if tree is not None:
        root, version = tree
        corpus = read_bah(str(root), version=version, purpose=purpose)
    elif purpose != "research":
        raise CorpusError(f"{uri} is no BAH tree: nothing there says who consented to a {purpose}.")
    else:
        corpus = read_manifest(uri, task=task)
    known = {failure.clip_id for failure in corpus.failures}
    lost = [
        Failure(clip_id=clip.clip_id, stage="corpus", reason=reason)
        for clip in corpus.clips
        if clip.clip_id not in known and (reason := missing(clip.video_uri))
    ]
    return replace(corpus, failures=(*corpus.failures, *lost))


def read_manifest(uri: str, *, task: Task = AH_VIDEO) -> Corpus:
    """The corpus of a folder of videos (see `read_folder`), of a table that names videos, or of one video.

    A table (`.csv`, `.tsv`, `.jsonl`, `.parquet`) has a column `video` (path relative to the table, or URI) and may
    have `clip_id` (default: the video as written), `split`, `label` (0, 1, ... or yes and no), `transcript`,
    `participant` and `question`, whatever the case, blanks and underscores of these names. Other columns become the
    clip's attributes; one whose name is close to one of these is refused (see `columns`). Text is UTF-8, or UTF-16
    with a byte order mark; cells are separated by commas, semicolons or tabs. Empty cells, NaN and null count as
    absent, but a transcript that is "" in JSON lines or Parquet says that nobody speaks.

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
    return read_clip_table(path, task)

"""Reads the BAH corpus (Behavioural Ambivalence/Hesitancy) in the layout of its releases.

Version 2 and version 1 share a layout and differ in size; the variant of the ABAW-8 challenge keeps its videos in
`videos/`, its splits in `default-split/`, and names clips `<pid>/Visite 1/...`, without `Videos/`. The drawn corpus
(`synthetic.corpus`) has version 2's layout exactly, and is read by this same code.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

from upath import UPath

from twominds.corpus.problems import Problems, refuse, shown
from twominds.corpus.splits import check_people
from twominds.corpus.text_files import numbered_lines, read_text
from twominds.corpus.yaml_files import as_mapping, as_sequence, as_text, read_yaml
from twominds.errors import CorpusError
from twominds.records import Clip, Corpus, Split, Word, clip_labels

BahVersion = Literal["v1", "v2", "abaw8"]
Purpose = Literal["research", "challenge", "publication"]


@dataclass(frozen=True, kw_only=True)
class BahLayout:
    """Where a release keeps things, below its root."""

    splits: str
    """Folder of `train.txt`, `val.txt`, ..."""
    videos: str
    """The folder in which a clip's key is its file."""
    annotations: str
    """The YAML of segments and frames."""


LAYOUTS: dict[BahVersion, BahLayout] = {
    "v1": BahLayout(splits="split", videos="", annotations="video_annotation_transcript.yaml"),
    "v2": BahLayout(splits="split", videos="", annotations="video_annotation_transcript.yaml"),
    "abaw8": BahLayout(splits="default-split", videos="videos", annotations="annotation.yml"),
}

CONSENT_FIELDS: dict[Purpose, str | None] = {
    "research": None,
    "challenge": "Use in challenges",
    "publication": "Use in publications",
}
"""The field of `meta_data.yml` that must say yes for a purpose. Research on one's own machines is what the corpus's
agreement itself allows: no further field."""

_ATTRIBUTES = {
    "gender": "Gender",
    "age_range": "Age range",
    "ethnicity": "Ethnicity simplified",
    "is_student": "Is student",
}
_QUESTION = re.compile(r"Question[ _]*([1-7])(?!\d)", re.IGNORECASE)
_FILES_AT_ONCE = 16
"""Transcriptions that are read at the same time."""
_VISIT = re.compile(r"/Visite[ _]1/")
_YES = {"yes", "y", "true", "1", "oui"}


def find_bah(root_uri: str) -> tuple[UPath, BahVersion] | None:
    """The root of the BAH tree at `root_uri` (or at its `data/`) and its version; None where there is none.

    Version 1 has the layout of version 2 and is reported as that.
    """
    for folder in (UPath(root_uri), UPath(root_uri) / "data"):
        if (folder / LAYOUTS["v2"].splits).is_dir():
            return folder, "v2"
        if (folder / LAYOUTS["abaw8"].splits).is_dir():
            return folder, "abaw8"
    return None


def on_disk(folder: UPath, key: str) -> UPath:
    """Where something of a clip is: ABAW-8's variant spells `Visite 1` in some folders, and `Visite_1` in others."""
    path, other = folder / key, _VISIT.sub(lambda found: "/Visite_1/" if " " in found[0] else "/Visite 1/", key)
    if key.lower().startswith("videos/") or other == key or path.exists() or not (folder / other).exists():
        return path
    return folder / other


def read_bah(root_uri: str, *, version: BahVersion = "v2", purpose: Purpose = "research") -> Corpus:
    """The clips of a BAH tree that may be used for `purpose`, in the order of its split files; opens no video.

    A private split's clips have no label. The transcript is the split file's; a row without one takes it from
    `transcription/`, and so does every row its words in time (`read_words`).

    Args:
        root_uri: The folder that holds `split/` (or `default-split/`).
        version: The release of BAH whose layout the tree has.
        purpose: What the clips are for; participants who did not consent to it are left out, and a note counts them.

    Raises:
        CorpusError: a file is missing or is not what the layout promises, or a participant is in more than one of
            train, val and test; names the files and all such lines.
    """
    root, layout = UPath(root_uri), LAYOUTS[version]
    participants = _participants(root, purpose)
    has_crops = (root / "cropped-aligned-faces").is_dir()
    clips: list[tuple[int, Clip]] = []
    refused: dict[str, int] = {}
    seen: dict[str, str] = {}
    problems = [Problems(root / layout.splits, unit="line")]
    for split in Split:
        file = root / layout.splits / f"{split.value}.txt"
        if not file.exists():
            continue
        problems.append(Problems(file, unit="line"))
        for row in _split_rows(problems[-1], private=split is Split.PRIVATE):
            if row.key in seen:
                again = f"{shown(row.key)} as in {seen[row.key]}"
                problems[-1].add("a clip may be there only once", row=row.number, found=again)
                continue
            seen[row.key] = f"{file.name}, line {row.number}"
            about = participants.get(row.participant, {})
            field = CONSENT_FIELDS[purpose]
            if field is not None and as_text(about.get(field)).lower() not in _YES:
                refused[row.participant] = refused.get(row.participant, 0) + 1
                continue
            question = _QUESTION.search(row.key.rsplit("/", 1)[-1])
            clip = Clip(
                clip_id=row.key,
                video_uri=str(on_disk(root / layout.videos, row.key)),
                split=split,
                labels=clip_labels(row.label),
                transcript=row.transcript,
                participant_id=row.participant,
                question=int(question.group(1)) if question else None,
                attributes={name: as_text(about.get(key)) for name, key in _ATTRIBUTES.items() if key in about},
                face_crops_uri=str(on_disk(root / "cropped-aligned-faces", row.key)) if has_crops else None,
            )
            clips.append((row.number, clip))
    notes = check_people(clips, problems[0])
    refuse(problems)
    if not seen:
        raise CorpusError(
            f"{root / layout.splits} lists no clips: expected train.txt, val.txt, test.txt or private.txt."
        )
    if refused:
        notes.append(
            f"{len(refused)} participants ({sum(refused.values())} clips) did not consent to the purpose '{purpose}': "
            "they are left out."
        )
    spoken, unreadable = _with_words(root, [clip for _, clip in clips])
    return Corpus(clips=tuple(spoken), notes=(*notes, *unreadable))


@dataclass(frozen=True, kw_only=True)
class _SplitLine:
    number: int
    key: str
    participant: str
    label: int | None
    transcript: str | None


def _split_rows(problems: Problems, *, private: bool) -> Iterator[_SplitLine]:
    """Rows `path,label,transcript` of a split file; the transcript may itself hold commas."""
    for number, line in numbered_lines(read_text(problems.file)):
        key, *rest = [field.strip() for field in line.split(",", 2)]
        label, transcript = (*rest, None, None)[:2]
        parts = key.split("/")
        folders = parts[1:] if parts[0].lower() == "videos" else parts
        if len(folders) < 2 or ".." in parts or "" in parts:
            remedy = "write a path below the corpus, with a participant's folder, such as `Videos/1/Visite_1/a.mp4`"
            problems.add(remedy, row=number, found=shown(key))
            continue
        if private and label not in {None, "", "0", "1"}:  # `path,transcript`: no column for a label
            label, transcript = "", line.split(",", 1)[1].strip()
        if label not in {"0", "1"} and not (private and not label):
            problems.add("write the label 0 or 1 after the path", row=number, found=shown(label or ""))
            continue
        yield _SplitLine(
            number=number,
            key=key,
            participant=folders[0],
            label=int(label) if label and not private else None,
            transcript=transcript,
        )


def _participants(root: UPath, purpose: Purpose) -> Mapping[str, Mapping[str, object]]:
    file = root / "meta_data.yml"
    if not file.exists():
        if CONSENT_FIELDS[purpose] is not None:
            raise CorpusError(f"{file} is missing: without it nobody's consent to the purpose '{purpose}' is known.")
        return {}
    return {
        participant: as_mapping(about, f"{file}, participant {participant}")
        for participant, about in as_mapping(read_yaml(file), str(file)).items()
    }


@dataclass(frozen=True, kw_only=True)
class TranscriptChunk:
    """A stretch of speech, in seconds from the clip's start."""

    text: str
    start_s: float
    end_s: float | None
    """None: open, until the clip ends."""
    language: str = ""


def transcript_file(root: UPath, clip_id: str) -> UPath:
    """Where a clip's timed transcript is."""
    stem = clip_id.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return on_disk(root / "transcription", clip_id) / f"{stem}.yml"


def _with_words(root: UPath, clips: Sequence[Clip]) -> tuple[list[Clip], list[str]]:
    """The clips with what `transcription/` knows of them, and what to tell of files that cannot be read.

    Each file is opened once, several at a time: a store far away answers each only after a while.

    Raises:
        CorpusError: a file cannot be read that the transcript itself is needed from.
    """
    if not (root / "transcription").is_dir():
        return list(clips), []

    def look(clip: Clip) -> tuple[Clip, str]:
        file = transcript_file(root, clip.clip_id)
        try:
            found = _read_transcription(file)
            if found is None:
                return clip, ""
            transcript = as_text(found.get("text")) if clip.transcript is None else clip.transcript
            return replace(clip, transcript=transcript, words=_words(_chunks(found, file))), ""
        except CorpusError as error:
            if clip.transcript is None:
                raise
            return clip, str(error)

    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        looked = list(pool.map(look, clips))
    problems = [problem for _, problem in looked if problem]
    notes = [f"{len(problems)} clips' words have no times. {problems[0]}"] if problems else []
    return [clip for clip, _ in looked], notes


def _read_transcription(file: UPath) -> Mapping[str, object] | None:
    """What is in a file of `transcription/`; None where there is no such file."""
    return as_mapping(read_yaml(file), str(file)) if file.exists() else None


def read_words(root_uri: str, clip_id: str) -> tuple[Word, ...] | None:
    """A clip's words in time: each chunk that the recogniser wrote is one `Word`, of one spoken word or of several.

    Times are put together as in `continuous_times`. A chunk without an end ends where the next one begins; the last
    one, where it begins itself.

    Returns:
        None where the corpus has no timed transcript of the clip, or it has no chunks.

    Raises:
        CorpusError: the file is not what the layout promises.
    """
    file = transcript_file(UPath(root_uri), clip_id)
    found = _read_transcription(file)
    return None if found is None else _words(_chunks(found, file))


def _words(chunks: Sequence[TranscriptChunk]) -> tuple[Word, ...] | None:
    starts = [chunk.start_s for chunk in chunks]
    ends = [
        after if chunk.end_s is None else chunk.end_s
        for chunk, after in zip(chunks, [*starts[1:], *starts[-1:]], strict=True)
    ]
    timed = zip(chunks, ends, strict=True)
    words = [Word(text=c.text, start_s=c.start_s, end_s=max(c.start_s, end)) for c, end in timed if c.text]
    return tuple(words) or None


def read_transcript(root_uri: str, clip_id: str) -> list[TranscriptChunk]:
    """A clip's transcript with times from the clip's start.

    Raises:
        CorpusError: the file is missing or is not what the layout promises.
    """
    file = transcript_file(UPath(root_uri), clip_id)
    return _chunks(as_mapping(read_yaml(file), str(file)), file)


def _chunks(transcription: Mapping[str, object], file: UPath) -> list[TranscriptChunk]:
    chunks = [as_mapping(item, str(file)) for item in as_sequence(transcription.get("chunks"), str(file))]
    times: list[tuple[float, float | None]] = []
    for number, chunk in enumerate(chunks, start=1):
        where = f"{file}, chunk {number}"
        stamp = as_sequence(chunk.get("timestamp"), where)
        if len(stamp) != 2 or not isinstance(stamp[0], int | float) or not isinstance(stamp[1], int | float | None):
            raise CorpusError(f"{where}: the timestamp must be [start, end] in seconds, found {list(stamp)!r}.")
        times.append((float(stamp[0]), None if stamp[1] is None else float(stamp[1])))
    return [
        TranscriptChunk(
            text=as_text(chunk.get("text")), start_s=start, end_s=end, language=as_text(chunk.get("language"))
        )
        for chunk, (start, end) in zip(chunks, continuous_times(times), strict=True)
    ]


def continuous_times(
    times: list[tuple[float, float | None]], window_s: float = 30.0
) -> list[tuple[float, float | None]]:
    """Times from the clip's start, from times that restart at 0 with each window of the recogniser (about 30 s).

    A chunk is the first of a new window where it begins before the one before it ended, or, where that one's end is
    open, not after it began: within a window the recogniser goes on in time. The window begins where the one before
    ended its last chunk; an open end counts as the whole window. So (0, 12.5), (12.5, 29), (0, 4), (4.5, 28), (1, 3) is
    (0, 12.5), (12.5, 29), (29, 33), (33.5, 57), (58, 60): the offsets are 29, and 29 + 28.
    """
    offset, before = 0.0, (0.0, 0.0)
    result: list[tuple[float, float | None]] = []
    for start, end in times:
        begins_anew = start <= before[0] if before[1] is None else start < max(before[0], before[1])
        if begins_anew:
            offset += window_s if before[1] is None else before[1]
        result.append((offset + start, None if end is None else offset + end))
        before = (start, end)
    return result

"""What becomes of clips that no task brought to an end; `tests/ray/pipelines/test_lost_clips.py` really loses some."""

import errno
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest

from twominds.pipelines import sink as sink_module
from twominds.pipelines.sink import LOST, ClipSink, PipelineError, check_usable, process_clips
from twominds.pipelines.stages import ERROR_FIELDS
from twominds.records import Clip, Corpus, Failure, Split, clip_labels
from twominds.results import tables
from twominds.results.quarantine import carry_quarantine, quarantine_corpus, quarantined_clips, read_quarantine

CLIPS = [Clip(clip_id=f"{i}.mp4", video_uri=f"/videos/{i}.mp4") for i in range(3)]


class LosingSink(ClipSink):
    """Loses every clip that is given to it, as if each one had killed its process."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, ["clip_id"], block_size=8)
        self.takes: list[Any] = []

    def take(self, dataset: Any, *, expected: int) -> None:
        self.takes.append((dataset.clips, dataset.block_size, dataset.context.max_errored_blocks, expected))


def pipeline(clips: Sequence[Clip], block_size: int) -> Any:
    return SimpleNamespace(clips=list(clips), block_size=block_size, context=SimpleNamespace(max_errored_blocks=0))


def test_when_no_clip_comes_through_it_is_no_clips_fault(tmp_path: Path) -> None:
    sink = LosingSink(str(tmp_path))
    with pytest.raises(PipelineError, match="None of 3 clips came through"):
        process_clips(sink, CLIPS, pipeline)
    assert sink.takes == [(CLIPS, 8, -1, 3), (CLIPS, 1, -1, 3)]  # together, then each by itself
    assert read_quarantine(str(tmp_path)) == []


def test_a_single_clip_that_is_lost_twice_is_put_aside(tmp_path: Path) -> None:
    sink = LosingSink(str(tmp_path))
    process_clips(sink, CLIPS[:1], pipeline)
    (failure,) = read_quarantine(str(tmp_path))
    assert (failure.clip_id, failure.stage, failure.reason) == ("0.mp4", "process", LOST)
    assert sink.failures == [failure]
    process_clips(sink, CLIPS[:1], pipeline)
    assert len(sink.takes) == 2, "what is in quarantine is left alone"


def test_what_the_corpus_knows_to_be_of_no_use_is_put_aside_as_it_is_today(tmp_path: Path) -> None:
    failures = tuple(
        Failure(clip_id=clip.clip_id, stage="corpus", reason=f"{clip.video_uri} does not exist.") for clip in CLIPS
    )
    quarantine_corpus(str(tmp_path), Corpus(clips=tuple(CLIPS), failures=failures), done={"2.mp4"})
    found = read_quarantine(str(tmp_path))
    assert [(failure.clip_id, failure.stage, failure.reason) for failure in found] == [
        ("0.mp4", "corpus", "The file does not exist."),
        ("1.mp4", "corpus", "The file does not exist."),
    ]
    quarantine_corpus(str(tmp_path), Corpus(clips=tuple(CLIPS), failures=failures[1:]), done={"2.mp4"})
    assert [failure.clip_id for failure in read_quarantine(str(tmp_path))] == ["1.mp4"], "0.mp4 was mended"


TOLD = Clip(
    clip_id="a.mp4",
    video_uri="/videos/a.mp4",
    split=Split.TEST,
    labels=clip_labels(1),
    transcript="what nobody else may read",
    participant_id="p",
    question=3,
    attributes={"gender": "Woman"},
)
"""Of which the corpus says all there is to say."""


def failing_once(tmp_path: Path) -> list[Failure]:
    """The clip fails in a task; its neighbour does not."""
    table = tables.clips_to_table([TOLD, CLIPS[0]])
    errors = [{"error_stage": "decode", "error": "/videos/a.mp4 is no video."}, {"error_stage": "", "error": ""}]
    written = ClipSink(str(tmp_path), ["clip_id", "split"]).write_table(
        tables.append_columns(table, ERROR_FIELDS, errors)
    )
    assert (written.clips, [row["clip_id"] for row in tables.read_rows(str(tmp_path))]) == (1, ["0.mp4"])
    return list(written.failures)


def lost_with_its_process(tmp_path: Path) -> list[Failure]:
    sink = LosingSink(str(tmp_path))
    sink.quarantine([TOLD], stage="decode", reason="/videos/a.mp4 is no video.")
    return read_quarantine(str(tmp_path))


def known_to_the_corpus(tmp_path: Path) -> list[Failure]:
    failure = Failure(clip_id="a.mp4", stage="decode", reason="/videos/a.mp4 is no video.")
    quarantine_corpus(str(tmp_path), Corpus(clips=(TOLD,), failures=(failure,)), done=())
    return read_quarantine(str(tmp_path))


@pytest.mark.parametrize("way", [failing_once, lost_with_its_process, known_to_the_corpus])
def test_a_clip_in_quarantine_keeps_all_but_its_words(way: Callable[[Path], list[Failure]], tmp_path: Path) -> None:
    """Its label counts in every figure, whatever became of it."""
    assert way(tmp_path) == [Failure(clip_id="a.mp4", stage="decode", reason="The file is no video.")]
    ((clip, failure),) = quarantined_clips(str(tmp_path))
    assert clip == replace(TOLD, transcript=None)
    assert failure.reason == "/videos/a.mp4 is no video.", "who looks into the quarantine wants to know which"
    assert "nobody else" not in "".join(path.read_text() for path in tmp_path.rglob("*.jsonl"))


def test_what_is_made_of_results_knows_the_clips_they_lack(tmp_path: Path) -> None:
    features, embeddings = tmp_path / "features", tmp_path / "embeddings"
    known_to_the_corpus(features)
    (embeddings / "quarantine").mkdir(parents=True)
    ClipSink(str(embeddings), []).quarantine(CLIPS[:1], stage="encoders.face", reason="broken")
    (carried,) = carry_quarantine(str(features), str(embeddings))
    assert carried.reason == "The file is no video."
    found = {clip.clip_id: (clip.label, failure.stage) for clip, failure in quarantined_clips(str(embeddings))}
    before = {path: path.stat().st_mtime_ns for path in embeddings.rglob("*.jsonl")}
    carry_quarantine(str(features), str(embeddings))
    assert {path: path.stat().st_mtime_ns for path in embeddings.rglob("*.jsonl")} == before, "it said the same"
    assert found == {"a.mp4": (1, "decode"), "0.mp4": (None, "encoders.face")}
    quarantine_corpus(str(features), Corpus(clips=(TOLD,)), done=())
    assert carry_quarantine(str(features), str(embeddings)) == [], "it was mended"
    assert [clip.clip_id for clip, _ in quarantined_clips(str(embeddings))] == ["0.mp4"]


def test_a_job_with_nothing_to_go_on_with_says_why_and_where_names_are(tmp_path: Path) -> None:
    missing = [Failure(clip_id=str(i), stage="decode", reason="The file is not there.") for i in range(3)]
    other = Failure(clip_id="x", stage="corpus", reason="The path has backslashes.")
    check_usable(1, [*missing, other], str(tmp_path))
    with pytest.raises(PipelineError) as error:
        check_usable(0, [other, *missing], str(tmp_path))
    lines = str(error.value).splitlines()
    assert lines[:3] == [
        "Not one of 4 clips could be used:",
        "  3 x decode: The file is not there.",
        "  1 x corpus: The path has backslashes.",
    ]
    assert f"{tmp_path}/quarantine" in lines[3]


def test_a_full_disk_is_no_clips_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block can be written, one cannot: the job says so, and puts nobody aside."""
    sink = ClipSink(str(tmp_path), ["clip_id"])
    rows = [tables.clip_to_row(clip) | {"error_stage": "", "error": ""} for clip in CLIPS]
    blocks = [pa.Table.from_pylist([row]) for row in rows[:2]]
    first = sink.write([blocks[0]], cast("Any", None))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/x")

    monkeypatch.setattr(sink_module, "write_whole", full)
    second = sink.write([blocks[1]], cast("Any", None))

    class Dataset:
        def write_datasink(self, sink: ClipSink) -> None:
            sink.on_write_complete(SimpleNamespace(write_returns=[first, second]))

    def uncounted(_: int) -> AbstractContextManager[None]:
        return nullcontext()

    monkeypatch.setattr(sink_module, "counted_clips", uncounted)
    with pytest.raises(PipelineError, match=r"No space left on device\. What was finished is kept"):
        sink.take(cast("Any", Dataset()), expected=2)
    assert sink.clips == 1
    assert sink.failures == []
    assert quarantined_clips(str(tmp_path)) == []
    assert [clip.clip_id for clip in tables.read_clips(str(tmp_path))] == ["0.mp4"]

"""What becomes of clips that no task brought to an end; `tests/ray/pipelines/test_lost_clips.py` really loses some."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twominds.pipelines.sink import LOST, ClipSink, PipelineError, process_clips, quarantine_corpus, read_quarantine
from twominds.records import Clip, Corpus, Failure

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
        ("0.mp4", "corpus", "the file does not exist."),
        ("1.mp4", "corpus", "the file does not exist."),
    ]
    quarantine_corpus(str(tmp_path), Corpus(clips=tuple(CLIPS), failures=failures[1:]), done={"2.mp4"})
    assert [failure.clip_id for failure in read_quarantine(str(tmp_path))] == ["1.mp4"], "0.mp4 was mended"

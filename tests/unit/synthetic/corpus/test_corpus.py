import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import av
import av.error
import cv2
import numpy as np
import pytest

from twominds.corpus.annotations import Annotation, read_annotations, read_frame_labels
from twominds.corpus.bah import continuous_times, read_bah, read_transcript
from twominds.corpus.manifest import read_corpus
from twominds.errors import CorpusError
from twominds.records import Clip, Split
from twominds.synthetic.corpus.clip import draw_clip
from twominds.synthetic.corpus.config import NuisanceRates, SyntheticCorpusConfig
from twominds.synthetic.corpus.corpus import TRUTH_FILE, make_corpus, recognised_chunks
from twominds.synthetic.corpus.plan import NUISANCES, ClipPlan, plan_corpus
from twominds.synthetic.corpus.voice import SpokenClause

SMALL = SyntheticCorpusConfig(
    clips=24,
    clip_s=1.5,
    width=160,
    height=120,
    fps=12.0,
    seed=3,
    nuisances=NuisanceRates(**dict.fromkeys(NUISANCES, 1 / 24)),
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "corpus"
    make_corpus(replace(SMALL, face_crops=True), root, workers=1)
    return root


@pytest.fixture(scope="module")
def clips(corpus: Path) -> dict[str, Clip]:
    return {clip.clip_id: clip for clip in read_corpus(str(corpus)).clips}


@pytest.fixture(scope="module")
def annotations(corpus: Path) -> dict[str, Annotation]:
    return read_annotations(str(corpus))


def _with(nuisance: str) -> ClipPlan:
    (plan,) = (plan for plan in plan_corpus(SMALL).clips if nuisance in plan.nuisances)
    return plan


def _video(corpus: Path, plan: ClipPlan) -> str:
    return str(corpus / plan.clip_id)


def _frames(path: str) -> tuple[list[Any], list[float], Any]:
    with av.open(path) as container:
        decoded: list[Any] = list(container.decode(video=0))
        stream: Any = container.streams.video[0]
        return decoded, [float(frame.pts * frame.time_base) for frame in decoded], stream


def _sound(path: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    with av.open(path) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def test_readers_find_what_was_planned(corpus: Path, clips: dict[str, Clip]) -> None:
    plans = plan_corpus(SMALL).clips
    assert list(clips) == [plan.clip_id for plan in plans]
    for plan in plans:
        clip = clips[plan.clip_id]
        assert (clip.label, clip.split, clip.question) == (plan.label, plan.split, plan.question)
        assert (clip.transcript == "") == ("empty_transcript" in plan.nuisances)
        assert set(clip.attributes) == {"gender", "age_range", "ethnicity", "is_student"}
        assert Path(clip.video_uri).is_file()
    assert len({clip.participant_id for clip in clips.values()}) == len(plan_corpus(SMALL).participants)
    assert json.loads((corpus / TRUTH_FILE).read_text())["complete"] is True


def test_few_refuse_their_consent() -> None:
    config = SyntheticCorpusConfig(clips=1000)
    refusing = [person for person in plan_corpus(config).participants if person.about["Use in challenges"] == "No"]
    assert 0.01 < len(refusing) / 211 < 0.12


def test_files_are_h264_and_aac(corpus: Path, clips: dict[str, Clip]) -> None:
    plan = next(plan for plan in plan_corpus(SMALL).clips if not plan.nuisances)
    with av.open(clips[plan.clip_id].video_uri) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert (video.codec_context.width, video.codec_context.height, audio.rate) == (160, 120, 16_000)
        assert container.duration is not None
        assert container.duration / av.time_base == pytest.approx(plan.duration_s, abs=0.2)
    frames, times, _ = _frames(_video(corpus, plan))
    assert len(frames) == round(plan.duration_s * 12.0)
    assert np.diff(times) == pytest.approx(np.full(len(times) - 1, 1 / 12.0), abs=1e-3)
    assert _sound(_video(corpus, plan)).std() > 0.01


def test_annotations_agree_with_each_other(corpus: Path, annotations: dict[str, Annotation]) -> None:
    by_frame: dict[str, Any] = {}
    for split in (Split.TRAIN, Split.VALIDATION, Split.TEST):
        by_frame |= read_frame_labels(str(corpus), split)
    for plan in plan_corpus(SMALL).clips:
        annotation = annotations[plan.clip_id]
        np.testing.assert_array_equal(by_frame[plan.clip_id], annotation.frame_labels)
        assert annotation.label == plan.label == int(annotation.frame_labels.any())
        assert bool(annotation.segments) == bool(plan.label)
        expected = np.zeros_like(annotation.frame_labels)
        for segment in annotation.segments:
            assert segment.start_frame is not None
            assert segment.end_frame is not None
            expected[segment.start_frame : segment.end_frame + 1] = 1
            if "variable_frame_rate" not in plan.nuisances:
                assert segment.start_frame / 12.0 == pytest.approx(segment.start_s, abs=1 / 12.0)
                assert segment.end_frame / 12.0 == pytest.approx(segment.end_s, abs=1 / 12.0)
        np.testing.assert_array_equal(expected, annotation.frame_labels)


def test_transcripts_are_timed(corpus: Path, clips: dict[str, Clip]) -> None:
    for clip in clips.values():
        chunks = read_transcript(str(corpus), clip.clip_id)
        assert clip.transcript is not None
        words = " ".join(chunk.text for chunk in chunks).lower().replace(",", "").split()
        assert words == clip.transcript.lower().replace(",", "").replace(".", "").split()
        assert all(chunk.end_s is None or chunk.start_s < chunk.end_s < 2.0 for chunk in chunks)
    assert "!!python/tuple" in next((corpus / "transcription").rglob("*.yml")).read_text()


def test_time_stamps_restart_and_can_be_put_together_again() -> None:
    said = [SpokenClause(text=str(n), start_s=7.0 * n + 0.5, end_s=7.0 * n + 6.0) for n in range(12)]
    stamps = [cast(tuple[float, float | None], chunk["timestamp"]) for chunk in recognised_chunks(said, open_end=True)]
    assert stamps[-1][1] is None
    assert all(start <= 30.0 and (end is None or end <= 30.0) for start, end in stamps)
    together = continuous_times(stamps)
    assert [start for start, _ in together] == pytest.approx([clause.start_s for clause in said])
    assert [end for _, end in together[:-1]] == pytest.approx([clause.end_s for clause in said[:-1]])


def test_audio_defects(corpus: Path) -> None:
    with av.open(_video(corpus, _with("no_audio"))) as container:
        assert not container.streams.audio
    assert np.abs(_sound(_video(corpus, _with("silence")))).max() < 1e-3


def test_variable_frame_rate(corpus: Path) -> None:
    _, times, _ = _frames(_video(corpus, _with("variable_frame_rate")))
    steps = np.diff(times)
    assert steps.min() > 0
    assert steps.max() > 1.9 * steps.min()


def test_rotated_is_upright_when_the_flag_is_honoured(corpus: Path, tmp_path: Path) -> None:
    plan = _with("rotated")
    frames, _, stream = _frames(_video(corpus, plan))
    assert (stream.width, stream.height) == (120, 160)
    assert frames[0].rotation == -90  # to be turned by 90 degrees clockwise
    draw_clip(SMALL, replace(plan, nuisances=plan.nuisances - {"rotated"}), tmp_path)
    upright, _, _ = _frames(str(tmp_path / plan.clip_id))
    turned = np.rot90(frames[0].to_ndarray(format="rgb24"), -1)
    assert np.abs(turned.astype(int) - upright[0].to_ndarray(format="rgb24")).mean() < 3


def test_broken_files_cannot_be_read(corpus: Path) -> None:
    for nuisance in ("truncated", "not_video"):
        with pytest.raises(av.error.FFmpegError):
            _frames(_video(corpus, _with(nuisance)))


def test_odd_names(clips: dict[str, Clip]) -> None:
    assert " " in _with("space_in_path").clip_id
    assert "_Video-DESKTOP-" in _with("odd_suffix").clip_id
    assert clips[_with("space_in_path").clip_id].question == _with("space_in_path").question


def test_face_crops_are_named_as_in_bah(corpus: Path, clips: dict[str, Clip]) -> None:
    plan = next(plan for plan in plan_corpus(SMALL).clips if not plan.nuisances)
    folder = clips[plan.clip_id].face_crops_uri
    assert folder is not None
    crops = sorted(Path(folder).iterdir(), key=lambda file: int(file.stem.removeprefix("frame-")))
    assert crops[0].name == "frame-0.jpg"
    assert len(crops) == round(plan.duration_s * 12.0)
    crop = cv2.imread(str(crops[0]))
    assert crop is not None
    assert crop.shape == (112, 112, 3)
    assert not list((corpus / "cropped-aligned-faces" / _with("no_face").clip_id).iterdir())


def test_corpus_does_not_depend_on_the_workers(corpus: Path, tmp_path: Path) -> None:
    make_corpus(replace(SMALL, face_crops=True), tmp_path, workers=2)
    files = {file.relative_to(corpus) for file in corpus.rglob("*") if file.is_file()}
    assert files == {file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()}
    for file in files:
        assert (corpus / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_what_may_be_replaced(tmp_path: Path) -> None:
    config = SyntheticCorpusConfig(clips=12, clip_s=1.0, width=64, height=64, fps=2.0)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("do not touch")
    for overwrite in (False, True):
        with pytest.raises(CorpusError, match="is not empty and no drawn corpus"):
            make_corpus(config, mine, workers=1, overwrite=overwrite)
    assert (mine / "thesis.txt").read_text() == "do not touch"
    drawn = tmp_path / "drawn"
    assert not make_corpus(config, drawn, workers=1).already_there
    video = next((drawn / "Videos").rglob("*.mp4"))
    written = video.stat().st_mtime_ns
    assert make_corpus(config, drawn, workers=1).already_there
    assert video.stat().st_mtime_ns == written
    with pytest.raises(CorpusError, match="another config"):
        make_corpus(replace(config, seed=9), drawn, workers=1)
    (drawn / "notes.txt").write_text("kept")
    assert not make_corpus(replace(config, seed=9), drawn, workers=1, overwrite=True).already_there
    assert (drawn / "notes.txt").read_text() == "kept"
    assert len(list((drawn / "Videos").rglob("*.mp4"))) == 12
    truth = json.loads((drawn / TRUTH_FILE).read_text())
    (drawn / TRUTH_FILE).write_text(json.dumps({**truth, "complete": False}))  # as after an interruption
    assert not make_corpus(replace(config, seed=9), drawn, workers=1).already_there


def test_summary_counts(tmp_path: Path) -> None:
    config = SyntheticCorpusConfig(clips=12, clip_s=1.0, width=64, height=64, fps=2.0)
    summary = make_corpus(config, tmp_path, workers=1)
    clips = read_bah(str(tmp_path)).clips
    assert summary.clips == Counter(clip.split for clip in clips)
    assert sum(summary.positives.values()) == sum(clip.label or 0 for clip in clips)

"""The files kept beside the checkout that went wrong once: what `expect.json` says of each is what is read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twominds.backbones import BackboneStore
from twominds.errors import MediaError
from twominds.media.container import MediaFile
from twominds.media.decode import probe
from twominds.media.reader import MediaConfig, MediaReader
from twominds.records import Clip, Modality

NAMES = (
    "all_stamps_zero.mp4",
    "anamorphic_2to1.mp4",
    "chapters.mp4",
    "forced_subtitles_default.mkv",
    "iphone16_apac.mov",
    "iphone16_apac_both_default.mov",
    "last_frame_a_day_later.mkv",
    "left_channel_only.mp4",
    "mediarecorder_no_duration.webm",
    "muted_gap_2s.webm",
    "pcm_3_channels_no_layout.mov",
    "phase_inverted_aac.mp4",
    "photo_avif.mp4",
    "photo_jpeg.mp4",
    "resolution_change.webm",
    "second_frame_144_megapixels.mov",
)


@pytest.fixture(scope="session")
def expected(shared_cases: Path) -> dict[str, dict[str, Any]]:
    cases: dict[str, dict[str, Any]] = json.loads((shared_cases / "expect.json").read_text())
    return {name: case for name, case in cases.items() if case["kind"] == "media"}


def test_all_cases_are_here(expected: dict[str, dict[str, Any]]) -> None:
    assert sorted(expected) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_case(shared_cases: Path, expected: dict[str, dict[str, Any]], tmp_path: Path, name: str) -> None:
    case, path = expected[name], shared_cases / name
    wanted = [Modality.SCENE, Modality.AUDIO, Modality.TEXT]  # faces need a detector
    reader = MediaReader(MediaConfig(recognise_speech=False), BackboneStore(uri=str(tmp_path)), "cpu", wanted)
    clip = Clip(clip_id=name, video_uri=str(path))
    if case["expect"] == "refused":
        with pytest.raises(MediaError, match="is a photo, not a video" if "photo" in name else "larger than 8192x4320"):
            reader.read(clip)
        return
    media = reader.read(clip)
    assert media.presence[Modality.SCENE].present == (case["video"] == "present")
    assert media.presence[Modality.AUDIO].present == (case["audio"] == "present")
    assert media.transcript == (None if case.get("text", "absent") == "absent" else case["text"])
    if "duration_s" in case:
        assert media.duration_s == pytest.approx(case["duration_s"], abs=0.05)
    if "audio_s" in case:
        assert media.audio is not None
        assert len(media.audio) / media.sample_rate_hz == pytest.approx(case["audio_s"], abs=0.05)
        assert media.duration_s == pytest.approx(case["audio_s"], abs=0.05)
    if case.get("numbers_spread"):
        assert media.scene_frames is not None
        assert len(np.unique(media.scene_frames.reshape(16, -1), axis=0)) == 16
    if "display" in case:
        with MediaFile(path) as file:
            info = probe(file)
        assert f"{info.width}x{info.height}" == case["display"]


def test_of_two_sound_tracks_the_choice_is_told(shared_cases: Path, tmp_path: Path) -> None:
    reader = MediaReader(MediaConfig(), BackboneStore(uri=str(tmp_path)), "cpu", [Modality.AUDIO])
    media = reader.read(Clip(clip_id="a", video_uri=str(shared_cases / "iphone16_apac_both_default.mov")))
    assert media.warnings == ("The file has 2 sound tracks; number 1 was used, the rest was left out.",)


def test_frames_that_grow_beyond_the_limit_take_no_memory(shared_cases: Path) -> None:
    code = (
        "import resource, sys\n"
        "from twominds.errors import MediaError\n"
        "from twominds.media.container import MediaFile\n"
        "from twominds.media.decode import sample_pictures\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with MediaFile(sys.argv[1]) as file:\n"
        "    try:\n"
        "        sample_pictures(file)\n"
        "    except MediaError:\n"
        "        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    path = shared_cases / "second_frame_144_megapixels.mov"
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 60 * 1024  # KiB: such a frame alone takes 210 MiB

"""Real clips of many kinds get through preprocessing, each with what it has; a text file named .mp4 does not."""

import shutil
import tempfile
from pathlib import Path

import pytest

from twominds.backbones.local_files import import_file
from twominds.pipelines.preprocess import PreprocessConfig, preprocess
from twominds.results import tables
from twominds.results.quarantine import read_quarantine

pytestmark = pytest.mark.ray


def test_shared_clips(ray_session: None, tiny_bundle: str, shared_media: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    shutil.copytree(shared_media / "clips", clips, ignore=shutil.ignore_patterns("*.csv"))
    (clips / "letter.mp4").write_text("Dear diary, this is no video.\n" * 100)
    models = tmp_path / "models"
    shutil.copytree(tiny_bundle, models)
    with tempfile.TemporaryDirectory() as staging:
        yunet = shared_media / "models" / "yunet_n_dynamic.onnx"
        import_file(str(models), "detect.yunet", yunet, staging=Path(staging))
    config = PreprocessConfig(
        corpus=str(clips), output=str(tmp_path / "features"), models=str(models), recipe="leya/demo", detector="yunet"
    )
    preprocess(config)
    rows = {Path(row["clip_id"]).name: row for row in tables.read_rows(config.output)}
    videos = {path.name for path in (shared_media / "clips").iterdir() if path.suffix != ".csv"}
    assert set(rows) == videos
    with_face = {"bbaf2n.mpg", "lbbc2a.mpg", "sbwe5n.mpg", "face_noface.mov", "fer_noaudio.mp4", "single_face.mp4"}
    assert {name for name, row in rows.items() if row["face_present"]} == with_face
    assert rows["no_face.mp4"]["face_reason"]
    assert not rows["fer_noaudio.mp4"]["audio_present"]
    assert "no sound" in rows["fer_noaudio.mp4"]["audio_reason"]
    assert all(row["scene_present"] for row in rows.values())
    (failure,) = read_quarantine(config.output)
    assert Path(failure.clip_id).name == "letter.mp4"
    assert "not a video" in failure.reason

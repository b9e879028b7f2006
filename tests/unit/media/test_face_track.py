from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from twominds.media.container import MediaFile
from twominds.media.dense import frame_blocks
from twominds.media.face_track import FaceBlock, corpus_face_blocks, face_blocks
from twominds.media.faces import FaceDetector, YoloFaceDetector, YuNetFaceDetector, crop_faces, numbered_crops
from twominds.records import ByteArray, FloatArray

Write = Callable[..., Path]


class EveryOther:
    """Finds a face in every other frame that it is given; counts its calls."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def detect(self, frames: Sequence[ByteArray]) -> list[FloatArray]:
        self.calls.append(len(frames))
        face = np.array([[8, 4, 40, 36, 0.7]], np.float32)
        return [face if number % 2 else face[:0] for number in range(len(frames))]


def blocks_of(path: Path, detector: FaceDetector, **options: int) -> list[FaceBlock]:
    with MediaFile(path) as file:
        return list(face_blocks(file, detector, **options))


def test_a_block_is_one_call_and_a_frame_without_a_face_is_there_whole(write_video: Write) -> None:
    detector = EveryOther()
    path = write_video([40 * i for i in range(10)], rate=25)
    blocks = blocks_of(path, detector, block_frames=4, size_px=48)
    assert detector.calls == [4, 4, 2]
    assert [block.detected.tolist() for block in blocks] == [[False, True] * 2, [False, True] * 2, [False, True]]
    assert blocks[0].scores.tolist() == pytest.approx([0, 0.7, 0, 0.7])
    np.testing.assert_allclose(np.concatenate([block.times_s for block in blocks]), np.arange(10) / 25)
    with MediaFile(path) as file:
        frames = [frame for block in frame_blocks(file) for frame in block.frames]
    cut = [frame if number % 2 == 0 else frame[4:36, 8:40] for number, frame in enumerate(frames)]
    whole = crop_faces(cut, [np.empty((0, 5), np.float32)] * 10, 48).crops
    np.testing.assert_array_equal(np.concatenate([block.crops for block in blocks]), whole)


def detectors(shared_media: Path, tmp_path: Path) -> FaceDetector:
    (tmp_path / "model.onnx").write_bytes((shared_media / "models" / "yunet_n_dynamic.onnx").read_bytes())
    return YuNetFaceDetector(tmp_path)


def test_a_face_that_leaves_is_lost_and_the_others_are_found(shared_media: Path, tmp_path: Path) -> None:
    path = shared_media / "clips" / "face_noface.mov"
    blocks = blocks_of(path, detectors(shared_media, tmp_path), max_side_px=320)
    detected = np.concatenate([block.detected for block in blocks])
    assert detected[:20].all()
    assert not detected[-20:].any()


@pytest.mark.parametrize("block_frames", [1, 5])
def test_batches_find_what_single_frames_show(tiny_bundle: str, shared_media: Path, block_frames: int) -> None:
    detector = YoloFaceDetector(Path(tiny_bundle) / "detect.yolo_face")
    path = shared_media / "clips" / "single_face.mp4"
    with MediaFile(path) as file:
        frames = [frame for block in frame_blocks(file, max_side_px=160) for frame in block.frames][:20]
        blocks = [block for _, block in zip(range(20), face_blocks(file, detector, max_side_px=160), strict=False)]
    crops = np.concatenate([block.crops for block in blocks])
    scores = np.concatenate([block.scores for block in blocks])
    for start in range(0, 20, block_frames):
        alone = crop_faces(
            frames[start : start + block_frames], detector.detect(frames[start : start + block_frames]), 224
        )
        np.testing.assert_allclose(scores[start : start + block_frames], alone.scores, atol=1e-5)
        np.testing.assert_array_equal(crops[start : start + block_frames], alone.crops)


def test_crops_of_the_corpus_by_number_and_at_a_rate(write_video: Write, tmp_path: Path) -> None:
    """BAH's `frame-<n>.jpg` from 0, of ten frames at 25 a second; a file that is no image is no face."""
    crops = tmp_path / "crops"
    crops.mkdir()
    for number in (0, 1, 2, 5, 6, 12):
        cv2.imwrite(str(crops / f"frame-{number}.jpg"), np.full((30, 30, 3), 10 * number, np.uint8))
    (crops / "frame-2.jpg").write_bytes(b"no image")
    (crops / "notes.txt").write_text("")
    path = write_video([40 * i for i in range(10)], rate=25)
    with MediaFile(path) as file:
        all_of_them = list(corpus_face_blocks(file, str(crops), size_px=16, block_frames=2))
        fewer = list(corpus_face_blocks(file, str(crops), size_px=16, rate_hz=12.5))
    assert [len(block.crops) for block in all_of_them] == [2, 2, 1]
    np.testing.assert_allclose(np.concatenate([b.times_s for b in all_of_them]), np.array([0, 1, 2, 5, 6]) / 25)
    assert np.concatenate([b.detected for b in all_of_them]).tolist() == [True, True, False, True, True]
    assert {block.total for block in all_of_them} == {5}
    assert np.concatenate([b.crops for b in all_of_them])[3].mean() == pytest.approx(50, abs=2)
    (at_rate,) = fewer
    np.testing.assert_allclose(at_rate.times_s, np.array([0, 2, 6]) / 25)


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (("frame-0.jpg", "frame-12.jpeg", "frame-x.jpg"), [0, 12]),  # BAH
        (("00001.jpg", "00010.jpg", ".DS_Store"), [0, 9]),  # Aff-Wild2
        (("0.jpg", "5.jpg", "10.jpg"), [0, 5, 10]),  # Hume-Vidmimic2
    ],
)
def test_how_crops_are_called(names: tuple[str, ...], numbers: list[int], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert list(numbered_crops(str(tmp_path))) == numbers
    assert numbered_crops(str(tmp_path / "nowhere")) == {}

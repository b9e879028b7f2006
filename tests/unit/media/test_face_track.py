from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from twominds.media.container import MediaFile
from twominds.media.dense import frame_blocks
from twominds.media.face_track import FaceBlock, face_blocks
from twominds.media.faces import FaceDetector, YoloFaceDetector, YuNetFaceDetector, crop_faces
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

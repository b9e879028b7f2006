"""The face in every frame of a clip, or in so many a second, block by block."""

from collections.abc import Iterator
from dataclasses import dataclass

from twominds.media.container import MediaFile
from twominds.media.dense import frame_blocks
from twominds.media.faces import FaceDetector, crop_faces
from twominds.records import BoolArray, ByteArray, FloatArray, Times


@dataclass(frozen=True, kw_only=True)
class FaceBlock:
    """The faces of some of a clip's frames, one after another."""

    times_s: Times
    """[n]: when the frames are shown, in seconds from the clip's first frame."""
    crops: ByteArray
    """[n, size, size, 3] RGB; a frame without a face is there whole."""
    detected: BoolArray
    """[n]: which crops are a face that was found."""
    scores: FloatArray
    """[n]: the best score of the frame's boxes, 0 where there is none."""
    total: int
    """How many frames all of the clip's blocks have together."""


def face_blocks(
    file: MediaFile,
    detector: FaceDetector,
    *,
    rate_hz: float | None = None,
    max_side_px: int = 1280,
    size_px: int = 224,
    block_frames: int = 32,
) -> Iterator[FaceBlock]:
    """The faces in the frames of `frame_blocks`, by the rules of `crop_faces`; nothing comes without a picture.

    Args:
        file: the file; must stay open as long as blocks are taken.
        detector: gets the frames of a block in one call.
        rate_hz: frames a second; None: the file's own frames.
        max_side_px: frames are shrunk to this long side before faces are looked for.
        size_px: side of a crop.
        block_frames: frames in a block.

    Raises:
        MediaError: see `frame_blocks`.
    """
    for block in frame_blocks(file, rate_hz=rate_hz, max_side_px=max_side_px, block_frames=block_frames):
        faces = crop_faces(block.frames, detector.detect(block.frames), size_px)
        yield FaceBlock(
            times_s=block.times_s,
            crops=faces.crops,
            detected=faces.detected,
            scores=faces.scores,
            total=block.total,
        )

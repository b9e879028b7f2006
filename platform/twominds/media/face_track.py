"""The face in every frame of a clip, or in so many a second, block by block: found in it, or the corpus's own crop."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from twominds.media.container import MediaFile
from twominds.media.dense import frame_blocks, frame_times
from twominds.media.faces import FaceDetector, crop_faces, numbered_crops, read_crop, resized_crop
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


def corpus_face_blocks(
    file: MediaFile, folder_uri: str, *, rate_hz: float | None = None, size_px: int = 224, block_frames: int = 32
) -> Iterator[FaceBlock]:
    """The corpus's own crops of the frames of `frame_blocks`, without those of which it has none.

    A file that is no image is a black crop that counts as no face.

    Args:
        file: the clip, for the times of its frames; none of them is decoded.
        folder_uri: with the crops, see `numbered_crops`.
        rate_hz: see `face_blocks`; at a rate, the crops of the frames that are on the screen.
        size_px: side of a crop.
        block_frames: crops in a block.

    Raises:
        MediaError: see `frame_blocks`.
    """
    shown_s, numbered = frame_times(file), numbered_crops(folder_uri)
    if not len(shown_s):
        return
    wanted_s = shown_s if rate_hz is None else frame_times(file, rate_hz=rate_hz)
    frames = np.arange(len(shown_s)) if rate_hz is None else np.searchsorted(shown_s, wanted_s + 1e-9, "right") - 1
    chosen = [(float(at), int(frame)) for at, frame in zip(wanted_s, frames, strict=True) if int(frame) in numbered]
    for start in range(0, len(chosen), block_frames):
        block = chosen[start : start + block_frames]
        images = [read_crop(numbered[frame]) for _, frame in block]
        blank = np.zeros((size_px, size_px, 3), np.uint8)
        detected = np.array([image is not None for image in images])
        yield FaceBlock(
            times_s=np.array([at for at, _ in block]),
            crops=np.stack([blank if image is None else resized_crop(image, size_px) for image in images]),
            detected=detected,
            scores=detected.astype(np.float32),
            total=len(chosen),
        )

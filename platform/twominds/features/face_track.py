"""Face, in every frame: embeddings of the face in each of a video's frames, or in so many a second, streamed.

Unlike the other extractors this one reads the video itself (`ClipMedia.video`): an hour of frames is in no memory.
Block by block, frames become crops (`media.face_track`), and crops rows of the frozen image backbone.
"""

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from twominds.backbones import BackboneStore
from twominds.errors import ConfigError
from twominds.features.extractor import extract_present
from twominds.features.face import CropFeatures, FaceFeatures, FaceFeaturesConfig
from twominds.features.face_descriptor import FaceDescriptorFeatures, FaceDescriptorFeaturesConfig
from twominds.features.face_frames import FaceFramesFeatures, FaceFramesFeaturesConfig
from twominds.media.container import MediaFile
from twominds.media.face_track import FaceBlock, corpus_face_blocks, face_blocks
from twominds.media.faces import FaceDetector
from twominds.media.reader import MediaConfig, build_detector
from twominds.records import PRESENT, ByteArray, ClipMedia, Features, FloatArray, Modality, Times, View, absent

_POOLED_AT_ONCE = 1024
"""Rows whose float64 copies are held at once."""


@dataclass(frozen=True, kw_only=True)
class FaceTrackFeaturesConfig:
    """The frozen image model, and how often it looks."""

    kind: Literal["track"] = "track"
    """Tells it from the other face features in JSON."""
    backbone: str = "face.emotion_efficientnet_b0"
    """Role of a descriptor, an EfficientNet-B0, a ViT or a CLIP in the bundle."""
    rate_hz: float | None = None
    """Frames a second; None: each of the video's own."""
    without_face: Literal["whole", "drop"] = "whole"
    """What becomes of a frame in which no face is found: it is embedded `whole`, or has no row (`drop`)."""
    block_frames: int = 32
    """Frames that are decoded, and looked at by the face detector, at once; bounds memory."""
    max_batch_frames: int = 32
    """Crops in one forward pass; bounds memory, as in the other face features."""

    def __post_init__(self) -> None:
        if self.rate_hz is not None and not 1e-3 <= self.rate_hz <= 1e3:
            raise ConfigError(f"face.rate_hz must be between 0.001 and 1000 (or null), not {self.rate_hz}.")
        for name in ("block_frames", "max_batch_frames"):
            if getattr(self, name) < 1:
                raise ConfigError(f"face.{name} must be at least 1, not {getattr(self, name)}.")


class FaceTrackFeatures:
    """Video -> `values` float32 [T, D] with `times_s` [T], a row per frame; `pooled` [2 * D], if asked for.

    A frame without a face is embedded whole, as everywhere, or has no row. The corpus's own crops (`detector` `corpus`)
    are the frames' with their numbers; a frame without a crop has no face. Beside the models there are the rows, once,
    and two blocks of frames in memory, however long the video. A clip in which no frame has a face (of
    `media.min_face_score`) is absent, unless `media.min_face_frames` is 0.
    """

    view: View = Modality.FACE

    def __init__(
        self,
        config: FaceTrackFeaturesConfig,
        store: BackboneStore,
        device: str = "cpu",
        with_pooled: bool = False,
        *,
        media: MediaConfig,
    ) -> None:
        """Load the detector and the backbone.

        Args:
            config: how often, and with what.
            store: where the weights are.
            device: where both compute.
            with_pooled: whether `pooled` features are made.
            media: how clips are read: who finds faces, and what counts as one.

        Raises:
            BackboneError: the bundle lacks one of them.
        """
        self.config = config
        self._detector = build_detector(media, store, device)
        self._media = media
        self._with_pooled = with_pooled
        self._backbone = crop_features(config.backbone, store, device, max_batch_frames=config.max_batch_frames)

    def extract(self, media: Sequence[ClipMedia]) -> list[Features]:
        """See `FeatureExtractor.extract`.

        Raises:
            MediaError: a clip's video is not there any more.
        """
        return extract_present(media, self.view, missing_video, lambda clips: [self._track(clip) for clip in clips])

    def _track(self, clip: ClipMedia) -> Features:
        media, source = self._media, cast("str | ByteArray", clip.video)
        rows: FloatArray | None = None
        times_s: Times = np.empty(0)
        done = seen = looked_at = 0
        with (
            MediaFile(source, name=source if isinstance(source, str) else clip.clip_id) as file,
            closing(
                track_blocks(
                    clip,
                    file,
                    self._detector,
                    media,
                    rate_hz=self.config.rate_hz,
                    block_frames=self.config.block_frames,
                )
            ) as blocks,
        ):
            for block in blocks:
                is_face = block.detected & (block.scores >= media.min_face_score)
                seen, looked_at = seen + int(is_face.sum()), looked_at + len(is_face)
                kept = is_face if self.config.without_face == "drop" else np.ones_like(is_face)
                if not kept.any():
                    continue
                found = self._backbone.frame_features(block.crops[kept])
                if rows is None:  # room for all, once
                    rows, times_s = np.empty((block.total, found.shape[1]), np.float32), np.empty(block.total)
                rows[done : done + len(found)], times_s[done : done + len(found)] = found, block.times_s[kept]
                done += len(found)
        if rows is None or (not seen and media.min_face_frames):
            reason = "no face was found in any frame" if looked_at else nothing_to_see(clip, self._detector)
            return Features(clip_id=clip.clip_id, view=self.view, presence=absent(reason))
        if done < len(rows):
            rows, times_s = rows[:done].copy(), times_s[:done].copy()
        return Features(
            clip_id=clip.clip_id,
            view=self.view,
            presence=PRESENT,
            values=rows,
            times_s=times_s,
            pooled=_mean_and_std(rows) if self._with_pooled else None,
        )


def track_blocks(
    clip: ClipMedia,
    file: MediaFile,
    detector: FaceDetector | None,
    media: MediaConfig,
    *,
    rate_hz: float | None,
    block_frames: int,
) -> Generator[FaceBlock]:
    """The faces of a clip, block by block: those that the detector finds, or (None) the corpus's own crops.

    While one block is looked at, a thread makes the next.

    Args:
        clip: The clip whose faces are wanted.
        file: Its file, open.
        detector: What finds faces; None: the corpus's own crops are read.
        media: The size of crops, and of the frames that the detector sees.
        rate_hz: Frames a second; None: each of the video's own.
        block_frames: Frames in a block.
    """
    if detector is None:
        folder = clip.face_crops_uri or ""
        blocks = corpus_face_blocks(
            file, folder, rate_hz=rate_hz, size_px=media.face_size_px, block_frames=block_frames
        )
    else:
        blocks = face_blocks(
            file,
            detector,
            rate_hz=rate_hz,
            max_side_px=media.max_side_px,
            size_px=media.face_size_px,
            block_frames=block_frames,
        )
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, blocks, None)
        while (block := following.result()) is not None:
            following = thread.submit(next, blocks, None)
            yield block


def crop_features(role: str, store: BackboneStore, device: str, *, max_batch_frames: int) -> CropFeatures:
    """What embeds crops with the role's model: a descriptor, an EfficientNet-B0, or a ViT or CLIP, by its config.json.

    Raises:
        BackboneError: the bundle lacks the role, or it is none of these.
    """
    config = store.config(role)
    if "scores" in config:
        return FaceDescriptorFeatures(
            FaceDescriptorFeaturesConfig(backbone=role, max_batch_frames=max_batch_frames), store, device
        )
    if "architecture" in config:
        return FaceFeatures(FaceFeaturesConfig(backbone=role, max_batch_frames=max_batch_frames), store, device)
    chosen = FaceFramesFeaturesConfig(backbone=role, max_batch_frames=max_batch_frames)
    return FaceFramesFeatures(chosen, store, device)


def missing_video(clip: ClipMedia) -> str:
    """Why nothing can be streamed of a clip that counts as present, or ""."""
    return "the video is not at hand to look for faces in" if clip.video is None else ""


def nothing_to_see(clip: ClipMedia, detector: FaceDetector | None) -> str:
    """Why a clip has not one frame with or without a face."""
    if detector is None:
        return f"the corpus has no face crop of any of its frames (in {clip.face_crops_uri})"
    return "the file has no picture"


def _mean_and_std(rows: FloatArray) -> FloatArray:
    """As `extractor.mean_and_std`, without a float64 copy of all rows."""
    mean = rows.mean(axis=0, dtype=np.float64)
    pieces = (rows[start : start + _POOLED_AT_ONCE] for start in range(0, len(rows), _POOLED_AT_ONCE))
    variance = sum(np.square(piece - mean).sum(axis=0) for piece in pieces) / len(rows)
    return np.concatenate([mean, np.sqrt(variance)]).astype(np.float32)

"""The face in so many frames a second, as pictures: for encoders that train a backbone of their own on stretches."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal, cast

import cv2
import numpy as np
import numpy.typing as npt

from twominds.backbones import BackboneStore
from twominds.errors import ConfigError
from twominds.features.align import nearest
from twominds.features.extractor import extract_present
from twominds.features.face_track import missing_video, nothing_to_see, track_blocks
from twominds.media.container import MediaFile
from twominds.media.dense import frame_times
from twominds.media.reader import MediaConfig, build_detector
from twominds.records import PRESENT, ByteArray, ClipMedia, Features, Modality, Times, View, absent


@dataclass(frozen=True, kw_only=True)
class FaceImagesFeaturesConfig:
    """How often the face is looked at, and who will see it."""

    kind: Literal["images"] = "images"
    """Tells it from the other face features in JSON."""
    backbone: str = "face.videomae_base"
    """Role of what the encoder trains; nothing of it is loaded here."""
    rate_hz: float = 25.0
    """Frames a second."""
    quality: int = 95
    """Of the JPEG files that the pictures are kept as: raw, a minute of faces is 225 MB."""
    block_frames: int = 32
    """Frames that are decoded, and looked at by the face detector, at once; bounds memory."""

    def __post_init__(self) -> None:
        if not 1e-3 <= self.rate_hz <= 1e3:
            raise ConfigError(f"face.rate_hz must be between 0.001 and 1000, not {self.rate_hz}.")
        if not 1 <= self.quality <= 100:
            raise ConfigError(f"face.quality must be between 1 and 100, not {self.quality}.")
        if self.block_frames < 1:
            raise ConfigError(f"face.block_frames must be at least 1, not {self.block_frames}.")


class FaceImagesFeatures:
    """Video -> `values` uint8 [T, L] with `times_s` [T]: a JPEG file per frame, filled up with zeros to the longest.

    Row k is the frame at k / rate_hz. One without a face is there whole, as everywhere; of the corpus's own crops
    (`detector` `corpus`) the nearest in time stands in where a frame has none. A clip in which no frame has a face (of
    `media.min_face_score`) is absent, unless `media.min_face_frames` is 0. `decoded` makes pictures of rows.
    """

    view: View = Modality.FACE

    def __init__(
        self,
        config: FaceImagesFeaturesConfig,
        store: BackboneStore,
        device: str = "cpu",
        with_pooled: bool = False,
        *,
        media: MediaConfig,
    ) -> None:
        """Load the detector.

        Raises:
            BackboneError: the bundle lacks it.
            ConfigError: pooled features are asked for: of pictures there are none.
        """
        if with_pooled:
            raise ConfigError("Faces as pictures have no pooled features: leave out --pooled.")
        self.config = config
        self._detector, self._media = build_detector(media, store, device), media

    def extract(self, media: Sequence[ClipMedia]) -> list[Features]:
        """See `FeatureExtractor.extract`.

        Raises:
            MediaError: a clip's video is not there any more.
        """
        return extract_present(media, self.view, missing_video, lambda clips: [self._track(clip) for clip in clips])

    def _track(self, clip: ClipMedia) -> Features:
        config, media, source = self.config, self._media, cast("str | ByteArray", clip.video)
        files: list[ByteArray] = []
        times: list[Times] = []
        seen = 0
        with (
            MediaFile(source, name=source if isinstance(source, str) else clip.clip_id) as file,
            closing(
                track_blocks(
                    clip, file, self._detector, media, rate_hz=config.rate_hz, block_frames=config.block_frames
                )
            ) as blocks,
        ):
            for block in blocks:
                seen += int((block.detected & (block.scores >= media.min_face_score)).sum())
                files += [encoded(crop, config.quality) for crop in block.crops]
                times.append(block.times_s)
            times_s = frame_times(file, rate_hz=config.rate_hz)
        if not files or (not seen and media.min_face_frames):
            reason = "no face was found in any frame" if files else nothing_to_see(clip, self._detector)
            return Features(clip_id=clip.clip_id, view=self.view, presence=absent(reason))
        seen_at = np.rint(np.concatenate(times) * config.rate_hz)  # in rows, which are as far apart as they look
        files = [files[i] for i in nearest(seen_at, np.arange(len(times_s), dtype=np.float64))]
        rows = np.zeros((len(files), max(map(len, files))), np.uint8)
        for row, content in zip(rows, files, strict=True):
            row[: len(content)] = content
        return Features(clip_id=clip.clip_id, view=self.view, presence=PRESENT, values=rows, times_s=times_s)


def encoded(picture: ByteArray, quality: int) -> ByteArray:
    """RGB [H, W, 3] as a JPEG file [L], its colours at full resolution."""
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling]
    _, content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    return cast("ByteArray", content.ravel())


def decoded(rows: npt.NDArray[np.uint8], size_px: int) -> ByteArray:
    """Pictures [n, size, size, 3] RGB of rows of `FaceImagesFeatures` [n, L]; resized where they have another size."""
    pictures = cast("list[ByteArray]", [cv2.imdecode(row, cv2.IMREAD_COLOR_RGB) for row in rows])
    return np.stack([cast("ByteArray", cv2.resize(picture, (size_px, size_px))) for picture in pictures])

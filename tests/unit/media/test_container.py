"""Photos, whatever their name says, are no videos; moving pictures in image formats are."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from PIL import Image

from twominds.errors import MediaError
from twominds.media.container import MediaFile
from twominds.media.decode import sample_pictures
from twominds.media.sound import read_sound

PICTURE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def photo(kind: str) -> bytes:
    written = io.BytesIO()
    Image.fromarray(PICTURE).save(written, kind)
    return written.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000"])
def test_a_photo_is_called_one(kind: str) -> None:
    with (
        MediaFile(photo(kind), name="clip.mp4") as file,
        pytest.raises(MediaError, match=r"^clip\.mp4 is a photo, not a"),
    ):
        sample_pictures(file)


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"crx "])
def test_photos_of_phones_and_cameras_are_told_by_their_brand(brand: bytes) -> None:
    data = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(100)
    with MediaFile(data, name="clip.mov") as file, pytest.raises(MediaError, match="is a photo, not a video"):
        sample_pictures(file)


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_an_animation_is_a_video(kind: str) -> None:
    written = io.BytesIO()
    frames = [Image.fromarray(np.roll(PICTURE, shift, axis=0)) for shift in range(8)]
    frames[0].save(written, kind, save_all=True, append_images=frames[1:], duration=100)
    with MediaFile(written.getvalue()) as file:
        pictures = sample_pictures(file, scene_frames=8)
    assert pictures is not None
    assert pictures.duration_s == pytest.approx(0.8)
    assert len(np.unique(pictures.scene.reshape(8, -1), axis=0)) == 8


@pytest.mark.parametrize("codec", ["mjpeg", "png"])
def test_a_still_in_a_video_s_container_is_a_photo_and_beside_sound_a_cover(
    tmp_path: Path, write_sounds: Callable[..., Path], codec: str
) -> None:
    def write(name: str, *, sound: bool) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as output:
            stream: av.VideoStream = cast(Any, output).add_stream(codec, rate=25)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "rgb24"
            audio = output.add_stream("pcm_s16le", rate=16_000, layout="mono") if sound else None
            output.mux(stream.encode(VideoFrame.from_ndarray(PICTURE, "rgb24")))
            output.mux(stream.encode(None))
            if audio:
                piece = av.AudioFrame.from_ndarray(np.full((1, 16_000), 9000, np.int16), "s16", "mono")
                piece.sample_rate = 16_000
                output.mux(audio.encode(piece))
                output.mux(audio.encode(None))
        return path

    with MediaFile(write("still.mov", sound=False)) as file, pytest.raises(MediaError, match="is a photo, not a video"):
        sample_pictures(file)
    with MediaFile(write("cover.mov", sound=True)) as file:
        assert sample_pictures(file) is None
        heard = read_sound(file)
    assert heard is not None
    assert len(heard.samples) == 16_000


def test_one_frame_of_a_video_codec_is_a_short_video(write_video: Callable[..., Path]) -> None:
    with MediaFile(write_video([0], rate=25)) as file:
        pictures = sample_pictures(file)
    assert pictures is not None
    assert pictures.duration_s == pytest.approx(0.04)

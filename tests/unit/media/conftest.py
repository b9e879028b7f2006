"""Small videos whose every frame carries its own number, written while the tests run."""

import shutil
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from av.subtitles.subtitle import SubtitleSet
from av.video.frame import VideoFrame

from twominds.backbones import BackboneStore, BundleEntry, add_to_bundle
from twominds.records import ByteArray, FloatArray

BITS = 12
ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


@pytest.fixture
def number_in() -> Callable[[ByteArray], int]:
    """Read the number off a picture of any size: BITS columns, each black or white."""

    def read(image: ByteArray) -> int:
        middle = image[image.shape[0] // 4 : image.shape[0] * 3 // 4].mean(axis=(0, 2))
        columns = np.array_split(middle, BITS)
        return sum(1 << bit for bit, column in enumerate(columns) if column[len(column) // 2] > 127)

    return read


def numbered_picture(number: int, height: int = 48) -> ByteArray:
    bits = np.array([255 * (number >> bit & 1) for bit in range(BITS)], np.uint8)
    return np.ascontiguousarray(np.broadcast_to(np.repeat(bits, 16)[None, :, None], (height, BITS * 16, 3)))


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    """Write a video of numbered frames, shown at `times_ms`."""

    def write(
        times_ms: Sequence[int],
        *,
        name: str = "video.mp4",
        container: str | None = None,
        codec: str = "libx264",
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        rotation: float | None = None,
        mirrored: bool = False,
        pixel_shape: Fraction | None = None,
        pictures: Sequence[ByteArray] | None = None,
        rate: int = 1000,
        tone: Sequence[float] | None = None,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w", format=container, options=container_options or {}) as output:
            encoder = {"g": "12", "preset": "ultrafast"} if options is None else options
            stream: av.VideoStream = cast(Any, output).add_stream(codec, rate=rate, options=encoder)
            first = pictures[0] if pictures else numbered_picture(0)
            stream.height, stream.width = first.shape[:2]
            stream.pix_fmt = "yuv420p"
            if pixel_shape is not None:
                cast(Any, stream).codec_context.sample_aspect_ratio = pixel_shape
            stream.time_base = Fraction(1, rate)
            stream.codec_context.time_base = Fraction(1, rate)
            if rotation is not None:
                stream.set_display_rotation(rotation, hflip=mirrored)
            sound = output.add_stream("aac", rate=44_100, layout="stereo") if tone else None
            for number, time in enumerate(times_ms):
                picture = pictures[number] if pictures else numbered_picture(number)
                frame = VideoFrame.from_ndarray(picture, "rgb24")
                frame.pts, frame.time_base = time * rate // 1000, Fraction(1, rate)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
            if sound and tone:
                frequency, seconds, amplitude = tone
                clock = np.arange(int(seconds * 44_100)) / 44_100
                wave = (amplitude * np.sin(2 * np.pi * frequency * clock)).astype(np.float32)
                for start in range(0, len(wave), 1024):
                    piece = np.stack([wave[start : start + 1024]] * 2)
                    samples = av.AudioFrame.from_ndarray(piece, "fltp", "stereo")
                    samples.sample_rate, samples.pts = 44_100, start
                    output.mux(sound.encode(samples))
                output.mux(sound.encode(None))
        return path

    return write


@pytest.fixture
def write_sounds(tmp_path: Path) -> Callable[..., Path]:
    """Write a video with tracks of 16-bit sound at 16 kHz, each in pieces: when one starts (s), and its [C, N]."""

    def write(
        *tracks: Sequence[tuple[float, FloatArray]],
        name: str = "sounds.mkv",
        picture_s: float = 4.0,
        picture_start_s: float = 0.0,
        layouts: Sequence[str] = (),
        dispositions: Sequence[Disposition] = (),
        languages: Sequence[str] = (),
        frame_samples: int = 320,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as output:
            picture = output.add_stream("mpeg4", rate=25)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
            streams: list[Any] = []
            for number, pieces in enumerate(tracks):
                layout = layouts[number] if layouts else {1: "mono", 2: "stereo"}[len(pieces[0][1])]
                stream = output.add_stream("pcm_s16le", rate=16_000, layout=layout)
                stream.disposition = dispositions[number] if dispositions else Disposition(0)
                if languages:
                    stream.metadata["language"] = languages[number]
                streams.append(stream)
            for number in range(round(picture_s * 25)):
                frame = VideoFrame.from_ndarray(np.full((48, 64, 3), number % 256, np.uint8), "rgb24")
                frame.pts = number + round(picture_start_s * 25)
                output.mux(picture.encode(frame))
            output.mux(picture.encode(None))
            for stream, pieces in zip(streams, tracks, strict=True):
                for start_s, samples in pieces:
                    for first in range(0, samples.shape[1], frame_samples):
                        interleaved = np.rint(samples[:, first : first + frame_samples].T * 32767).astype(np.int16)
                        sound = av.AudioFrame.from_ndarray(interleaved.reshape(1, -1), "s16", stream.layout.name)
                        sound.sample_rate, sound.pts = 16_000, round(start_s * 16_000) + first
                        sound.time_base = Fraction(1, 16_000)
                        output.mux(stream.encode(sound))
                output.mux(stream.encode(None))
        return path

    return write


@pytest.fixture
def restamp(tmp_path: Path) -> Callable[..., Path]:
    """Copy a video's packets into a Matroska file, with other time stamps on those of one `kind` of stream."""

    def copy(path: Path, kind: str, stamp: Callable[[int, float], float], name: str = "restamped.mkv") -> Path:
        """`stamp` gives a packet's new seconds, from its number and its own."""
        target = tmp_path / name
        with av.open(str(path)) as source, av.open(str(target), "w") as output:
            streams = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
            counts = dict.fromkeys(streams, 0)
            for packet in source.demux():
                if packet.dts is None or packet.pts is None:
                    continue
                index = packet.stream_index
                own = float(packet.pts * packet.time_base)
                seconds = stamp(counts[index], own) if packet.stream.type == kind else own
                counts[index] += 1
                packet.stream, packet.time_base = streams[index], Fraction(1, 1000)
                packet.pts, packet.dts, packet.duration = max(0, round(seconds * 1000)), 0, 0
                output.mux(packet)
        return target

    return copy


@pytest.fixture
def write_subtitled(tmp_path: Path) -> Callable[..., Path]:
    """Write a video with tracks of subtitles, a line a second."""

    def write(
        *tracks: Sequence[bytes],
        name: str = "subtitled.mkv",
        codec: str = "srt",
        dispositions: Sequence[Disposition] = (),
        languages: Sequence[str] = (),
        sound_language: str | None = None,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as output:
            video = output.add_stream("libx264", rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            sound = output.add_stream("pcm_s16le", rate=16_000, layout="mono") if sound_language else None
            if sound and sound_language:
                sound.metadata["language"] = sound_language
            streams: list[Any] = []
            for number in range(len(tracks)):
                subtitles: Any = cast(Any, output).add_stream(codec)
                subtitles.codec_context.subtitle_header = ASS_HEADER
                subtitles.time_base = subtitles.codec_context.time_base = Fraction(1, 1000)
                subtitles.disposition = dispositions[number] if dispositions else Disposition(0)
                if languages:
                    subtitles.metadata["language"] = languages[number]
                streams.append(subtitles)
            for _ in range(50):
                output.mux(video.encode(VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")))
            output.mux(video.encode(None))
            if sound:
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), "s16", "mono")
                silence.sample_rate, silence.pts = 16_000, 0
                output.mux(sound.encode(silence))
                output.mux(sound.encode(None))
            for subtitles, lines in zip(streams, tracks, strict=True):
                for number, line in enumerate(lines):
                    shown = SubtitleSet.create(
                        text=b"%d,0,Default,,0,0,0,,%s" % (number, line), start=0, end=900, pts=0
                    )
                    packet = subtitles.codec_context.encode_subtitle(shown)
                    packet.stream, packet.time_base = subtitles, Fraction(1, 1000)
                    packet.pts = packet.dts = number * 1000
                    packet.duration = 900
                    output.mux(packet)
        return path

    return write


@pytest.fixture
def add_role(tmp_path: Path) -> Callable[[str, Path], BackboneStore]:
    """Put a copy of a folder into a bundle as a role."""

    def add(role: str, folder: Path) -> BackboneStore:
        staging = tmp_path / "staging" / role
        shutil.copytree(folder, staging)
        entry = BundleEntry(weights="debug", hub_id=None, revision="test", licence="test")
        add_to_bundle(str(tmp_path / "bundle"), role, staging, entry)
        return BackboneStore(uri=str(tmp_path / "bundle"))

    return add


def save_whisper(folder: Path) -> None:
    """A tiny Whisper that says "hi" to anything: each position of the decoder embeds the token to be said next."""
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    h, i, end, start, no_timestamps = range(5)  # what comes after "no time stamps" would be a time stamp
    vocabulary = {
        "<|endoftext|>": end,
        "<|startoftranscript|>": start,
        "<|notimestamps|>": no_timestamps,
        "h": h,
        "i": i,
    }
    tokenizer = cast(Any, WhisperTokenizer)(vocab=vocabulary, merges=[])
    sizes: dict[str, Any] = {
        f"{half}_{name}": size
        for half in ("encoder", "decoder")
        for name, size in (("layers", 1), ("attention_heads", 1), ("ffn_dim", 8))
    }
    config = WhisperConfig(
        vocab_size=8,
        d_model=8,
        max_target_positions=16,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        **sizes,
    )
    model: Any = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        decoder = model.model.decoder
        decoder.layer_norm.weight.fill_(1)
        decoder.embed_tokens.weight.copy_(torch.eye(8))
        for position, token in ((1, h), (2, i), (3, end)):  # position 0 holds the start, 1 "no time stamps"
            decoder.embed_positions.weight[position, token] = 10.0
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start, eos_token_id=end, pad_token_id=end, no_timestamps_token_id=no_timestamps
    )
    model.save_pretrained(folder)
    cast(Any, WhisperProcessor)(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whisper")
    save_whisper(folder)
    return folder

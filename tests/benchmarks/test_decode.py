"""Reading what is needed of a long file, against decoding all of it."""

import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from twominds.media.container import MediaFile
from twominds.media.decode import sample_pictures

SECONDS, FPS, SIZE = 240, 24, (640, 360)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four minutes of H.264 with a key frame every ten seconds."""
    path = tmp_path_factory.mktemp("video") / "long.mp4"
    rng = np.random.default_rng(0)
    background = rng.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": str(10 * FPS)})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, FPS)
        for i in range(SECONDS * FPS):
            frame = av.VideoFrame.from_ndarray(np.roll(background, 2 * i, axis=1), format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.benchmark
def test_sampling_against_decoding_everything(long_video: Path) -> None:
    started = time.perf_counter()
    with av.open(str(long_video)) as container:
        everything = [frame.pts for frame in container.decode(video=0) if frame.to_ndarray(format="rgb24").size]
    baseline_s = time.perf_counter() - started
    started = time.perf_counter()
    with MediaFile(long_video) as file:
        pictures = sample_pictures(
            file, scene_frames=16, scene_size_px=224, face_frames=30, max_side_px=1280, threads=1
        )
    ours_s = time.perf_counter() - started
    assert pictures is not None
    print(
        f"\n{SECONDS} s of video, 46 frames: decoding all {len(everything)} frames with PyAV {baseline_s:.2f} s, "
        f"sample_pictures {ours_s:.2f} s: {baseline_s / ours_s:.1f} times as fast"
    )

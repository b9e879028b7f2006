"""Draws the clip that the scoring benchmark reads: what a phone held upright records of somebody who talks.

python scoring_clip.py FILE prints what is said in it.
"""

import math
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from twominds.synthetic.corpus.casting import random_appearance, random_backdrop
from twominds.synthetic.corpus.drawing import Person, Pose, Scene, draw_frame
from twominds.synthetic.corpus.phrases import as_sentences, hesitant_clauses
from twominds.synthetic.corpus.voice import SAMPLE_RATE_HZ, random_speaker, speak

SIZE = (1080, 1920)
"""Width and height in pixels."""
FPS = 30
_GRAIN = 2.0
"""Standard deviation of the sensor's noise, which takes most of a phone's bits."""


def draw_clip(file: Path, *, seconds: int = 20, seed: int = 0) -> str:
    """Writes HEVC, with a key frame a second as phones do, and AAC into an MP4; returns what is said in it."""
    rng = np.random.default_rng(seed)
    clauses = hesitant_clauses(rng, 0.5, 1, round(0.75 * seconds))
    sound = speak(rng, clauses, random_speaker(rng), duration_s=float(seconds), hesitation=0.5).samples
    appearance, backdrop = random_appearance(rng), random_backdrop(rng)
    grain = [rng.normal(0.0, _GRAIN, SIZE[::-1]).round().astype(np.int16) for _ in range(7)]
    with av.open(str(file), "w") as container:
        options = {"preset": "veryfast", "crf": "26", "x265-params": f"keyint={FPS}:log-level=none"}
        video: Any = container.add_stream("libx265", rate=FPS, options=options)
        video.width, video.height, video.pix_fmt, video.codec_tag = *SIZE, "yuv420p", "hvc1"
        audio: Any = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        for start in range(0, len(sound), 1024):
            chunk = np.ascontiguousarray(sound[None, start : start + 1024])
            heard: Any = av.AudioFrame.from_ndarray(chunk, format="fltp", layout="mono")
            heard.sample_rate, heard.pts, heard.time_base = SAMPLE_RATE_HZ, start, Fraction(1, SAMPLE_RATE_HZ)
            container.mux(audio.encode(heard))
        container.mux(audio.encode(None))
        for i in range(seconds * FPS):
            sway = 0.1 * math.sin(1.7 * i / FPS)
            pose = Pose(head_height=0.4, y=0.42, sway=sway, yaw=sway, pitch=0.05 * math.sin(2.3 * i / FPS))
            picture, _ = draw_frame(Scene(backdrop=backdrop, people=(Person(appearance=appearance, pose=pose),)), SIZE)
            planes = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420), np.int16)
            planes[: SIZE[1]] += grain[i % len(grain)]
            frame: Any = av.VideoFrame.from_ndarray(planes.clip(0, 255).astype(np.uint8), format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return as_sentences(clauses)


if __name__ == "__main__":
    print(draw_clip(Path(sys.argv[1])))

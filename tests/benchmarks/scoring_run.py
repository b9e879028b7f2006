"""One side of the scoring benchmark, in a process of its own: seconds, processor seconds and memory, as JSON.

    python scoring_run.py loop|ours|same --ensemble PLACE --models PLACE --clip FILE --words WORDS --runs N

`ours` takes nothing but `Scorer` of the package, so that it measures older versions of it as well. `same` is the loop
on the pictures, sound and crops that the package reads: their scores are to be equal.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable

from twominds.backbones import BackboneStore
from twominds.media.reader import MediaReader
from twominds.records import Clip, Failure
from twominds.scoring.ensemble import Ensemble
from twominds.scoring.scorer import Scorer


def ours(ensemble: str, models: str, clip: str, words: str) -> Callable[[], list[float]]:
    """Scores the clip as everybody would."""
    scorer = Scorer.load(ensemble, BackboneStore(uri=models))

    def score() -> list[float]:
        (found,) = scorer.score([Clip(clip_id="clip", video_uri=clip, transcript=words)])
        if isinstance(found, Failure):
            raise RuntimeError(found.reason)
        absent = [part.presence.reason for part in found.views if not part.presence.present]
        if absent:
            raise RuntimeError(f"the benchmark's clip is to have all modalities: {absent}")
        return list(found.probabilities)

    return score


def loop(ensemble: str, models: str, clip: str, words: str) -> Callable[[], list[float]]:
    """Scores the clip by the loop."""
    from scoring_loop import PlainLoop

    plain = PlainLoop(ensemble, models)
    return lambda: plain.score(plain.read(clip, words))


def same(ensemble: str, models: str, clip: str, words: str) -> Callable[[], list[float]]:
    """Scores by the loop what the package reads of the clip."""
    from scoring_loop import PlainLoop, Seen

    reader = MediaReader(Ensemble.load(ensemble).config.media, BackboneStore(uri=models))
    media = reader.read(Clip(clip_id="clip", video_uri=clip, transcript=words))
    if media.scene_frames is None or media.face_crops is None or media.audio is None:
        raise RuntimeError(f"the benchmark's clip is to have all modalities: {media.presence}")
    seen = Seen(scene=media.scene_frames, faces=media.face_crops, audio=media.audio, words=words)
    plain = PlainLoop(ensemble, models)
    return lambda: plain.score(seen)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=["loop", "ours", "same"])
    for name in ("ensemble", "models", "clip", "words"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--runs", type=int, default=2)
    given = parser.parse_args()
    score = {"loop": loop, "ours": ours, "same": same}[given.side](
        given.ensemble, given.models, given.clip, given.words
    )
    probabilities = score()  # to warm up
    wall_s: list[float] = []
    processor_s: list[float] = []
    for _ in range(given.runs):
        started_s, used_s = time.perf_counter(), time.process_time()
        probabilities = score()
        wall_s.append(time.perf_counter() - started_s)
        processor_s.append(time.process_time() - used_s)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"s": wall_s, "processor_s": processor_s, "peak_mib": peak_mib, "probabilities": probabilities}))

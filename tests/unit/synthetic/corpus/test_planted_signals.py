"""What is planted can be seen, heard or read by simple means, on new people; in preset none it cannot."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest

from twominds.records import FloatArray
from twominds.synthetic.corpus.casting import random_appearance, random_backdrop
from twominds.synthetic.corpus.config import PresetName, SyntheticCorpusConfig
from twominds.synthetic.corpus.drawing import Person, Pose, Scene, draw_frame
from twominds.synthetic.corpus.expressions import EXPRESSIONS, HEADS
from twominds.synthetic.corpus.mimicry import draw_mimicry
from twominds.synthetic.corpus.phrases import ADMIRING, HEDGED, PAINED
from twominds.synthetic.corpus.plan import plan_corpus
from twominds.synthetic.corpus.timeline import draw_timeline, segments, stretches
from twominds.synthetic.corpus.voice import SAMPLE_RATE_HZ, Speech

Drawer = Callable[[SyntheticCorpusConfig, Any, Path], Any]


@pytest.fixture
def filmed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Scene], Speech]]:
    """What would have been filmed, in place of files: nothing is encoded."""
    kept: list[tuple[list[Scene], Speech]] = []

    def keep(_config: Any, _plan: Any, _root: Any, scenes: list[Scene], speech: Speech, _times: Any) -> None:
        kept.append((scenes, speech))

    for module in ("timeline", "mimicry"):
        monkeypatch.setattr(f"twominds.synthetic.corpus.{module}.film", keep)
    return kept


def plans(preset: PresetName, task: Any, clips: int, clip_s: float) -> tuple[SyntheticCorpusConfig, list[Any]]:
    config = SyntheticCorpusConfig(
        preset=preset, layout="table", task=task, clips=clips, clip_s=clip_s, fps=6.0, clean=True, seed=2
    )
    return config, list(plan_corpus(config).clips)


def face(scene: Scene) -> FloatArray:
    """The face as a detector would cut it out, small."""
    image, boxes = draw_frame(scene, (320, 240))
    left, top, right, bottom = np.rint(boxes[0]).astype(int).tolist()
    crop = cv2.resize(image[top:bottom, left:right], (24, 24), interpolation=cv2.INTER_AREA)
    return (np.asarray(crop, np.float32) / 255.0).ravel()


def test_eight_expressions_are_told_apart_on_new_people() -> None:
    """A ridge on small pictures of 60 people's faces is right about most of 20 others'."""
    rng, rows, classes = np.random.default_rng(0), list[FloatArray](), list[int]()
    for _ in range(80):
        appearance, backdrop = random_appearance(rng), random_backdrop(rng)
        for index, (expression, (pitch, yaw, roll)) in enumerate(zip(EXPRESSIONS, HEADS, strict=True)):
            lean, turn = rng.normal(0, (0.03, 0.05)).tolist()
            pose = Pose(roll=roll + lean, pitch=pitch, yaw=yaw + turn)
            person = Person(appearance=appearance, pose=pose, expression=expression)
            rows.append(face(Scene(backdrop=backdrop, people=(person,))))
            classes.append(index)
    values, truth = np.stack(rows), np.array(classes)
    mean = values[:480].mean(axis=0)
    inputs = values - mean
    kernel = inputs[:480] @ inputs[:480].T
    solve = cast(Any, np.linalg.solve)
    weights: FloatArray = solve(kernel + 3.0 * np.eye(480), np.eye(8)[truth[:480]] - 1 / 8)
    said = np.argmax(inputs[480:] @ inputs[:480].T @ weights, axis=1)
    assert (said == truth[480:]).mean() > 0.8
    for index in range(8):
        assert (said[truth[480:] == index] == index).mean() > 0.5


def test_segments_lie_apart_and_leave_room() -> None:
    for seed in range(200):
        duration = 6.8 + 0.2 * (seed % 100)
        found = segments(np.random.default_rng(seed), duration)
        cuts = [0.0, *(time for segment in found for time in segment), duration]
        assert min(np.diff(cuts)) > 0.95
        assert [ah for _, _, ah in stretches(found, duration)] == [False, True] * len(found) + [False]


def test_hesitant_segments_show_in_face_body_voice_and_words(
    filmed: list[tuple[list[Scene], Speech]], tmp_path: Path
) -> None:
    config, clips = plans("default", "ah-frame", 12, 10.0)
    seen = [clip for clip in clips if clip.label == 1]
    contrasts: list[list[float]] = []
    for plan in seen:
        drawn = draw_timeline(config, plan, tmp_path)
        assert drawn.acted["segments_s"] == drawn.segments
        scenes, speech = filmed[-1]
        inside = np.array(drawn.frame_labels, np.bool_)
        people = [scene.people[0] for scene in scenes]
        steps = speech.samples[: len(speech.samples) // 800 * 800].reshape(-1, SAMPLE_RATE_HZ // 20)
        loud = np.sqrt(np.square(steps).mean(axis=1))
        quiet, at = loud < 0.2 * np.quantile(loud, 0.9), (np.arange(len(loud)) + 0.5) / 20.0
        in_sound = np.array([any(start <= t <= end for start, end in drawn.segments) for t in at])
        of_words = [
            (clause.text in HEDGED, any(s <= clause.start_s < e for s, e in drawn.segments))
            for clause in speech.clauses
        ]
        curves = {
            "brows": (np.array([one.expression.brow_furrow for one in people]), inside),
            "shoulders": (np.array([one.pose.shrug for one in people]), inside),
            "pauses": (quiet.astype(float), in_sound),
            "words": tuple(map(np.array, zip(*of_words, strict=True))),
        }
        contrasts.append([float(x[y].mean() - x[~y].mean()) for x, y in curves.values()])
        assert len(scenes) == len(drawn.frame_labels)
    brows, shoulders, pauses, words = np.mean(contrasts, axis=0)
    assert brows > 0.4
    assert shoulders > 0.3
    assert pauses > 0.1
    assert words > 0.4


def test_clips_without_segments_are_never_hesitant(filmed: list[tuple[list[Scene], Speech]], tmp_path: Path) -> None:
    config, clips = plans("default", "ah-frame", 12, 8.0)
    furrows: dict[int, list[float]] = {0: [], 1: []}
    for plan in clips:
        draw_timeline(config, plan, tmp_path)
        scenes, _ = filmed[-1]
        furrows[plan.label].append(max(scene.people[0].expression.brow_furrow for scene in scenes))
    assert max(furrows[0]) < min(furrows[1])


@pytest.mark.parametrize("preset", ["default", "none"])
def test_six_intensities_show_where_the_config_says(
    preset: PresetName, filmed: list[tuple[list[Scene], Speech]], tmp_path: Path
) -> None:
    config, clips = plans(preset, "mimicry", 60, 5.0)
    rows: list[list[float]] = []
    labels: list[tuple[float, ...]] = []
    for plan in clips:
        drawn = draw_mimicry(replace(config), plan, tmp_path)
        scenes, speech = filmed[-1]
        people = [scene.people[0] for scene in scenes]
        said = [clause.text for clause in speech.clauses]
        labels.append(drawn.intensities)
        rows.append(
            [
                float(np.mean([text in ADMIRING for text in said])),
                float(np.mean([one.expression.smile for one in people])),
                float(np.mean([one.expression.brow_furrow for one in people])),
                float(np.mean([text in PAINED for text in said])),
                float(np.std([one.pose.roll for one in people])),
                pitch_hz(speech),
            ]
        )
    truth = np.array(labels)
    found = [np.corrcoef(np.array(rows)[:, index], truth[:, index])[0, 1] for index in range(6)]
    assert truth.std(axis=0).min() > 0.2
    if preset == "default":
        assert min(found) > 0.7
    else:
        assert np.abs(found).max() < 0.4  # three standard deviations of nothing
        assert np.abs(found).mean() < 0.2


def pitch_hz(speech: Speech) -> float:
    """The lag at which the voice resembles itself most, as a frequency."""
    spectrum = np.abs(np.fft.rfft(speech.samples, 2 * len(speech.samples))) ** 2
    alike = np.fft.irfft(spectrum)[: SAMPLE_RATE_HZ // 70]
    first = SAMPLE_RATE_HZ // 320
    return SAMPLE_RATE_HZ / (first + int(alike[first:].argmax()))

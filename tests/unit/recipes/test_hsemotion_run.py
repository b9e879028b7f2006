"""Every row of HSEmotion's tables runs: features of made-up clips, its encoders for an epoch, its ensemble, a score.

On tiny backbones and without Ray, as `test_rows_run`; what rows share is made once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from torch import Tensor

from twominds.backbones import BackboneStore
from twominds.encoders.embedding import embed
from twominds.encoders.rows import RowsEncoderConfig
from twominds.features.catalog import build_extractor
from twominds.fusion.catalog import build_fusion
from twominds.media.reader import MediaConfig
from twominds.pipelines.train_view import trained_encoder
from twominds.recipes.catalog import RECIPES, find_recipe
from twominds.recipes.recipe import Recipe
from twominds.records import (
    PRESENT,
    ByteArray,
    ClipMedia,
    Embedding,
    Features,
    FloatArray,
    Labels,
    Modality,
    Score,
    Split,
    View,
    Word,
    absent,
)
from twominds.search.assembly import Assembly, assemble, chosen_on, said_clips, validation_score
from twominds.search.inputs import LabelledClips, labelled_inputs
from twominds.tasks import Classes
from twominds.training.examples import FusionExamples, Targets
from twominds.training.fit import fit
from twominds.training.selection import LabelledSplits

CLIPS, FRAMES, RATE_HZ = 8, 6, 10
WORDS = ("I", "want", "to", "stop", "but", "maybe", "not", "now", "really")
POINTS_S = np.arange(FRAMES) / RATE_HZ


class Everywhere:
    """Finds a face in every frame but the third."""

    def detect(self, frames: Sequence[ByteArray]) -> list[FloatArray]:
        box = np.array([[8, 8, 56, 56, 0.9]], np.float32)
        return [box[:0] if number == 2 else box for number in range(len(frames))]


class Parts:
    """What rows share, made on demand."""

    def __init__(self, store: BackboneStore, media: Sequence[ClipMedia]) -> None:
        self.store, self._media = store, media
        self._features: dict[str, list[Features]] = {}
        self._embeddings: dict[str, list[Embedding]] = {}

    def features(self, recipe: Recipe, view: View) -> list[Features]:
        key = repr((view, recipe.features[view], recipe.media.detector, recipe.task.per_frame))
        if key not in self._features:
            media = [item if recipe.task.per_frame else replace(item, points_s=None) for item in self._media]
            extractor = build_extractor(view, recipe.features[view], self.store, with_pooled=False, media=recipe.media)
            found = extractor.extract(media)
            self._features[key] = [replace(f, points_s=m.points_s) for f, m in zip(found, media, strict=True)]
        return self._features[key]

    def embeddings(self, recipe: Recipe, view: View) -> list[Embedding]:
        settings = replace(recipe.encoder_fits[view], epochs=1, min_epochs=0)
        key = repr((view, recipe.features[view], recipe.encoders[view], settings, recipe.objective, recipe.media))
        if key not in self._embeddings:
            features = self.features(recipe, view)
            targets = Targets.of(labels(recipe), [item.points_s for item in features], recipe.task.output)
            splits = LabelledSplits(dict.fromkeys((Split.TRAIN, Split.VALIDATION), (features, targets)))
            brief = replace(recipe, encoder_fits={**recipe.encoder_fits, view: settings})
            encoder, _ = trained_encoder(brief, view, splits.for_selection("validation"), self.store, device="cpu")
            self._embeddings[key] = embed(encoder, features)
        return self._embeddings[key]

    def clips(self, recipe: Recipe) -> list[Mapping[View, Embedding]]:
        columns = {view: self.embeddings(recipe, view) for view in recipe.views}
        return [{view: column[index] for view, column in columns.items()} for index in range(CLIPS)]


def labels(recipe: Recipe) -> list[Labels]:
    """Of each clip: its first or second half is of one class, or six intensities."""
    rng = np.random.default_rng(0)
    if not isinstance(recipe.task.output, Classes):
        return [Labels.of_clip(*rng.random(6)) for _ in range(CLIPS)]
    classes = recipe.task.num_outputs
    if not recipe.task.per_frame:
        return [Labels.of_clip(i % classes) for i in range(CLIPS)]
    found: list[Labels] = []
    for i in range(CLIPS):
        values = np.where(POINTS_S < 0.3, i % classes, (i + 1) % classes if i % 3 else 0)
        known = np.arange(FRAMES) != 1  # nobody annotated the second frame
        found.append(Labels(values=values[:, None].astype(np.float32), known=known, times_s=POINTS_S))
    return found


def video(path: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as output:
        stream = cast(Any, output).add_stream("libx264", rate=RATE_HZ, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(FRAMES):
            image = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
            frame = VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE_HZ)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def made_up_clip(index: int, folder: Path) -> ClipMedia:
    rng = np.random.default_rng(index)
    said = list(rng.choice(WORDS, 6))
    crops = folder / f"crops-{index}"
    crops.mkdir()
    for number in (0, 1, 3, 4, 5):  # in the third frame there is no face
        cv2.imwrite(str(crops / f"frame-{number}.jpg"), rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    return ClipMedia(
        clip_id=f"clip-{index:02}",
        duration_s=FRAMES / RATE_HZ,
        scene_frames=None,
        face_crops=rng.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8),
        face_detected=np.ones(2, dtype=bool),
        face_times_s=np.array([0.1, 0.4]),
        audio=rng.normal(0, 0.1, 9600).astype(np.float32),
        transcript=" ".join(said),
        transcript_source="corpus",
        words=tuple(Word(text=word, start_s=0.1 * i, end_s=0.1 * i + 0.08) for i, word in enumerate(said)),
        presence=dict[View, int].fromkeys(Modality, PRESENT),
        points_s=POINTS_S,
        video=str(video(folder / f"{index}.mp4", index)),
        face_crops_uri=str(crops),
        vectors={name: rng.standard_normal(12).astype(np.float32) for name in ("openai", "gigachat")},
    )


@pytest.fixture(scope="module")
def parts(tiny_bundle: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    folder = tmp_path_factory.mktemp("hsemotion")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    patched = pytest.MonkeyPatch()

    def build(media: MediaConfig, *_: object) -> Everywhere | None:
        return None if media.detector == "corpus" else Everywhere()

    patched.setattr("twominds.features.face_track.build_detector", build)
    yield Parts(BackboneStore(uri=tiny_bundle), [made_up_clip(i, folder) for i in range(CLIPS)])
    patched.undo()
    torch.set_num_threads(threads)


def assembled(recipe: Recipe, parts: Parts) -> tuple[Assembly, list[Mapping[View, Embedding]]]:
    clips, known = parts.clips(recipe), labels(recipe)
    by_seed: dict[int, Mapping[str, Tensor]] = {}
    dims: dict[View, int] = {}
    if recipe.blend is None:
        data = labelled_inputs(clips, known, recipe.fusion, recipe.task.output)
        dims, settings = data.inputs.dims, replace(recipe.fusion.fit, epochs=1, min_epochs=0)
        examples = FusionExamples(data.inputs, data.labels)
        train = data.inputs, data.labels
        model = build_fusion(recipe.fusion.model, dims=dims, num_outputs=recipe.task.num_outputs, train=train)
        fit(model, examples, examples, settings, seed=0, loss=recipe.fusion.loss, objective=recipe.objective)
        by_seed = {recipe.fusion.seeds[0]: model.state_dict()}
    validation = LabelledClips(embeddings=clips, labels=known)
    made = assemble(recipe, by_seed, dims, recipe.media)
    return chosen_on(made, recipe, said_clips(made, recipe, validation)), clips


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("hsemotion/")])
def test_it_runs(name: str, parts: Parts) -> None:
    recipe = find_recipe(name)
    made, clips = assembled(recipe, parts)
    scores = made.ensemble(recipe).score(clips)
    outputs: list[Any] = []
    for score in scores:
        assert isinstance(score, Score)
        if recipe.task.per_frame:
            assert score.timeline is not None
            assert score.timeline.outputs.shape == (FRAMES, recipe.task.num_outputs)
            outputs.append(score.timeline.outputs)
        else:
            outputs.append(np.array([score.probabilities]))
    said = np.concatenate(outputs)
    assert np.isfinite(said).all()
    if isinstance(recipe.task.output, Classes):
        np.testing.assert_allclose(said.sum(axis=1), 1, rtol=1e-5)
    overruled = recipe.judge is not None and not said[:, -1].any()  # its judge may deny every clip
    assert overruled or np.ptp(said[:, -1]) > 0


def test_every_network_that_may_be_searched_is_one(parts: Parts) -> None:
    recipe = find_recipe("hsemotion/ah-frame/mfn-smooth-filter")
    assert set(recipe.encoder_searches) == {"face.mfn"}
    chosen = recipe.with_encoder_candidate("face.mfn", {"hidden_dim": 16, "learning_rate": 1e-3})
    encoder = chosen.encoders["face.mfn"]
    assert isinstance(encoder, RowsEncoderConfig)
    assert encoder.hidden_dim == 16
    assert parts.embeddings(chosen, "face.mfn")[0].vectors is not None


def test_a_clip_without_a_view_is_blended_from_the_others(parts: Parts) -> None:
    recipe = find_recipe("hsemotion/demo/ah-frame/all-blend")
    made, clips = assembled(recipe, parts)
    silent = [{v: e if v == "face.mfn" else without(e) for v, e in clip.items()} for clip in clips]
    ensemble = made.ensemble(recipe)
    for score, alone in zip(ensemble.score(silent), silent, strict=True):
        said = alone["face.mfn"].probabilities
        assert isinstance(score, Score)
        assert score.timeline is not None
        assert said is not None
        np.testing.assert_allclose(score.timeline.outputs, said, atol=1e-6)


def without(embedding: Embedding) -> Embedding:
    gone = absent(f"no {embedding.view}")
    return replace(embedding, presence=gone, vectors=None, logits=None, probabilities=None)


def test_validation_is_scored_over_all_labelled_points(parts: Parts) -> None:
    """Against scikit-learn; a clip of which nothing is said gets the constant of training."""
    from sklearn.metrics import f1_score  # pyright: ignore[reportUnknownVariableType]

    recipe = find_recipe("hsemotion/demo/ah-frame/mfn-smooth")
    made, clips = assembled(recipe, parts)
    clips = [{"face.mfn": without(clips[0]["face.mfn"])}, *clips[1:]]
    known = labels(recipe)
    said_of = said_clips(made, recipe, LabelledClips(embeddings=clips, labels=known))
    score = validation_score(made, recipe, said_of, np.asarray(1))
    truth: list[float] = []
    said: list[int] = []
    for of_clip, found in zip(known, made.ensemble(recipe).score(clips), strict=True):
        answer = found.timeline.labels if isinstance(found, Score) and found.timeline is not None else None
        truth += of_clip.values[of_clip.known, 0].tolist()
        said += [1] * int(of_clip.known.sum()) if answer is None else answer[of_clip.known].tolist()
    assert score == pytest.approx(f1_score(truth, said, average="weighted"))

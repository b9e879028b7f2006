"""Systems that are trained jointly, several times: which trainings a study makes, and what their rows say."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from rich.console import Console
from tests.unit.pipelines.study.test_parts import Jobs, bundle, stand_ins

from twominds.artifacts import Card
from twominds.backbones import BACKBONES
from twominds.encoders.artifact import load_encoder, save_encoder
from twominds.encoders.embedding import embed
from twominds.encoders.statistics import StatisticsEncoder, StatisticsEncoderConfig
from twominds.fusion.catalog import build_fusion
from twominds.fusion.simple import ConcatMLPConfig
from twominds.pipelines.study.parts import Made, PartsMaker, StudyConfig, Unmade
from twominds.pipelines.study.rows import models_of, save_whole, train_rows
from twominds.pipelines.train import TrainConfig
from twominds.recipes.catalog import find_recipe
from twominds.recipes.recipe import Recipe, Reports
from twominds.recipes.stages import TrainJointly
from twominds.records import PRESENT, Clip, Embedding, Features, Modality, Score, Split, View, clip_labels
from twominds.reports.study.answers import ensemble_answers
from twominds.reports.study.points import LabelledPoints
from twominds.reports.study.rows import ClipEmbeddings, StudyPart, StudyRun, answers, labelled
from twominds.results.about import About, claim_folder
from twominds.scoring.ensemble import Ensemble, save_ensemble
from twominds.scoring.post_processing import Grids
from twominds.search.assembly import assemble
from twominds.tasks import AH_VIDEO
from twominds.training.fit import FitConfig
from twominds.training.losses import FusionLoss

if TYPE_CHECKING:
    from tests.unit.pipelines.conftest import RayHere

FACE, AUDIO, TEXT = Modality.FACE, Modality.AUDIO, Modality.TEXT


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[PartsMaker, Jobs]:
    models = bundle(tmp_path / "models", list(BACKBONES))
    config = StudyConfig(corpus="/corpora/a", models=models, folder=str(tmp_path / "study"), workers=3)
    return PartsMaker(config, Console(quiet=True)), stand_ins(monkeypatch)


def test_each_training_of_each_seed_is_made_once_from_one_pass_over_the_videos(maker: tuple[PartsMaker, Jobs]) -> None:
    parts, jobs = maker
    names = ("face-audio", "single", "windows-5", "frozen", "ensemble")
    found = parts.make([find_recipe(f"conflict-aware/{name}") for name in names])
    assert jobs.passes == [("face", "audio", "text")], "the views of two alone are found among those of three"
    assert found.unmade == {}
    assert found.parts == {}
    counts = {name: len(found.runs[f"conflict-aware/{name}"]) for name in names}
    assert counts == {"face-audio": 3, "single": 3, "windows-5": 3, "frozen": 3, "ensemble": 2}
    assert len(jobs.trained) == 12, "the ensemble's are those of two other rows"
    runs = {name: [run for run in found.runs[f"conflict-aware/{name}"] if isinstance(run, StudyRun)] for name in names}
    top, frozen = runs["ensemble"]
    assert top.ensemble == runs["windows-5"][0].ensemble
    assert frozen.ensemble == runs["frozen"][0].ensemble
    assert jobs.weights_from == {
        ("conflict-aware/windows-5", run.recipe.encoder_seed): run.ensemble.removesuffix("/ensemble")
        for run in runs["single"]
    }
    assert [part.view for part in top.parts] == [FACE, AUDIO, TEXT]
    assert len({part.embeddings for part in top.parts}) == 1
    assert len(found.unique) == 3 * 9 + 3 * 2
    jobs.forget()
    assert parts.make([find_recipe("conflict-aware/ensemble")]).runs.keys() == {"conflict-aware/ensemble"}
    assert (jobs.passes, jobs.trained, jobs.embedded) == ([], [], [])


def test_pooled_features_that_another_row_takes_are_not_asked_of_pictures(maker: tuple[PartsMaker, Jobs]) -> None:
    parts, jobs = maker
    found = parts.make([find_recipe("conflict-aware/ensemble"), find_recipe("leya-pooled/01")])
    assert found.unmade == {}
    assert jobs.passes == [("face", "audio", "text"), ("face",)]


def test_a_seed_that_comes_to_nothing_is_lost_alone(
    maker: tuple[PartsMaker, Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, jobs = maker

    def train(configs: Sequence[TrainConfig], _: Sequence[str]) -> list[str]:
        assert {config.workers for config in configs} == {3}
        return ["nan" if c.seed == 42 or "face" in c.recipe else jobs.train_encoders(c) for c in configs]

    monkeypatch.setattr("twominds.pipelines.study.parts.train_several", train)
    found = parts.make([find_recipe("conflict-aware/single"), find_recipe("conflict-aware/face")])
    assert [type(run) for run in found.runs["conflict-aware/single"]] == [Unmade, StudyRun, StudyRun]
    assert found.unmade == {"conflict-aware/face": "nan"}


CLIPS = [
    Clip(clip_id=f"{split}-{i:02}", video_uri="", split=split, labels=clip_labels(i % 2), participant_id=f"p{i}")
    for split in (Split.TRAIN, Split.VALIDATION, Split.TEST)
    for i in range(10)
]


def joint_recipe(name: str, seeds: Sequence[int], reports: Reports, grids: Grids | None = None) -> Recipe:
    simple = find_recipe("simple/joint")
    stage = TrainJointly(fit=FitConfig(), loss=FusionLoss(), heads={AUDIO: 0.5}, blend={AUDIO: 0.25})
    fusion = replace(simple.fusion, model=ConcatMLPConfig(hidden_dim=5), views=(FACE, AUDIO), seeds=tuple(seeds))
    return replace(simple, name=name, fusion=fusion, stages=(stage,), reports=reports, grids=grids or Grids())


def trained_run(folder: Path, run: Recipe) -> tuple[StudyRun, dict[str, list[Embedding]]]:
    """Encoders and a fusion of random weights, saved as a joint training does, and what they say of the clips."""
    seed = run.encoder_seed
    place, card = folder / f"{run.name}-{seed}", Card(kind="encoder", task=AH_VIDEO, recipe=run.name, config={})
    features = str(folder / "features")
    claim_folder(features, About(recipe="x", corpus="/c", fingerprint="0", models="m", media=run.media))
    parts: list[StudyPart] = []
    said: dict[str, list[Embedding]] = {}
    dims: dict[View, int] = {}
    for place_of, view in enumerate((FACE, AUDIO)):
        torch.manual_seed(seed + place_of)
        config = StatisticsEncoderConfig(hidden_dim=4)
        encoder = StatisticsEncoder.from_architecture(config, num_outputs=2, architecture={"input_dim": 3})
        encoder.view = view
        own = replace(card, config={"features": {view: {}}})
        save_encoder(str(place / view), encoder, {view: config}, own)
        rng = np.random.default_rng([place_of])
        items = [
            Features(clip_id=clip.clip_id, view=view, presence=PRESENT, values=rng.random((4, 3), np.float32))
            for clip in CLIPS
        ]
        said[str(place / view)] = embed(encoder, items)
        dims[view] = encoder.embedding_dim
        part = StudyPart(
            recipe=run, view=view, features=features, encoder=str(place / view), embeddings=str(place / "embeddings")
        )
        parts.append(part)
    fusion = build_fusion(run.fusion.model, dims=dims, num_outputs=2, seed=seed)
    made = assemble(run, {seed: fusion.state_dict()}, dims, run.media)
    score = 0.5 + 0.01 * (seed % 7)
    save_ensemble(
        str(place / "ensemble"),
        made.states,
        made.config,
        dims=made.dims,
        encoders={part.view: part.encoder for part in parts},
        card=replace(card, kind="ensemble", config={}, metrics={"validation_score_mean": score}, data={"clips": {}}),
    )
    return StudyRun(recipe=run, parts=tuple(parts), ensemble=str(place / "ensemble")), said


def test_rows_of_several_trainings(tmp_path: Path, ray_here: "RayHere") -> None:
    """`single` is each training by itself; `ensemble` their mean with a threshold of its own, saved whole to serve."""
    del ray_here
    single = joint_recipe("single", (42, 3, 11), "single")
    other = joint_recipe("other", (42,), "single")
    thresholds = Grids(thresholds=tuple(np.arange(0.25, 0.75, 0.01).round(2).tolist()))
    both = replace(joint_recipe("both", (42,), "ensemble", thresholds), also=(other,))
    seen: dict[str, list[Embedding]] = {}
    runs: dict[str, list[StudyRun | Unmade]] = {single.name: [], both.name: []}
    for row in (single, both):
        for run in row.runs:
            made, said = trained_run(tmp_path, run)
            runs[row.name].append(made)
            seen |= said
    clips = [
        ClipEmbeddings(clip=clip, by_encoder={uri: of[i] for uri, of in seen.items()}) for i, clip in enumerate(CLIPS)
    ]
    # The second system's training is that of a row with another name, which is trained alike.
    (own, alike) = runs[both.name]
    assert isinstance(alike, StudyRun)
    runs[both.name] = [own, replace(alike, recipe=replace(alike.recipe, name="elsewhere"))]
    made_runs = Made(parts={}, runs={name: tuple(of) for name, of in runs.items()})
    models = models_of([single, both], made_runs, clips, str(tmp_path / "study"), "validation")
    assert train_rows([*models.values()], clips, 0.0, lambda: None) == {}

    def alone(run: StudyRun | Unmade) -> Ensemble:
        assert isinstance(run, StudyRun)
        return Ensemble.load(run.ensemble)

    def own_inputs(run: StudyRun | Unmade, found: Sequence[ClipEmbeddings]) -> list[dict[View, Embedding]]:
        assert isinstance(run, StudyRun)
        return [{part.view: item.by_encoder[part.encoder] for part in run.parts} for item in found]

    test = labelled(clips, Split.TEST)
    points = LabelledPoints.of([item.clip for item in test], AH_VIDEO, [None] * len(test))
    of_single = answers(models["single"], single, test, points, (0.5, 0.5))
    assert of_single.predictions.shape == (3, 10)
    for row, run in zip(of_single.predictions, runs["single"], strict=True):
        expected = ensemble_answers(alone(run), own_inputs(run, test), points, (0.5, 0.5)).predictions[0]
        np.testing.assert_array_equal(row, expected)
    together = answers(models["both"], both, test, points, (0.5, 0.5))
    each = [
        np.array(
            [score.probabilities[1] for score in alone(run).score(own_inputs(run, test)) if isinstance(score, Score)]
        )
        for run in runs["both"]
    ]
    assert together.probabilities is not None
    np.testing.assert_allclose(together.probabilities[0], np.mean(each, axis=0), atol=1e-6)
    chosen = models["both"].ensemble.config.decision.threshold
    assert chosen in thresholds.thresholds
    np.testing.assert_array_equal(together.predictions[0], np.mean(each, axis=0) >= chosen)

    best = save_whole(models["single"], single, str(tmp_path / "best"))
    assert best.metrics["validation_score_mean"] == max(0.5 + 0.01 * (seed % 7) for seed in (42, 3, 11))
    whole = save_whole(models["both"], both, str(tmp_path / "whole"))
    served = Ensemble.load(str(tmp_path / "whole"))
    assert served.config.views == ("face.a42", "audio.a42", "face.b42", "audio.b42")
    assert whole.architecture["encoders"] == {
        view: load_encoder(str(tmp_path / "whole" / "encoders" / view))[1].artifact_id for view in served.config.views
    }
    assert {load_encoder(str(tmp_path / "whole" / "encoders" / view))[0].view for view in served.config.views} == {
        *served.config.views
    }


def test_a_view_is_hidden_from_all_trainings(tmp_path: Path) -> None:
    single = joint_recipe("single", (42, 3), "single")
    runs: list[StudyRun | Unmade] = []
    seen: dict[str, list[Embedding]] = {}
    for run in single.runs:
        made, said = trained_run(tmp_path, run)
        runs.append(made)
        seen |= said
    clips = [ClipEmbeddings(clip=CLIPS[0], by_encoder={uri: of[0] for uri, of in seen.items()})]
    row = models_of([single], Made(parts={}, runs={"single": tuple(runs)}), clips, str(tmp_path), "validation")[
        "single"
    ]
    (clip,) = row.inputs_of(clips, AUDIO)
    assert {view: embedding.presence.present for view, embedding in clip.items()} == {
        "face.42": True,
        "audio.42": False,
        "face.3": True,
        "audio.3": False,
    }

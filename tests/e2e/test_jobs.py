"""The jobs one after another on a small drawn corpus: what they leave, what they leave alone, and that scores agree."""

import csv
import json
import shlex
import shutil
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import tyro

from twominds import artifacts
from twominds.backbones import BackboneStore
from twominds.errors import ArtifactError, BackboneError, ConfigError, MissingInputError
from twominds.pipelines.batch_score import BatchScoreConfig, batch_score
from twominds.pipelines.embed import embed_features
from twominds.pipelines.evaluate import evaluate
from twominds.pipelines.preprocess import PreprocessConfig, preprocess
from twominds.pipelines.search import fusion
from twominds.pipelines.search.fusion import search_fusion
from twominds.pipelines.train import train_encoders
from twominds.records import Clip, Embedding, Failure, Modality, Score, Split, View
from twominds.reports.summary import Summary
from twominds.results import tables
from twominds.results.quarantine import read_quarantine
from twominds.scoring.decision import Calibrate
from twominds.scoring.ensemble import Ensemble
from twominds.scoring.fit_decision import DecisionFit
from twominds.scoring.scorer import Scorer
from twominds.search.config import SearchConfig

if TYPE_CHECKING:
    from tests.e2e.conftest import Finished

pytestmark = [pytest.mark.ray, pytest.mark.e2e]

CLIPS = 24
TRIALS = 2
SEEDS = {"42", "2025", "7777", "12345", "31415"}


@pytest.fixture(scope="module")
def scored(finished: "Finished", tmp_path_factory: pytest.TempPathFactory) -> tuple[BatchScoreConfig, Summary]:
    """Every video of the corpus, scored in a batch."""
    config = BatchScoreConfig(
        videos=finished.workspace.corpus,
        output=str(tmp_path_factory.mktemp("scored") / "scores"),
        ensemble=finished.workspace.ensemble,
        models=finished.workspace.models,
    )
    return config, batch_score(config)


def fact(summary: Summary, what: str) -> str:
    return dict(summary.facts)[what]


def test_every_clip_has_features_or_a_reason(finished: "Finished") -> None:
    truth = json.loads((Path(finished.workspace.corpus) / "synthetic-truth.json").read_text())
    unreadable = {clip["clip_id"] for clip in truth["clips"] if {"truncated", "not_video"} & set(clip["nuisances"])}
    assert unreadable, "the corpus has files that cannot be read, or this test shows nothing"
    rows = tables.read_rows(finished.workspace.features)
    assert {row["clip_id"] for row in rows} | unreadable == {clip.clip_id for clip in finished.clips()}
    assert finished.quarantined() == unreadable
    assert all(failure.reason and failure.stage for failure in read_quarantine(finished.workspace.features))
    silent = {clip["clip_id"] for clip in truth["clips"] if {"no_audio", "silence"} & set(clip["nuisances"])}
    assert {row["clip_id"] for row in rows if not row["audio_present"]} == silent - unreadable
    assert all(row["audio_reason"] for row in rows if not row["audio_present"])
    assert all((row["scene_values"] is not None) == row["scene_present"] for row in rows)


def test_running_again_does_only_what_is_missing(finished: "Finished") -> None:
    again = preprocess(finished.preprocess)
    assert fact(again, "features made now") == "0"
    victim = sorted(Path(finished.workspace.features).glob("*.parquet"))[0]
    lost = pq.read_table(victim, columns=["clip_id"]).num_rows
    others = {path: path.stat().st_mtime_ns for path in victim.parent.glob("*.parquet") if path != victim}
    victim.unlink()
    again = preprocess(finished.preprocess)
    assert fact(again, "features made now") == str(lost)
    assert {path: path.stat().st_mtime_ns for path in others} == others
    assert fact(embed_features(finished.embed), "embedded now") == "0"
    cards = {m: artifacts.read_card(f"{finished.workspace.encoders}/{m}") for m in Modality}
    train_encoders(finished.train)
    assert {m: artifacts.read_card(f"{finished.workspace.encoders}/{m}") for m in Modality} == cards  # with the time
    assert not list((Path(finished.workspace.encoders) / ".train").glob("*")), "checkpoints are left behind"


def test_features_of_other_settings_are_not_mixed(finished: "Finished") -> None:
    with pytest.raises(ConfigError, match="other settings"):
        preprocess(replace(finished.preprocess, recipe="leya"))


def test_what_is_missing_is_said_before_any_worker_starts(finished: "Finished", tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(BackboneError, match=r"No weights for scene\.videomae_base"):
        preprocess(replace(finished.preprocess, output=str(tmp_path / "features"), models=str(tmp_path / "models")))
    without_validation = tmp_path / "half"
    shutil.copytree(finished.workspace.features, without_validation)
    for path in without_validation.glob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.filter(pc.field("split") != Split.VALIDATION.value), path)
    with pytest.raises(MissingInputError, match="No labelled clip of the split val"):
        train_encoders(replace(finished.train, features=str(without_validation), output=str(tmp_path / "encoders")))


def test_cards_name_every_pretrained_model_behind_them(finished: "Finished") -> None:
    card = artifacts.read_card(finished.workspace.ensemble)
    licences = {used.role: used.licence for used in card.backbones}
    assert set(licences) == {
        "scene.videomae_base",
        "face.emotion_efficientnet_b0",
        "audio.wav2vec2_emotion",
        "text.all_minilm",
        "detect.yolo_face",
    }
    assert licences["detect.yolo_face"] == "AGPL-3.0"
    assert all(used.digest for used in card.backbones)


def test_scores_of_two_folders_are_not_mixed(
    finished: "Finished", scored: tuple[BatchScoreConfig, Summary], tmp_path: Path
) -> None:
    """Both hold clips of the same names: the second may not get the first one's scores."""
    config, _ = scored
    other = tmp_path / "other"
    shutil.copytree(finished.workspace.corpus, other)
    with pytest.raises(ConfigError, match="not of those at"):
        batch_score(replace(config, videos=str(other)))


def test_encoders_are_artifacts_that_say_where_they_come_from(finished: "Finished") -> None:
    for view in Modality:
        card = artifacts.read_card(f"{finished.workspace.encoders}/{view}")
        assert card.recipe == "leya/demo"
        assert 0 <= card.metrics["validation_score"] <= 1
        assert card.weights == ("published" if view == Modality.TEXT else "debug")
        assert card.selected_on == "validation"


def test_the_search_ends_with_five_seeds_of_the_best_candidate(finished: "Finished") -> None:
    (run,) = Path(finished.workspace.search).iterdir()
    trials = pq.read_table(run / "trials.parquet").to_pylist()
    assert len(trials) == TRIALS
    card = artifacts.read_card(finished.workspace.ensemble)
    assert set(card.metrics["validation_score"]) == SEEDS
    best = max(trials, key=lambda trial: trial["score"])  # of equals any has the same mean
    assert card.metrics["validation_score_mean"] == pytest.approx(best["mean_score"])
    assert card.metrics["validation_score_mean"] == pytest.approx(sum(card.metrics["validation_score"].values()) / 5)
    assert card.weights == "debug"
    assert trials[0]["hidden_dim"] == 128, "the paper's configuration is the first point"
    assert trials[0]["learning_rate"] == 9.44e-5


def test_a_finished_search_is_not_run_again(finished: "Finished", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion, "cluster", None)  # nor does it need one
    results = {p: p.stat().st_mtime_ns for p in Path(finished.workspace.search).rglob("seed-*.json")}
    assert len(results) == 5 * TRIALS
    before = artifacts.read_card(finished.workspace.ensemble).artifact_id
    search_fusion(finished.search)
    assert {p: p.stat().st_mtime_ns for p in Path(finished.workspace.search).rglob("seed-*.json")} == results
    assert artifacts.read_card(finished.workspace.ensemble).artifact_id == before


def test_a_finished_search_can_be_given_another_decision(finished: "Finished", tmp_path: Path) -> None:
    """Seed models and probabilities' order stay; calibration, threshold and abstention come from validation."""
    fitted = DecisionFit(calibration="temperature", threshold="best", coverage=0.5)
    search_fusion(replace(finished.search, ensemble=str(tmp_path / "ensemble"), decision=fitted))
    plain, calibrated = Ensemble.load(finished.search.ensemble), Ensemble.load(str(tmp_path / "ensemble"))
    assert calibrated.card.artifact_id != plain.card.artifact_id
    assert calibrated.config.decision.step(Calibrate).temperature != 1
    rows = [
        row for row in tables.read_rows(finished.embed.output, splits=[Split.VALIDATION]) if row["labels"] is not None
    ]
    clips: list[dict[View, Embedding]] = [{m: tables.embedding_from_row(row, m) for m in Modality} for row in rows]
    before, after = plain.probabilities(clips)[..., 1], calibrated.probabilities(clips)[..., 1]
    ordered = np.take_along_axis(after, np.argsort(before, axis=1), axis=1)
    assert (np.diff(ordered, axis=1) >= -1e-9).all()  # equal where a low temperature rounds both to 0 or 1
    scores = [score for score in calibrated.score(clips) if isinstance(score, Score)]
    assert sum(score.abstains for score in scores) == len(scores) // 2


def test_the_report_has_every_model_beside_the_baselines(finished: "Finished") -> None:
    report = json.loads((Path(finished.workspace.report) / "results.json").read_text())
    names = [row["recipe"] for row in report["rows"]]
    assert names == ["majority", "question only", "scene", "face", "audio", "text", "single fusion", "ensemble"]
    assert all(set(row["splits"]) == {"val", "test"} for row in report["rows"])
    assert {row["selected_on"] for row in report["rows"]} == {None, "validation"}
    assert (Path(finished.workspace.report) / "report.html").exists()


def test_every_labelled_clip_counts_in_cards_and_in_the_report(finished: "Finished") -> None:
    report = json.loads((Path(finished.workspace.report) / "results.json").read_text())
    labelled = Counter(str(clip.split) for clip in finished.clips() if clip.label is not None)
    assert report["clips"] == {split: labelled[split] for split in ("train", "val", "test")}
    rows = {row["recipe"]: row for row in report["rows"]}
    assert report["quarantined"] == len(finished.quarantined()) > 0
    for view in Modality:
        card = artifacts.read_card(f"{finished.workspace.encoders}/{view}")
        assert card.data["clips"] == {s: labelled[s] for s in ("train", "val")}
        assert rows[view]["splits"]["val"]["score"]["value"] == pytest.approx(card.metrics["validation_score"])
    card = artifacts.read_card(finished.workspace.ensemble)
    of_seeds = [*card.metrics["validation_score"].values()]
    assert rows["single fusion"]["splits"]["val"]["by_model"] == pytest.approx(of_seeds)


def test_embeddings_of_other_encoders_are_refused(finished: "Finished", tmp_path: Path) -> None:
    foreign = tmp_path / "embeddings"
    shutil.copytree(finished.workspace.embeddings, foreign)
    about = json.loads((foreign / "_about.json").read_text())
    for other in ({"fingerprint": "0" * 12}, {"parts": about["parts"] | {"face": "0" * 12}}):
        (foreign / "_about.json").write_text(json.dumps(about | other))
        with pytest.raises(ArtifactError, match="not made by the encoders"):
            evaluate(replace(finished.evaluate, embeddings=str(foreign), output=str(tmp_path / "report")))


def test_each_job_names_the_next_one_with_the_places_of_its_results(finished: "Finished") -> None:
    """A next step is a command: the job named takes every flag in it, and reads what this job wrote."""
    after = {
        "preprocess": finished.train,
        "train": finished.embed,
        "embed": finished.search,
        "search": finished.evaluate,
    }
    for job, config in after.items():
        program, script, *flags = shlex.split(finished.summaries[job].next_step)
        assert (program, Path(script).parent) == ("python", Path("jobs"))
        read = tyro.cli(type(config), args=flags)
        places = [flag.removeprefix("--") for flag in flags[::2]]
        assert places
        assert [getattr(read, place) for place in places] == [getattr(config, place) for place in places]
    assert f"ensemble: {finished.search.ensemble}" in finished.summaries["evaluate"].next_step


def test_missing_inputs_are_named_with_the_job_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"jobs/make_corpus\.py"):
        preprocess(PreprocessConfig(corpus=str(tmp_path / "no"), output=str(tmp_path / "out")))
    with pytest.raises(MissingInputError, match=r"jobs/embed\.py"):
        search_fusion(SearchConfig(embeddings=str(tmp_path / "no")))


def test_evaluation_batch_scoring_and_the_scorer_agree_alone_and_in_a_batch(
    finished: "Finished", scored: tuple[BatchScoreConfig, Summary]
) -> None:
    """The same clip and artifact: the same probability to 1e-5, whichever way it went."""
    with (Path(finished.workspace.report) / "scores.csv").open() as file:
        evaluated = {row["clip_id"]: float(row["probability"]) for row in csv.DictReader(file) if row["probability"]}
    config, summary = scored
    assert len(list(Path(config.output).glob("*.parquet"))) > 1, "blocks are held back until all clips are decoded"
    with (Path(config.output) / "scores.csv").open() as file:
        submitted = list(csv.DictReader(file))
    assert {row["id"] for row in submitted} == {clip.clip_id for clip in finished.clips()}
    assert fact(summary, "without a score").startswith(f"{len(finished.quarantined())}; ")
    with (Path(config.output) / "details.csv").open() as file:
        told = {row["id"]: row for row in csv.DictReader(file)}
    assert {clip_id for clip_id, row in told.items() if row["failed_in"] and row["error"]} == finished.quarantined()
    assert {row["transcript_source"] for row in told.values() if row["text"] == "yes"} == {"corpus"}
    assert all(Decimal(row["p0"]) + Decimal(row["p1"]) == 1 for row in submitted)
    assert all(float(row["p0"]) + float(row["p1"]) == 1.0 for row in submitted)
    assert fact(summary, "videos") == str(CLIPS)
    batched = {row["id"]: float(row["p1"]) for row in submitted}
    assert {clip_id: batched[clip_id] for clip_id in evaluated} == pytest.approx(evaluated, abs=1e-5)
    scorer = Scorer.load(finished.workspace.ensemble, BackboneStore(uri=finished.workspace.models))
    eight = _mixed(finished, 8)
    together = [result for result in scorer.score(eight) if isinstance(result, Score)]
    alone = [result for clip in eight for result in scorer.score([clip]) if isinstance(result, Score)]
    assert [s.clip_id for s in together] == [s.clip_id for s in alone] == [clip.clip_id for clip in eight]
    for a, b in zip(together, alone, strict=True):
        assert a.probabilities[1] == pytest.approx(b.probabilities[1], abs=1e-5)
        assert a.probabilities[1] == pytest.approx(batched[a.clip_id], abs=1e-5)
        assert sum(a.probabilities) == pytest.approx(1.0, abs=1e-12)


def _mixed(finished: "Finished", count: int) -> list[Clip]:
    """Readable clips, those with something absent first."""
    rows = tables.read_rows(finished.workspace.features)
    incomplete = {row["clip_id"] for row in rows if not all(row[f"{m}_present"] for m in Modality)}
    readable = [clip for clip in finished.clips() if clip.clip_id not in finished.quarantined()]
    assert incomplete, "some clip lacks a modality, or this test shows too little"
    return sorted(readable, key=lambda clip: clip.clip_id not in incomplete)[:count]


def test_a_bad_clip_in_a_batch_is_a_failure_of_its_own(finished: "Finished") -> None:
    bad = next(clip for clip in finished.clips() if clip.clip_id in finished.quarantined())
    good = _mixed(finished, 2)
    scorer = Scorer.load(finished.workspace.ensemble, BackboneStore(uri=finished.workspace.models))
    first, failure, second = scorer.score([good[0], bad, good[1]])
    assert isinstance(failure, Failure)
    assert failure.clip_id == bad.clip_id
    assert isinstance(first, Score)
    assert isinstance(second, Score)
    assert (first.clip_id, second.clip_id) == (good[0].clip_id, good[1].clip_id)

"""A small study from features that are there to the report: what it makes, what it leaves alone, that scores agree."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from twominds import artifacts
from twominds.backbones import BackboneStore
from twominds.pipelines.evaluate import EvaluateConfig, evaluate
from twominds.pipelines.study.parts import StudyConfig
from twominds.records import Modality, Score, Split
from twominds.reports.summary import Summary
from twominds.results import tables
from twominds.scoring.ensemble import Ensemble
from twominds.scoring.scorer import Scorer
from twominds.training.metrics import macro_f1

if TYPE_CHECKING:
    from tests.e2e.conftest import Finished

pytestmark = [pytest.mark.ray, pytest.mark.e2e]

FACE, AUDIO, BOTH = "leya/demo/01", "leya/demo/03", "leya/demo/15"


@pytest.fixture(scope="module")
def study(finished: "Finished", tmp_path_factory: pytest.TempPathFactory) -> tuple[EvaluateConfig, Summary]:
    """Face, audio and their fusion, on the features that `jobs/preprocess.py` made for the whole system."""
    root = tmp_path_factory.mktemp("study")
    shutil.copytree(finished.workspace.features, root / "study" / "features" / "of another job")
    places = StudyConfig(corpus=finished.workspace.corpus, models=finished.workspace.models, folder=str(root / "study"))
    config = EvaluateConfig(
        recipe=f"{FACE},{AUDIO},{BOTH}", study=places, output=str(root / "report"), push_to=str(root / "pushed")
    )
    return config, evaluate(config)


def report(config: EvaluateConfig) -> dict[str, Any]:
    return json.loads((Path(config.output) / "results.json").read_text())


def made(config: EvaluateConfig) -> dict[Path, int]:
    """Every trained or computed file of the study, with its time."""
    parts = ("features", "encoders", "embeddings", "fusions")
    files = (path for part in parts for path in (Path(config.study.folder) / part).rglob("*") if path.is_file())
    return {path: path.stat().st_mtime_ns for path in files}


def test_parts_are_found_or_made_once(study: tuple[EvaluateConfig, Summary]) -> None:
    config, _ = study
    folder = Path(config.study.folder)
    assert [path.name for path in (folder / "features").iterdir()] == ["of another job"]
    assert sorted(path.name.split("-")[0] for path in (folder / "encoders").iterdir()) == ["audio", "face"]
    assert sorted(path.name.split("-")[0] for path in (folder / "embeddings").iterdir()) == ["audio", "face"]
    assert len(list((folder / "fusions").iterdir())) == 3
    before = made(config)
    evaluate(config)
    assert made(config) == before


def test_the_table_says_what_the_models_say(study: tuple[EvaluateConfig, Summary], finished: "Finished") -> None:
    """Macro F1 of the table against the artifact's own probabilities over the stored embeddings, and the majority."""
    config, _ = study
    rows = {row["recipe"]: row for row in report(config)["rows"]}
    assert list(rows) == ["majority", "question only", FACE, AUDIO, BOTH]
    folder = Path(config.study.folder)
    (uri,) = [str(path) for path in (folder / "fusions").iterdir() if artifacts.read_card(str(path)).recipe == BOTH]
    ensemble = Ensemble.load(uri)
    columns = [f.name for f in tables.embedding_fields(*ensemble.config.views)]
    by_modality = {
        m: {
            row["clip_id"]: row
            for place in (folder / "embeddings").glob(f"{m}-*")
            for row in tables.read_rows(str(place), ["labels", *[c for c in columns if c.startswith(m)]], [Split.TEST])
        }
        for m in ensemble.config.views
    }
    ids = sorted(by_modality[Modality.FACE])
    assert ids == sorted(by_modality[Modality.AUDIO])
    clips = [{m: tables.embedding_from_row(found[i], m) for m, found in by_modality.items()} for i in ids]
    labels = [int(by_modality[Modality.FACE][i]["labels"]["values"][0]) for i in ids]
    assert all(any(e.presence.present for e in clip.values()) for clip in clips)
    predicted = (ensemble.probabilities(clips)[..., -1] >= 0.5).astype(np.int64)
    labelled = [clip for clip in finished.clips() if clip.label is not None]
    broken = [c.label or 0 for c in labelled if c.split == Split.TEST and c.clip_id in finished.quarantined()]
    of_training = [clip.label for clip in labelled if clip.split == Split.TRAIN]
    guess = int(of_training.count(1) > of_training.count(0))
    expected = [macro_f1([*labels, *broken], [*of_seed, *[guess] * len(broken)], 2) for of_seed in predicted]
    found = rows[BOTH]["splits"]["test"]
    assert found["unseen"] == len(broken)
    assert found["by_model"] == pytest.approx(expected)
    assert found["score"]["value"] == pytest.approx(np.mean(expected))
    assert rows[BOTH]["seeds"] == [42, 2025, 7777, 12345, 31415]
    assert rows[FACE]["splits"]["test"]["spread"] == 0


def test_the_headline_can_be_served_and_pushed(study: tuple[EvaluateConfig, Summary], finished: "Finished") -> None:
    config, summary = study
    headline = report(config)["headline"]
    assert headline in (FACE, AUDIO, BOTH)
    assert headline in dict(summary.facts)["headline"]
    cards = [artifacts.read_card(place) for place in (f"{config.output}/headline", config.push_to)]
    assert cards[0].artifact_id == cards[1].artifact_id
    assert cards[0].selected_on == "validation"
    assert (Path(config.push_to) / "README.md").read_text().startswith("---\n")
    clip = next(clip for clip in finished.clips() if clip.clip_id not in finished.quarantined() and clip.transcript)
    (score,) = Scorer.load(config.push_to, BackboneStore(uri=config.study.models)).score([clip])
    assert isinstance(score, Score)
    assert sum(score.probabilities) == pytest.approx(1)


def test_the_report_is_whole(study: tuple[EvaluateConfig, Summary]) -> None:
    config, _ = study
    files = {path.name for path in Path(config.output).iterdir()}
    assert {"table.md", "table.csv", "groups.csv", "results.json", "report.html"} <= files
    table = list(csv.DictReader(io.StringIO((Path(config.output) / "table.csv").read_text())))
    assert len(table) == 5
    assert all(row["selected_on"] == "validation" for row in report(config)["rows"][2:])
    assert "Debug weights" in (Path(config.output) / "report.html").read_text()

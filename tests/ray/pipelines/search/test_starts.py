"""What one start of a search leaves to the next: plans, reports, a budget, another winner of the same candidates."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from twominds import artifacts
from twominds.errors import ConfigError
from twominds.pipelines.search import fusion
from twominds.pipelines.search.fusion import search_fusion
from twominds.pipelines.search.tuning import SearchError
from twominds.recipes.catalog import find_recipe
from twominds.scoring.fit_decision import DecisionFit
from twominds.search.config import SearchConfig
from twominds.search.setup import prepare
from twominds.search.store import SearchStore
from twominds.training.fit_together import OWN_SETTINGS
from twominds.training.stopping import StoppingConfig

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture
def config(ray_session: None, tmp_path: Path, write_embeddings: Callable[..., None]) -> SearchConfig:
    write_embeddings(str(tmp_path))
    return SearchConfig(
        embeddings=str(tmp_path / "embeddings"),
        encoders=str(tmp_path / "encoders"),
        output=str(tmp_path / "search"),
        ensemble=str(tmp_path / "ensemble"),
        recipe="leya/demo/fusion-concat",
        trials=2,
        concurrency=1,  # a process takes longer to start than these candidates to train
    )


def store_of(config: SearchConfig) -> SearchStore:
    (run,) = Path(config.output).iterdir()
    return SearchStore(str(run))


def test_one_search_over_several_starts(config: SearchConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = dict(search_fusion(replace(config, dry_run=True)).facts)
    assert plan["candidates"] == "2, 0 are over, 0 begun, 2 left"
    assert plan["clips"] == "40 training, 20 validation"
    assert "tried out here" in plan["training"]
    assert not Path(config.output).exists(), "a plan leaves nothing"
    with pytest.raises(SearchError, match="nothing to report"):
        search_fusion(replace(config, report_only=True))

    # No time at all: nothing is finished, nothing is lost.
    with pytest.raises(SearchError, match="No candidate finished"):
        search_fusion(replace(config, hours=1e-9))
    search_fusion(config)
    chosen = artifacts.read_card(config.ensemble)
    with pytest.raises(ConfigError, match="--no-resume"):
        search_fusion(replace(config, resume=False))

    more = replace(config, trials=4)
    plan = dict(search_fusion(replace(more, dry_run=True)).facts)
    assert plan["candidates"] == "4, 2 are over, 0 begun, 2 left"
    assert "by the 2 candidates that are over" in plan["training"]
    (Path(store_of(config).uri) / "report" / "report.html").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(fusion, "cluster", None)  # a report needs none
        told = dict(search_fusion(replace(more, report_only=True)).facts)
    assert told["candidates with all seeds"] == "2 of 4"
    assert told["candidates still to try"].startswith("2; ")
    page = (Path(store_of(config).uri) / "report" / "report.html").read_text()
    assert "2 of 4 candidates are over" in page
    assert artifacts.read_card(config.ensemble) == chosen, "a report saves no winner"

    before = store_of(config).outcomes()
    search_fusion(more)
    assert store_of(config).outcomes()[:2] == before
    assert len(store_of(config).outcomes()) == 4

    card = artifacts.read_card(config.ensemble)
    search_fusion(replace(more, winner="refit"))
    again = artifacts.read_card(config.ensemble)
    assert again.metrics["candidate"] == card.metrics["candidate"]
    assert again.metrics["refit_on"] == ["train", "val"]
    assert again.artifact_id != card.artifact_id
    assert all(torch.isfinite(tensor).all() for tensor in artifacts.load_tensors(config.ensemble).values())


def test_settings_that_do_not_go_together_are_refused(config: SearchConfig) -> None:
    with pytest.raises(ConfigError, match="refit"):
        search_fusion(replace(config, winner="refit", decision=DecisionFit(coverage=0.8)))
    with pytest.raises(ConfigError, match="seeds"):
        replace(config, seeds=(1, 2, 1))
    with pytest.raises(ConfigError, match="std_penalty"):
        replace(config, std_penalty=-1.0)
    with pytest.raises(ConfigError, match="choose one"):
        replace(config, dry_run=True, report_only=True)
    with pytest.raises(ConfigError, match="mlflow"):
        search_fusion(replace(config, mlflow="file:nowhere"))


def test_several_candidates_of_one_shape_in_each_trial(config: SearchConfig) -> None:
    """Batched, as on a GPU. An interrupted search goes on, whatever the number."""
    together = replace(config, trials=5, candidates_per_trial=3)
    facts = dict(search_fusion(together).facts)
    assert facts["candidates with all seeds"] == "5 of 5"
    outcomes = store_of(config).outcomes()
    assert [len(outcome.results) for outcome in outcomes] == [5] * 5
    shared = [tuple(sorted((k, v) for k, v in o.candidate.items() if k not in OWN_SETTINGS)) for o in outcomes]
    assert sorted(Counter(shared).values()) == [2, 3]
    assert artifacts.read_card(config.ensemble).metrics["candidate"] in [outcome.candidate for outcome in outcomes]
    search_fusion(replace(config, trials=6, sampler="hyperopt"))
    assert store_of(config).outcomes()[:5] == outcomes
    assert len(store_of(config).outcomes()) == 6


def test_a_space_of_a_few_candidates_is_tried_whole(config: SearchConfig) -> None:
    (point, *_) = find_recipe(config.recipe).fusion.first_points
    words = [f"{name}={value}" for name, value in point.items() if name not in ("hidden_dim", "optimizer")]
    given = (*words, "hidden_dim=8,16", "optimizer=sgd,adamw", "epochs=3")
    few = replace(config, trials=40, space=given, stopping=StoppingConfig(risk=0.0))
    plan = dict(search_fusion(replace(few, dry_run=True)).facts)
    assert plan["candidates"] == "4, 0 are over, 0 begun, 4 left"
    assert plan["space"] == "2 settings: optimizer, hidden_dim"
    assert dict(search_fusion(few).facts)["candidates with all seeds"] == "4 of 4"
    tried = [outcome.candidate for outcome in store_of(config).outcomes()]
    assert {tuple(sorted(c.items())) for c in tried} == {
        (("hidden_dim", dim), ("optimizer", optimizer)) for dim in (8, 16) for optimizer in ("sgd", "adamw")
    }
    assert all(result.epochs == 3 for outcome in store_of(config).outcomes() for result in outcome.results)
    page = (Path(store_of(config).uri) / "report" / "report.html").read_text()
    assert "hidden_dim=8,16, optimizer=sgd,adamw, epochs=3" in page
    card = artifacts.read_card(config.ensemble)
    assert card.config["fusion"]["hidden_dim"] == card.metrics["candidate"]["hidden_dim"] in (8, 16)


def test_in_another_space_it_is_another_search(config: SearchConfig) -> None:
    def place(*words: str) -> str:
        return prepare(replace(config, space=words)).store.uri

    assert place() == prepare(config).store.uri
    assert place("optimizer=adamw", "epochs=3") == place("epochs=3", "optimizer=adamw")
    words = "dropout=0.1..0.5", "dropout=log:0.1..0.5", "dropout=0.1,0.5", "dropout=0.1"
    assert len({place(), *map(place, words)}) == 1 + len(words)
    with pytest.raises(ConfigError, match="is it dropout"):
        place("dropuot=0.1")

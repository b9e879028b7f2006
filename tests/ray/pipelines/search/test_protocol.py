"""A search under the paper's protocol: the same job, and everything that it makes says so."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from twominds import artifacts
from twominds.pipelines.search.fusion import search_fusion
from twominds.search.config import SearchConfig

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def test_a_search_that_saw_the_test_split_says_so(
    ray_session: None, tmp_path: Path, write_embeddings: Callable[..., None]
) -> None:
    write_embeddings(str(tmp_path), train=20, validation=10, test=10, dim=4)
    config = SearchConfig(
        embeddings=str(tmp_path / "embeddings"),
        encoders=str(tmp_path / "encoders"),
        output=str(tmp_path / "search"),
        ensemble=str(tmp_path / "ensemble"),
        protocol="validation+test",
        trials=1,
    )
    summary = search_fusion(config)
    card = artifacts.read_card(config.ensemble)
    assert card.selected_on == "validation+test"
    facts = dict(summary.facts)
    assert facts["selected_on"] == "validation+test"
    assert "best on validation+test" in facts
    (run,) = (tmp_path / "search").iterdir()
    (trial,) = pq.read_table(run / "trials.parquet").to_pylist()
    assert trial["mean_score"] == pytest.approx(card.metrics["selection_score_mean"])
    assert card.metrics["validation_score_mean"] == pytest.approx(sum(card.metrics["validation_score"].values()) / 5)
    assert "validation+test" in (run / "report" / "report.html").read_text()

"""The search of an encoder finds the settings that see what was planted, and trains nothing twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from twominds import artifacts
from twominds.encoders.artifact import load_encoder
from twominds.encoders.classical import ClassicalTextConfig
from twominds.pipelines.search import encoder as job
from twominds.pipelines.search.encoder import EncoderSearchConfig, search_encoder
from twominds.pipelines.train_view import read_examples
from twominds.recipes.catalog import find_recipe
from twominds.recipes.recipe import EncoderSearch, Recipe
from twominds.recipes.space import Choice
from twominds.records import PRESENT, Clip, Features, Modality, Split, clip_labels
from twominds.results import tables
from twominds.results.about import About, claim_folder
from twominds.tasks import AH_VIDEO

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

TEXT = Modality.TEXT


def recipe(name: str) -> Recipe:
    """Row 4 counting single words, which may be searched to count pairs, or what next to nobody says."""
    found = find_recipe(name)
    space = {"min_clips": Choice(values=(2, 1000)), "ngram_max": Choice(values=(1, 2))}
    encoders = {**found.encoders, "text": ClassicalTextConfig(ngram_max=1, c=100.0)}
    return replace(
        found, encoders=encoders, encoder_searches={TEXT: EncoderSearch(space=space, sampler="grid", trials=3)}
    )


def write_features(folder: Path) -> None:
    """Words of 40 clips: the same ones in both classes, in another order, so that pairs tell all and words nothing."""
    rows = list[tables.Row]()
    for i in range(40):
        split = Split.TRAIN if i < 20 else Split.VALIDATION if i < 30 else Split.TEST
        clip = Clip(clip_id=f"{i:02}", video_uri="", split=split, labels=clip_labels(i % 2))
        said = ("sure not stop" if i % 2 else "not sure stop").encode()
        values = np.frombuffer(said, dtype=np.uint8)
        row = {name: value for name, value in tables.clip_to_row(clip).items() if name in tables.WITHOUT_WORDS}
        found = Features(clip_id=clip.clip_id, view=TEXT, presence=PRESENT, values=values)
        rows.append(row | tables.features_to_row(found))
    fields: list[pa.Field[Any]] = [tables.CLIP_SCHEMA.field(name) for name in tables.WITHOUT_WORDS]
    about = About(recipe="leya/04", corpus="drawn", fingerprint="0" * 12, models="none", parts={TEXT: "0" * 12})
    claim_folder(str(folder), about)
    schema = pa.schema([*fields, *tables.features_fields(TEXT)])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "all.parquet")


def test_the_settings_that_see_pairs_of_words_win_and_a_second_run_trains_nothing(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # places as people type them, relative to where they are
    monkeypatch.setattr(job, "find_recipe", recipe)
    write_features(Path("features"))
    Path("models").mkdir()
    config = EncoderSearchConfig(view=TEXT, features="features", models="models", search="search", output="encoders")
    summary = search_encoder(config)
    assert dict(summary.facts)["candidates trained"] == "2 of 3", "no word is said in 1000 clips"
    assert "best 1.000" in capsys.readouterr().out.splitlines()[-1]
    (run,) = Path("search").iterdir()
    trials = {trial["ngram_max"]: trial for trial in pq.read_table(run / "trials.parquet").to_pylist()}
    assert trials[2]["selection_score"] == trials[2]["validation_score"] == 1.0
    # One answer for all ten clips, five of each class: F1 2/3 and 0.
    assert trials[1]["selection_score"] == pytest.approx(1 / 3)
    assert len(list(run.rglob("model.safetensors"))) == 1, "the tensors of what was beaten are kept"

    encoder, card = load_encoder("encoders/text")
    assert card.config["encoders"]["text"]["ngram_max"] == 2
    assert card.metrics["candidate"] == {"min_clips": 2, "ngram_max": 2}
    assert card.metrics["candidates_searched"] == 2
    assert card.selected_on == "validation"
    clips, targets = read_examples("features", TEXT, "validation", AH_VIDEO.output).validation
    with torch.inference_mode():
        assert torch.equal(encoder(encoder.collate(clips)).logits.argmax(dim=1), targets.values)

    before = {path: path.stat().st_mtime_ns for path in run.rglob("card.json")}
    Path("encoders/text/card.json").unlink()
    search_encoder(config)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("card.json")} == before, "it was trained again"
    assert artifacts.read_card("encoders/text") == card

    summary = search_encoder(replace(config, space=("ngram_max=2", "min_clips=1,2"), sampler="random"))
    assert dict(summary.facts)["candidates trained"] == "2 of 2", "these are all: no sampler is needed"
    assert artifacts.read_card("encoders/text").metrics["candidate"].keys() == {"min_clips"}
    assert load_encoder("encoders/text")[1].config["encoders"]["text"]["ngram_max"] == 2

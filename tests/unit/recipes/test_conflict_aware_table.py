"""ConflictAwareAH's tables: every number that is printed, against the fact sheet, and what makes a row another."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from twominds.encoders.attended import AttendedEncoderConfig
from twominds.fusion.conflict import ConflictFusionConfig
from twominds.recipes.catalog import STUDIES, find_recipe, find_study
from twominds.recipes.conflict_aware import THRESHOLDS
from twominds.recipes.conflict_aware_table import ROWS, SEEDS
from twominds.recipes.recipe import PublishedScores, Recipe
from twominds.recipes.stages import TrainJointly
from twominds.records import Modality

ROOT = Path(__file__).parents[3]
SHEET = ROOT.parent / "shared" / "conflict_aware.md"
README = (ROOT / "platform" / "twominds" / "recipes" / "README.md").read_text()
FACE, AUDIO, TEXT = Modality.FACE, Modality.AUDIO, Modality.TEXT


def row(name: str) -> Recipe:
    return find_recipe(f"conflict-aware/{name}")


def blend(recipe: Recipe) -> dict[str, float]:
    (stage,) = recipe.stages
    assert isinstance(stage, TrainJointly)
    return {str(view): weight for view, weight in stage.blend.items()}


def published(*names: str) -> list[PublishedScores]:
    found = [row(name).published for name in names]
    return [scores for scores in found if scores is not None]


def windows(recipe: Recipe) -> dict[str, int]:
    encoders = {str(view): encoder for view, encoder in recipe.encoders.items()}
    return {view: e.windows for view, e in encoders.items() if isinstance(e, AttendedEncoderConfig)}


@pytest.mark.skipif(not SHEET.exists(), reason="the fact sheet is not here")
def test_published_numbers_are_the_sheets() -> None:
    text = SHEET.read_text()

    def cells(start: str) -> list[float]:
        line = next(line for line in text.splitlines() if line.startswith(start))
        return [100 * float(found) for found in re.findall(r"(?<!\d)\.\d{3}", line)]

    subsets = published("face", "audio", "text", "face-audio", "face-text", "audio-text")
    assert [scores.validation for scores in subsets] == pytest.approx(cells("| Macro |")[:6])
    alphas = [scores.test for scores in published("alpha-0", "alpha-0.5", "alpha-1")]
    zero, half, ours, one = cells("| alpha 0 /")
    assert alphas == pytest.approx([zero, half, one])
    assert ours == pytest.approx(69.0), "of which Table 6 prints 69.2"
    without, window_words = cells("| no conflict")
    table_6 = re.search(r"1/3/5 windows \.(\d+)/\.(\d+)/\.(\d+); single \.\d+; ensemble \.(\d+)", text)
    assert table_6 is not None
    *of_windows, ensemble, no_conflict = published("single", "windows-3", "windows-5", "ensemble", "no-conflict")
    assert [scores.test for scores in published("window-words")] == pytest.approx([window_words])
    assert [scores.test for scores in (*of_windows, ensemble)] == [int(x) / 10 for x in table_6.groups()]
    assert no_conflict.test == pytest.approx(without)
    assert ensemble.private == pytest.approx(cells("| Private 161")[-1])


@pytest.mark.parametrize("name", ROWS)
def test_the_page_prints_them(name: str) -> None:
    found = [vars(scores) for scores in published(name)]
    parts = [(split, of[split]) for of in found for split in ("validation", "test", "private")]
    shown = ", ".join(f"{split} {value:.1f}" for split, value in parts if value is not None)
    assert re.search(rf"^\| `conflict-aware/{re.escape(name)}` \|.*\| {re.escape(shown)} ?\|$", README, re.MULTILINE)


def test_each_row_is_the_checkpoint_but_for_what_it_is_about() -> None:
    base = row("single")
    assert base.encoders == find_recipe("conflict-aware/top-2").encoders
    assert base.fusion.seeds == SEEDS
    assert base.reports == "single"
    names = (
        "no-conflict",
        "feed-forward",
        "concat",
        "alpha-0",
        "alpha-0.5",
        "alpha-1",
        "windows-3",
        "windows-5",
        "face",
        "audio-text",
    )
    for name in (*names, "window-words", "whole-sound", "whole-words"):
        other = row(name)
        differing = {field.name for field in fields(Recipe) if getattr(base, field.name) != getattr(other, field.name)}
        of_rows = {
            "no": {"fusion"},
            "feed": {"fusion"},
            "concat": {"fusion"},
            "alpha": {"stages"},
            "windows": {"encoders"},
            "window": {"encoders"},
        }
        of_rows |= {"whole-sound": {"encoders"}, "whole-words": {"features"}}
        about = of_rows.get(name, of_rows.get(name.split("-")[0], {"fusion", "stages"}))
        assert differing - {"name", "description", "published"} <= about, name
        assert (differing & about) or name == "audio-text", name
    model = row("no-conflict").fusion.model
    assert isinstance(model, ConflictFusionConfig)
    assert not model.conflict
    forms = [row(name).fusion.model for name in ("single", "feed-forward", "concat")]
    assert [form.form for form in forms if isinstance(form, ConflictFusionConfig)] == [
        "tokens",
        "feed_forward",
        "concat",
    ]
    assert [blend(row(f"alpha-{alpha}")) for alpha in ("0", "0.5", "1")] == [
        {"text": 0.0},
        {"text": 0.5},
        {"text": 1.0},
    ]
    assert blend(base) == {"text": 0.6}
    assert windows(row("windows-5")) == {"face": 5, "audio": 5, "text": 1}


def test_rows_that_differ_after_the_training_alone_are_of_the_same_weights() -> None:
    for prefix in ("conflict-aware", "conflict-aware/demo"):
        rows = {name: find_recipe(f"{prefix}/{name}").with_seed(42) for name in ROWS}
        trainings = {name: (recipe.features, recipe.joint_training) for name, recipe in rows.items()}
        alike = [name for name, training in trainings.items() if training == trainings["single"]]
        assert alike == ["single", "windows-3", "windows-5", "ensemble", "alpha-chosen"]


def test_modalities_alone_have_the_head_of_the_words_only_where_there_are_words() -> None:
    for name in ("face", "audio", "text", "face-audio", "face-text", "audio-text"):
        recipe = row(name)
        assert set(recipe.views) == set(name.split("-"))
        assert blend(recipe) == ({"text": 0.6} if "text" in name else {})


def test_the_ensemble_is_both_checkpoints_with_five_windows() -> None:
    recipe = row("ensemble")
    (frozen,) = recipe.also
    assert frozen.encoders == row("frozen").encoders
    assert recipe.encoders == row("windows-5").encoders
    assert [run.name for run in recipe.runs] == ["conflict-aware/ensemble", "conflict-aware/frozen"]
    assert recipe.reports == "ensemble"


def test_the_threshold_is_chosen_where_the_public_code_looks_for_it() -> None:
    expected = np.arange(25, 75) / 100
    assert np.allclose(THRESHOLDS, expected, atol=1e-12)
    no = [np.asarray(value) >= ours for value, ours in zip(expected.tolist(), THRESHOLDS, strict=True)]
    assert not np.any(no), "what is at the threshold is not above it"
    assert {recipe.grids.thresholds for recipe in find_study("conflict-aware/all")} == {THRESHOLDS}
    chosen = [recipe.name for recipe in find_study("conflict-aware/all") if recipe.grids.weight_step]
    assert chosen == ["conflict-aware/alpha-chosen"]


def test_one_table_across_the_systems_asks_one_question() -> None:
    for demo in ("", "demo/"):
        found = find_study(f"{demo}all")
        assert {recipe.task.name for recipe in found} == {"ah-video"}
        systems = {recipe.name.split("/")[0] for recipe in found}
        assert systems == {"simple", "hsemotion", "conflict-aware", "leya"}
        assert all(("demo" in recipe.name) == bool(demo) for recipe in found)
    assert len(STUDIES["all"]) == len(STUDIES["demo/all"])

"""HSEmotion's recipes against the paper's numbers, as its fact sheet has them, and what each way of a row does."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import tyro

from twominds.encoders.points import PointEncoderConfig
from twominds.encoders.statistics import StatisticsEncoderConfig
from twominds.encoders.vector_classifier import VectorClassifierConfig
from twominds.errors import ConfigError
from twominds.pipelines.evaluate import EvaluateConfig
from twominds.pipelines.preprocess import PreprocessConfig
from twominds.recipes import hsemotion_emi
from twominds.recipes.catalog import RECIPES, STUDIES, find_recipe, find_study
from twominds.recipes.hsemotion import FACES
from twominds.recipes.stages import BlendViews, TrainViews
from twominds.scoring.decision import Overrule, Smooth
from twominds.scoring.post_processing import Grids
from twominds.tasks import MIMICRY

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "platform/twominds/recipes/HSEMOTION.md").read_text()
SHEET = ROOT.parent / "shared" / "hsemotion.md"
NAMES = [name for name in RECIPES if name.startswith("hsemotion/")]

_TEXTS = {"Rob": "roberta", "OAI": "openai", "Giga": "gigachat"}
_VIEWS = {**_TEXTS, "w2v": "wav2vec2", "HuB": "hubert", "MVT": "mvt", "MFN": "mfn"}


@pytest.fixture(scope="module")
def sheet() -> str:
    if not SHEET.exists():
        pytest.skip("the fact sheet is not here")
    return SHEET.read_text()


def test_every_row_has_three_ways_and_is_in_a_study() -> None:
    sizes = {"expr": 9, "emi": 39, "ah-video": 14, "ah-frame": 24}
    for table, size in sizes.items():
        for study in (f"hsemotion/{table}/all", f"hsemotion/{table}/all/faithful", f"hsemotion/demo/{table}/all"):
            assert len(STUDIES[study]) == size
            assert len({recipe.task for recipe in find_study(study)}) == 1
    assert len(NAMES) == 3 * sum(sizes.values())


@pytest.mark.parametrize("name", [name for name in NAMES if "/demo/" not in name and not name.endswith("/faithful")])
def test_every_row_is_on_the_page_with_its_number(name: str) -> None:
    published = find_recipe(name).published
    assert published is not None
    assert re.search(rf"^\| `{re.escape(name)}` .*\| {published.validation:.2f} \|$", PAGE, re.MULTILINE)


def test_the_page_names_no_other() -> None:
    named = set(re.findall(r"`(hsemotion/[^` ]*)`", PAGE))
    patterns = {"hsemotion/TABLE/ROW", "hsemotion/TABLE/ROW/faithful", "hsemotion/demo/TABLE/ROW"}
    assert patterns <= named
    assert {name for name in named - patterns if name not in RECIPES and name not in STUDIES} == set()


def emi_name(words: str) -> str:
    """What the fact sheet calls a row of Table 2, as the recipe's name."""
    named = {"SentenceBERT": "sentence-bert", "MiniLM": "minilm", "E5": "e5", "OAI": "openai", "Giga": "gigachat"}
    if words in named:
        return named[words]
    views, *told = words.split()
    names = [_VIEWS[view] for view in views.split("+")]
    if names[0] in FACES and len(names) == 1:
        what = {"emb": "features", "scores": "scores"}[told[0]]
        return f"{names[0]}-{what}-{told[1].lower()}"
    return "-".join([*names, *(word.lower() for word in told if word in ("mean", "STAT", "early"))])


def test_table_2_is_the_sheet_s(sheet: str) -> None:
    block = sheet.split("**T2 EMI val**")[1].split("```")[1]
    seen = 0
    for line in block.strip().splitlines():
        row, _, numbers = line.partition("|")
        *words, mean = row.split()
        words = [word for word in words if not word.startswith("(") and word != ".1)"]
        recipe = find_recipe(f"hsemotion/emi/{emi_name(' '.join(words))}")
        assert recipe.published is not None
        assert recipe.published.validation == int(mean) / 100
        seen += 1
        if numbers.startswith("same"):
            twin = find_recipe("hsemotion/emi/openai-mvt").published
            assert twin is not None
            assert recipe.published.others == twin.others
            continue
        others = [int(number) / 100 for number in re.split(r"[ |]+", numbers.strip())]
        assert recipe.published.others == pytest.approx(
            {f"pearson of {name}": value for name, value in zip(MIMICRY.names, others, strict=True)}, abs=0.011
        )
    assert seen == len(hsemotion_emi.ROWS)


def test_table_1_and_3_and_4_are_the_sheet_s(sheet: str) -> None:
    first = sheet.split("**T1 EXPR val (F1 / acc)**")[1].split("Cited")[0]
    for row in find_study("hsemotion/expr/all"):
        assert row.published is not None
        if row.name.endswith("b0-pretrained"):
            assert ".2574/.3256" in sheet
            continue
        assert f"{row.published.validation:.2f}/{row.published.others['accuracy']:.2f}" in first
    third = sheet.split("**T3 BAH video val**")[1].splitlines()[0]
    fourth = sheet.split("**T4 BAH frame val**")[1].split("Stored")[0]
    for table, printed in (("ah-video", third), ("ah-frame", fourth)):
        for row in find_study(f"hsemotion/{table}/all"):
            assert row.published is not None
            assert f"{row.published.validation:.2f}" in printed, row.name


def test_what_the_paper_prints_as_f1_of_videos_is_accuracy() -> None:
    for row in find_study("hsemotion/ah-video/all"):
        assert row.published is not None
        assert row.published.metric == "accuracy"
        assert row.published.validation is not None
        clips = row.published.validation / 100 * 127
        assert abs(clips - round(clips)) < 0.01


def test_mended_rows_choose_on_validation_and_faithful_ones_take_the_printed_values() -> None:
    mended, faithful = (find_recipe(f"hsemotion/ah-frame/all-blend{way}") for way in ("", "/faithful"))
    assert mended.grids.weight_step == 0.05
    assert (min(mended.grids.thresholds), mended.grids.thresholds[0]) == (0.2, 0.5)
    assert faithful.grids == Grids()
    assert faithful.decision.threshold == 0.3
    assert faithful.blend is not None
    assert dict(faithful.blend.weights) == {"face.mfn": 0.6, "audio.hubert": 0.15, "text.roberta": 0.25}
    assert faithful.chosen_by == "positive_f1"
    heard = {recipe.name: recipe.encoders["audio.hubert"] for recipe in (mended, faithful)}
    by = [one.by for one in heard.values() if isinstance(one, PointEncoderConfig)]
    assert by == ["time", "position"]
    assert (mended.media.detector, faithful.media.detector) == ("yolo", "corpus")


def test_smoothing_is_in_frames_as_published_and_in_seconds_mended() -> None:
    faithful = find_recipe("hsemotion/expr/b0-smooth-filter/faithful").decision
    assert faithful.step(Smooth) == Smooth(radius=50, unit="points")
    assert faithful.step(Overrule) == Overrule(member="face.b0_pretrained", confidence=0.7, never=(7,))
    mended = find_recipe("hsemotion/expr/b0-smooth-filter")
    assert mended.decision.step(Smooth).unit == "s"
    assert mended.grids.radii[4] == round(50 / 30, 3)
    assert mended.views == ("face.b0", "face.b0_pretrained"), "who only overrules is seen, but not blended"
    assert mended.fusion.views == ("face.b0",)


def test_the_sound_of_table_3_is_heard_by_half_as_published() -> None:
    shares: list[float] = []
    for name in ("hsemotion/ah-video/hubert", "hsemotion/ah-video/hubert/faithful"):
        encoder = find_recipe(name).encoders["audio.hubert"]
        assert isinstance(encoder, VectorClassifierConfig)
        assert (encoder.classifier, encoder.c, encoder.pooling) == ("rbf_svc", 1.1, "stat")
        shares.append(encoder.first_share)
    assert shares == [1.0, 0.48]


def test_emotions_are_weighed_as_the_public_code_has_it() -> None:
    weights = find_recipe("hsemotion/emi/roberta-mean").output_weights
    assert weights is not None
    assert [round(weight / sum(weights), 4) for weight in weights] == [0.4706, 0.0588, 0.1176, 0.2353, 0.0588, 0.0588]
    assert find_recipe("hsemotion/emi/hubert-mean/faithful").output_weights is None, "its linear heads had none"
    blend = find_recipe("hsemotion/emi/gigachat-mvt-hubert/faithful").blend
    assert blend is not None
    face, voice, words = blend.weights.values()
    assert face == (0.05, 0.05, 0.05, 0.0, 0.1, 0.1)
    assert voice == (0.75, 0.8, 0.65, 0.4, 0.6, 0.7)
    assert words == (0.2, 0.15, 0.3, 0.6, 0.3, 0.2)


def test_heads_are_linear_where_the_public_code_says_so() -> None:
    linear = find_recipe("hsemotion/emi/hubert-mean")
    encoder, fit = linear.encoders["audio.hubert"], linear.encoder_fits["audio.hubert"]
    assert isinstance(encoder, StatisticsEncoderConfig)
    assert (encoder.hidden_dim, fit.epochs, fit.min_epochs, fit.weight_decay) == (0, 100, 100, 2 / 512)
    mlp = find_recipe("hsemotion/emi/roberta-mean").encoders["text.roberta"]
    assert isinstance(mlp, StatisticsEncoderConfig)
    assert (mlp.hidden_dim, mlp.pooling, mlp.standardize) == (64, "mean", False)


def test_the_commands_of_the_page_are_read() -> None:
    """What the jobs make of them: tests/e2e/test_readme.py."""
    _, real, row = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (line,) = real.splitlines()
    assert len(find_study(tyro.cli(EvaluateConfig, args=shlex.split(line)[2:]).recipe)) == 9
    preprocessing, *jobs, serving = row.splitlines()
    assert find_recipe(tyro.cli(PreprocessConfig, args=shlex.split(preprocessing)[2:]).recipe).blend is not None
    assert jobs == [f"python jobs/{job}.py" for job in ("train_encoders", "embed", "tune_fusion")]
    assert serving == "serve run serve_configs/ah.yaml"


def test_what_is_fused_can_t_overrule() -> None:
    recipe = find_recipe("hsemotion/ah-frame/roberta-mfn-smooth-filter")
    rule = Overrule(member="text.roberta", when="negative")
    with pytest.raises(ConfigError, match=r"fuses text\.roberta"):
        replace(recipe, decision=recipe.decision.with_step(rule))
    with pytest.raises(ConfigError, match=r"The blend weighs face\.nobody"):
        replace(
            find_recipe("hsemotion/ah-frame/all-blend"), stages=(TrainViews(), BlendViews(weights={"face.nobody": 1.0}))
        )

"""The rows of LEYA's Table 1 are the paper's, held to the table as it is printed (where ../shared has the paper)."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from twominds.artifacts import to_json
from twominds.backbones import BACKBONES
from twominds.encoders.attended import AttendedEncoderConfig
from twominds.encoders.catalog import ENCODERS, encoders_from_json
from twominds.encoders.classical import ClassicalTextConfig
from twominds.encoders.rows import RowsEncoderConfig
from twominds.encoders.text import TextEncoderConfig
from twominds.encoders.vector_classifier import VectorClassifierConfig
from twominds.errors import ConfigError
from twominds.features.catalog import backbones_of, features_from_json
from twominds.features.words import WordsFeaturesConfig
from twominds.fusion.catalog import build_fusion
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.recipes import leya_table
from twominds.recipes.catalog import RECIPES, STUDIES, find_recipe, find_study
from twominds.recipes.leya import leya, leya_demo
from twominds.recipes.recipe import PublishedScores, Recipe
from twominds.recipes.space import Candidate, Choice, Dimension, Value, check_candidate
from twominds.records import Modality, View

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "platform" / "twominds" / "recipes" / "README.md").read_text().partition("\n## A whole table")[0]
ROWS = range(1, 25)
SCENE, FACE, AUDIO, TEXT = Modality

NAMES = {
    "text.emotion_distilroberta": "EmotionDistilRoBERTa",
    "text.emotion_text_classifier": "EmotionTextClassifier",
    "logistic_regression": "Logistic Regression",
    "catboost": "CatBoost",
}
"""The paper's words for roles and classifiers."""


def text_system(recipe: Recipe) -> tuple[str, str]:
    """Features and classifier in the paper's words."""
    encoder = recipe.encoders["text"]
    if isinstance(encoder, ClassicalTextConfig):
        assert isinstance(recipe.features["text"], WordsFeaturesConfig)
        assert encoder.representation == "tfidf"
        return "TF-IDF", NAMES[encoder.classifier]
    assert isinstance(encoder, TextEncoderConfig)
    return f"Fine-tuned {NAMES[encoder.backbone]}", "MLP"


def has_prototypes(recipe: Recipe) -> bool:
    """Whether the fusion has the head; then its loss counts too."""
    model, loss = recipe.fusion.model, recipe.fusion.loss
    assert isinstance(model, TransformerFusionConfig)
    assert (model.prototypes_per_class > 0) == (loss.prototype_weight > 0)
    return model.prototypes_per_class > 0


@pytest.fixture(scope="module")
def printed() -> dict[int, list[str]]:
    """The cells of Table 1 by ID: modality, features, classifier, validation, test, average, final test."""
    papers = list((ROOT.parent / "shared" / "papers").glob("000_*.txt"))
    if not papers:
        pytest.skip("no ../shared/papers beside this checkout")
    lines = re.findall(r"^\| (\d+) \|(.*)\|$", papers[0].read_text(), re.MULTILINE)
    return {int(number): [cell.strip() for cell in cells.split("|")] for number, cells in lines}


def test_the_paper_prints_24_rows(printed: dict[int, list[str]]) -> None:
    assert list(printed) == list(ROWS)


@pytest.mark.parametrize("number", ROWS)
def test_a_row_is_what_the_paper_prints(number: int, printed: dict[int, list[str]]) -> None:
    recipe = find_recipe(f"leya/{number:02}")
    view, features, classifier, *_ = printed[number]
    ids = [int(model) for model in re.findall(r"\d+", view)] or [number]
    looked_at = {Modality(printed[model][0].lower()) for model in ids}
    assert recipe.views == tuple(m for m in (SCENE, FACE, AUDIO, TEXT) if m in looked_at)
    if TEXT in looked_at:
        assert text_system(recipe) == tuple(printed[ids[-1]][1:3])
    if number <= 7:
        assert recipe.reports == "encoder"
        assert recipe.description == f"{features}, {classifier}"
    else:
        assert recipe.reports == ("ensemble" if "Ensemble" in features else "single")
        assert has_prototypes(recipe) == ("Prototype" in features)
        assert recipe.description == f"models {', '.join(map(str, ids))}: {features}"
    assert recipe.source.endswith(f"Table 1, row {number}")


@pytest.mark.parametrize("number", ROWS)
def test_the_scores_are_those_that_the_paper_prints(number: int, printed: dict[int, list[str]]) -> None:
    published = find_recipe(f"leya/{number:02}").published
    assert published is not None
    assert published.validation is not None
    assert published.test is not None
    *_, validation, test, average, private = printed[number]
    assert (f"{published.validation:.2f}", f"{published.test:.2f}") == (validation, test)
    assert (published.validation + published.test) / 2 == pytest.approx(float(average), abs=0.0051)  # it is rounded
    assert published.private == (None if private == "-" else float(private))
    shown = f"{validation} / {test} / {average}" + ("" if private == "-" else f" / {private}")
    assert re.search(rf"^\| `leya/{number:02}` .*\| {re.escape(shown)} \|$", README, re.MULTILINE), "in the README"


@pytest.mark.parametrize(
    ("number", "views", "text", "prototypes", "reports", "published"),
    [
        (1, (FACE,), None, False, "encoder", (65.29, 60.05, None)),
        (5, (TEXT,), ("TF-IDF", "CatBoost"), False, "encoder", (65.56, 72.02, None)),
        (8, tuple(Modality), ("TF-IDF", "Logistic Regression"), False, "single", (80.79, 77.03, None)),
        (12, tuple(Modality), ("Fine-tuned EmotionDistilRoBERTa", "MLP"), True, "single", (83.79, 82.72, 65.21)),
        (13, tuple(Modality), ("Fine-tuned EmotionDistilRoBERTa", "MLP"), False, "ensemble", (81.94, 80.64, 70.17)),
        (20, (SCENE, TEXT), ("Fine-tuned EmotionDistilRoBERTa", "MLP"), False, "single", (81.77, 79.00, None)),
    ],
)
def test_some_rows_copied_by_hand(
    number: int,
    views: tuple[View, ...],
    text: tuple[str, str] | None,
    prototypes: bool,
    reports: str,
    published: tuple[float, float, float | None],
) -> None:
    recipe = find_recipe(f"leya/{number:02}")
    assert (recipe.views, recipe.reports) == (views, reports)
    assert text is None or text_system(recipe) == text
    assert reports == "encoder" or has_prototypes(recipe) == prototypes
    validation, test, private = published
    assert recipe.published is not None
    assert "the mean of validation and public test" in recipe.published.how
    assert replace(recipe.published, how="") == PublishedScores(validation=validation, test=test, private=private)


def test_row_14_is_leya_itself() -> None:
    row, names = find_recipe("leya/14"), ("name", "description", "source", "published")
    assert replace(row, **{name: getattr(leya(), name) for name in names}) == leya()


def test_single_and_ensemble_rows_share_their_models() -> None:
    for single, ensemble in (("leya/11", "leya/13"), ("leya/12", "leya/14")):
        assert find_recipe(single).fusion == find_recipe(ensemble).fusion


def test_rows_of_the_demo_are_parts_of_the_demo() -> None:
    """But for the text of the rows that are about another text system."""
    demo = leya_demo()
    for recipe in find_study("leya/demo/all"):
        others = (
            {**recipe.encoders, "text": demo.encoders["text"]},
            {**recipe.features, "text": demo.features["text"]},
        )
        assert others == (demo.encoders, demo.features)
        assert (recipe.media, recipe.encoder_fits, recipe.fusion.fit) == (
            demo.media,
            demo.encoder_fits,
            demo.fusion.fit,
        )
    encoder = find_recipe("leya/demo/06").encoders["text"]
    assert isinstance(encoder, TextEncoderConfig)
    assert (encoder.backbone, encoder.dropout) == ("text.emotion_text_classifier", 0.3)


def test_over_pooled_features_no_row_has_an_encoder_in_its_path() -> None:
    rows = find_study("leya/demo-pooled/all")
    assert {recipe.fusion.inputs for recipe in rows} == {"pooled"}
    assert {recipe.reports for recipe in rows} == {"single", "ensemble"}
    assert [recipe.published for recipe in rows] == [None] * len(rows)
    looked_at = [recipe.views for recipe in rows]
    # Every set of modalities, once: and all four with and without prototypes, alone and as an ensemble.
    assert [m for m in looked_at if looked_at.count(m) > 1] == [tuple(Modality)] * 4
    assert len(set(looked_at)) == 2**4 - 1
    # A modality alone keeps more than the one direction that `interaction` would leave it.
    alone = [recipe.fusion.model.standardize for recipe in rows if len(recipe.views) == 1]
    assert alone == ["pca"] * 4


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_whole(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    for view in recipe.views:
        encoder = recipe.encoders[view]
        encoder_class = ENCODERS[type(encoder)]
        of_any_rows = isinstance(encoder, RowsEncoderConfig | VectorClassifierConfig | AttendedEncoderConfig)
        assert of_any_rows or encoder_class.modality == view
        role: str = getattr(encoder, "backbone", "")
        assert {role, *recipe.frozen_roles([view])} - {""} <= BACKBONES.keys()
        if view == TEXT and role:
            assert backbones_of(recipe.features[TEXT]) == (role,), "the tokens must be those of the encoder"
    assert encoders_from_json(json.loads(json.dumps(to_json(recipe.encoders)))) == recipe.encoders
    assert features_from_json(json.loads(json.dumps(to_json(recipe.features)))) == recipe.features


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_can_be_searched(name: str) -> None:
    """Its own point is in its space and comes first (a whole system may begin elsewhere); other points build too."""
    fusion = find_recipe(name).fusion
    points: list[Candidate] = [dict(point) for point in fusion.first_points]
    points += [{key: end(dimension, last) for key, dimension in fusion.space.items()} for last in (0, -1)]
    for point in points:
        check_candidate(point, fusion.space)
        assert fusion.with_candidate(point).views == fusion.views
    if name != "leya-pooled" and name != "leya/demo-pooled":
        assert fusion.with_candidate(points[0]) == fusion


def end(dimension: Dimension, last: int) -> Value:
    """The first (0) or the last (-1) value of a dimension."""
    values: Sequence[Value] = dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)
    return values[last]


def test_without_prototypes_none_is_searched_for() -> None:
    assert {name for name in leya().fusion.space if "prototype" in name or "diversity" in name} == (
        leya().fusion.space.keys() - find_recipe("leya/11").fusion.space.keys()
    )
    assert find_recipe("leya/12").fusion.space == leya().fusion.space


def test_the_selected_model_has_the_parameters_that_are_stated() -> None:
    """d = 128, 6 layers, feed-forward x 6, 16 prototypes per class, counted from the equations of section 3.5."""
    dims: dict[View, int] = {SCENE: 768, FACE: 256, AUDIO: 128, TEXT: 128}
    d = 128
    projectors = sum(dim * d + d + 2 * d for dim in dims.values())  # Linear, LayerNorm (eq. 4)
    attention = 4 * (d * d + d)  # query, key, value, output
    feed_forward = (d * 6 * d + 6 * d) + (6 * d * d + d)
    layer = attention + feed_forward + 2 * 2 * d  # and two LayerNorms
    last_norm, classifier, prototypes = 2 * d, d * 2 + 2, 2 * 16 * d
    expected = projectors + len(dims) * d + 6 * layer + last_norm + classifier + prototypes
    for name, total in (("leya/12", expected), ("leya/11", expected - prototypes)):
        model = build_fusion(find_recipe(name).fusion.model, dims=dims, num_outputs=2)
        assert sum(parameter.numel() for parameter in model.parameters()) == total
    assert f"{expected:,} parameters" in str(leya_table.__doc__)
    assert f"{expected:,} parameters" in README


def test_studies_list_what_they_should() -> None:
    assert STUDIES["leya/all"] == tuple(f"leya/{number:02}" for number in ROWS)
    assert STUDIES["leya/demo/all"] == tuple(f"leya/demo/{number:02}" for number in ROWS)
    assert STUDIES["leya/demo/alternatives"] == tuple(
        name.replace("leya/", "leya/demo/") for name in STUDIES["leya/alternatives"]
    )
    pooled = [1, 2, 3, 7, *range(11, 25)]
    assert STUDIES["leya-pooled/all"] == tuple(f"leya-pooled/{number:02}" for number in pooled)
    assert STUDIES["leya/demo-pooled/all"] == tuple(f"leya/demo-pooled/{number:02}" for number in pooled)
    for study, names in STUDIES.items():
        assert [recipe.name for recipe in find_study(study)] == list(names)


def test_a_study_can_be_one_recipe_and_an_unknown_one_is_told_briefly() -> None:
    assert [recipe.name for recipe in find_study("leya/07")] == ["leya/07"]
    for find in (find_recipe, find_study):
        with pytest.raises(ConfigError, match=r"'leya/25'.*leya/01 to leya/24.*leya/demo/all") as caught:
            find("leya/25")
        assert len(str(caught.value)) < 500
    with pytest.raises(ConfigError, match="study of 24 recipes"):
        find_recipe("leya/all")


def test_the_readme_names_every_recipe_and_study_and_no_other() -> None:
    named = set(re.findall(r"`((?:leya|simple|conflict-aware|all|demo)/?[^` ]*)`", README))
    derived = re.compile(r"(leya-pooled|(leya|conflict-aware)/demo|leya/demo-pooled)/(?!all$|alternatives$|over-leya$)")
    own = {name for name in (*RECIPES, *STUDIES) if not derived.match(name) and not name.startswith("hsemotion/")}
    assert own - named == set()
    patterns = {"leya-pooled/NN", "leya/demo/NN", "leya/demo/NAME", "leya/demo-pooled/NN", "conflict-aware/demo/ROW"}
    assert patterns <= named
    assert {name for name in named - patterns if name not in RECIPES and name not in STUDIES} == set()

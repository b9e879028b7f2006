"""HSEmotion's Table 3: A/H per video of BAH, classical classifiers over statistics of a clip.

What the paper prints as F1 is accuracy: every number is n of 127 clips. Its words say logistic regression, its code has
an RBF SVC; `mended` and `faithful` are the code's, and `NAME-logistic` is the words'.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from twominds.encoders.vector_classifier import VectorClassifierConfig
from twominds.features.catalog import AnyFeaturesConfig
from twominds.features.given import GivenVectorsConfig
from twominds.features.sentence import SentenceFeaturesConfig
from twominds.recipes.hsemotion import (
    CHOSEN_ON_WHAT_IS_PRINTED,
    FACES,
    SOUNDS,
    Part,
    Way,
    What,
    blended,
    ending,
    head_fit,
    row_recipe,
    sound,
    told,
    view_of,
)
from twominds.recipes.hsemotion_ah_frame import face_track, words
from twominds.recipes.recipe import EncoderSearch, PublishedScores, Recipe
from twominds.recipes.space import Choice
from twominds.recipes.stages import BlendViews
from twominds.records import View
from twominds.tasks import AH_VIDEO

HEARD_SHARE = 0.48
"""Of each clip's sound, as published: rows of 50 a second were counted off by frames of 24 a second."""

COSTS = tuple(round(0.1 * i, 1) for i in range(1, 41))
"""Values of C that were swept."""

_HOW = (
    f"{CHOSEN_ON_WHAT_IS_PRINTED} What the paper calls F1 is accuracy: each number is n of 127 clips. Its words say "
    "logistic regression, its public code has an RBF SVC."
)
PUBLISHED: Mapping[str, float] = {
    "mfn-scores": 65.35,
    "mfn-features": 64.57,
    "wav2vec2": 68.50,
    "hubert": 69.29,
    "openai": 70.08,
    "gigachat": 73.23,
    "roberta": 77.16,
}
"""Table 3: accuracy on validation, in percent."""

Classifier = Literal["rbf_svc", "logistic_regression"]


@dataclass(frozen=True, kw_only=True)
class _Row:
    part: str
    classifier: Classifier


ROWS: Mapping[str, _Row] = {
    **{name: _Row(part=name, classifier="rbf_svc") for name in PUBLISHED},
    **{f"{name}-logistic": _Row(part=name, classifier="logistic_regression") for name in PUBLISHED},
}
"""By name: the classifier of the code, and that of the paper's words."""


def video_row(name: str, way: Way = "mended") -> Recipe:
    """A row of Table 3."""
    row = ROWS[name]
    view, part = _part(row, way)
    return row_recipe(
        "ah-video",
        name,
        way,
        number=3,
        description=_described(row, way),
        task=AH_VIDEO,
        parts={view: part},
        fusion=blended([view]),
        last=BlendViews(),
        published=PublishedScores(validation=PUBLISHED[row.part], metric="accuracy", how=_HOW),
        searches={view: EncoderSearch(space={"c": Choice(values=COSTS)}, sampler="grid", trials=len(COSTS))},
    )


def _part(row: _Row, way: Way) -> tuple[View, Part]:
    name, _, what = row.part.partition("-")
    settings = head_fit(way, epochs=1, batch_size=512, learning_rate=1e-3)

    def classifier(
        *, pooling: Literal["mean", "stat"], columns: tuple[int | None, int | None] = (None, None), share: float = 1.0
    ) -> VectorClassifierConfig:
        return VectorClassifierConfig(
            pooling=pooling,
            columns=columns,
            first_share=share,
            normalize="standardize" if way == "demo" else "none",
            classifier=row.classifier,
            c=1.1,
            balanced=True,
        )

    if name in FACES:
        shown: What = "scores" if what == "scores" else "features"
        encoder = classifier(pooling="stat", columns=FACES[name].columns(shown))
        return view_of(name), Part(features=face_track(name, way), encoder=encoder, fit=settings)
    if name in SOUNDS:
        encoder = classifier(pooling="stat", share=HEARD_SHARE if way == "faithful" else 1.0)
        return view_of(name), Part(features=sound(name), encoder=encoder, fit=settings)
    return view_of(name), Part(features=_text(name, way), encoder=classifier(pooling="mean"), fit=settings)


def _text(name: str, way: Way) -> AnyFeaturesConfig:
    if name == "roberta":
        return words(way, timed=False)
    return SentenceFeaturesConfig(backbone="text.all_minilm") if way == "demo" else GivenVectorsConfig(name=name)


def _described(row: _Row, way: Way) -> str:
    by = {"rbf_svc": "RBF SVC", "logistic_regression": "logistic regression"}[row.classifier]
    heard = f", of sound the first {HEARD_SHARE:.0%}" if row.part in SOUNDS else ""
    way_of = ending(way, f", on the corpus's crops{heard}")
    return f"A/H per video: {told(row.part)}, {by}{way_of}"

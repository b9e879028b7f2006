"""LEYA's Table 1: its 24 rows, each a recipe derived from the system they are rows of.

Rows 1 to 7 are one encoder each, rows 8 to 24 fuse some of them: `leya/01` to `leya/24` of `leya`, `leya/demo/01` and
so on of the demo. Rows share what they have in common, so a table trains each encoder once, and the models of row 12
(the mean over five seeds) are those of row 14 (their ensemble). Over the published encoders' embeddings, 768 + 256 +
128 + 128 numbers, the selected fusion model has 1,754,882 parameters, 4,096 of them in its prototypes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from twominds.encoders.classical import ClassicalTextConfig
from twominds.encoders.text import TextEncoderConfig
from twominds.features.text import TextFeaturesConfig
from twominds.features.words import WordsFeaturesConfig
from twominds.recipes.leya import SOURCE
from twominds.recipes.leya_searches import text_search
from twominds.recipes.recipe import FusionRecipe, PublishedScores, Recipe, Reports
from twominds.records import Modality, View


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A row as the paper prints it."""

    models: tuple[int, ...]
    """IDs of the unimodal rows that it is made of; a unimodal row is made of itself."""
    what: str
    """The paper's words for features and classifier."""
    published: PublishedScores
    """The scores that the paper prints for it."""
    reports: Reports = "single"
    """Whether they are of an encoder, of single fusion models or of their ensemble."""
    prototypes: bool = False
    """Whether the fusion has the prototype head."""

    @property
    def views(self) -> tuple[View, ...]:
        """What it looks at, in the order of the tokens."""
        seen = {_MODALITIES[model] for model in self.models}
        return tuple(view for view in Modality if view in seen)


def _encoder(model: int, what: str, validation: float, test: float) -> PaperRow:
    published = PublishedScores(validation=validation, test=test, how=_HOW)
    return PaperRow(models=(model,), what=what, published=published, reports="encoder")


def _fusion(*models: int, validation: float, test: float, private: float | None = None) -> PaperRow:
    published = PublishedScores(validation=validation, test=test, private=private, how=_HOW)
    return PaperRow(models=models, what=_FUSION, published=published)


_HOW = (
    "The paper ranks its systems by the mean of validation and public test, and its public code stops and selects on "
    "that mean: the test split chose among its checkpoints, so its test scores are optimistic. Here the mean is shown "
    "to compare with, and selects nothing unless a row says so. The paper's mean is taken of its printed numbers, and "
    "may differ from its own by 0.01."
)
_FUSION = "Multimodal Fusion Model"
_ENSEMBLE = "Ensemble of Five Multimodal Fusion Models"
_PROTOTYPES = "with Prototype Head"
_MODALITIES = {1: Modality.FACE, 2: Modality.SCENE, 3: Modality.AUDIO} | dict.fromkeys((4, 5, 6, 7), Modality.TEXT)

ROWS: dict[int, PaperRow] = {
    1: _encoder(1, "EmotionEfficientNetB0 + Statistical Features, MLP", 65.29, 60.05),
    2: _encoder(2, "VideoMAE, Linear Layer", 61.71, 62.21),
    3: _encoder(3, "EmotionWav2Vec2.0 + Mamba, Linear Layer", 67.20, 70.87),
    4: _encoder(4, "TF-IDF, Logistic Regression", 68.30, 67.75),
    5: _encoder(5, "TF-IDF, CatBoost", 65.56, 72.02),
    6: _encoder(6, "Fine-tuned EmotionTextClassifier, MLP", 69.28, 70.72),
    7: _encoder(7, "Fine-tuned EmotionDistilRoBERTa, MLP", 68.54, 71.49),
    8: _fusion(1, 2, 3, 4, validation=80.79, test=77.03),
    9: _fusion(1, 2, 3, 5, validation=77.91, test=78.54),
    10: _fusion(1, 2, 3, 6, validation=78.35, test=77.03),
    11: _fusion(1, 2, 3, 7, validation=85.38, test=79.94, private=68.32),
    12: replace(
        _fusion(1, 2, 3, 7, validation=83.79, test=82.72, private=65.21),
        what=f"{_FUSION} {_PROTOTYPES}",
        prototypes=True,
    ),
    13: replace(
        _fusion(1, 2, 3, 7, validation=81.94, test=80.64, private=70.17),
        what=_ENSEMBLE,
        reports="ensemble",
    ),
    14: replace(
        _fusion(1, 2, 3, 7, validation=83.00, test=80.77, private=71.43),
        what=f"{_ENSEMBLE} {_PROTOTYPES}",
        reports="ensemble",
        prototypes=True,
    ),
    15: _fusion(1, 3, validation=63.36, test=71.44),
    16: _fusion(1, 7, validation=65.29, test=61.19),
    17: _fusion(1, 2, validation=78.07, test=77.09),
    18: _fusion(3, 7, validation=67.05, test=70.99),
    19: _fusion(2, 3, validation=77.37, test=77.66),
    20: _fusion(2, 7, validation=81.77, test=79.00),
    21: _fusion(2, 3, 7, validation=79.89, test=77.63),
    22: _fusion(1, 2, 7, validation=79.89, test=77.65),
    23: _fusion(1, 2, 3, validation=76.10, test=79.15),
    24: _fusion(1, 3, 7, validation=68.08, test=70.41),
}
"""Table 1; from 15 on its ablation study."""

POOLED_ROWS: tuple[int, ...] = tuple(number for number, row in ROWS.items() if {4, 5, 6}.isdisjoint(row.models))
"""Those that make sense where the fusion takes pooled features: no row on another text system than the base's own."""


def table_row(base: Recipe, number: int) -> Recipe:
    """A row of `base`, named after it; of `leya()`, whose row 14 is that recipe itself, it is the paper's.

    Row 7 and what is made of it have the text encoder of `base`. Where the fusion of `base` takes pooled frozen
    features, no trained encoder is in the path, and a unimodal row is the fusion over its one modality: labels that no
    such row can tell, and a pair can, lie in the disagreement of the two.

    Args:
        base: A whole system over all four modalities.
        number: 1 to 24; over pooled features one of `POOLED_ROWS`.
    """
    row, pooled = ROWS[number], base.fusion.inputs == "pooled"
    recipe = _TEXT_SYSTEMS.get(row.models[-1], _as_it_is)(base)
    # A row is one configuration: what a search would try first.
    fusion = base.fusion.with_candidate(dict(base.fusion.first_points[0]))
    fusion = replace(fusion if row.prototypes else without_prototypes(fusion), views=row.views)
    recipe = replace(
        recipe,
        name=f"{base.name}/{number:02}",
        description=_description(row, base),
        source=f"{SOURCE}, Table 1, row {number}",
        fusion=fusion,
        reports=row.reports,
        published=row.published,
    )
    return _over_pooled_features(recipe) if pooled else recipe


def _description(row: PaperRow, base: Recipe) -> str:
    made_of = f"models {', '.join(str(model) for model in row.models)}: "
    return f"{'' if row.reports == 'encoder' else made_of}{row.what}{'' if base.name == 'leya' else f' ({base.name})'}"


def _over_pooled_features(recipe: Recipe) -> Recipe:
    """The row where no trained encoder is in the path."""
    recipe = replace(recipe, source=f"ours, after {recipe.source}", published=None)
    if recipe.reports != "encoder":
        return recipe
    # `interaction` leaves a modality without partners one number: too little to say that it can't tell.
    fusion = recipe.fusion.with_candidate({"standardize": "pca"})
    description = f"the same fusion over the pooled {recipe.views[0]} features alone"
    return replace(recipe, description=description, fusion=fusion, reports="single")


def searching_without(fusion: FusionRecipe, *names: str) -> FusionRecipe:
    """The same fusion, searched in fewer dimensions."""
    return replace(
        fusion,
        space={name: dimension for name, dimension in fusion.space.items() if name not in names},
        first_points=tuple(
            {name: value for name, value in point.items() if name not in names} for point in fusion.first_points
        ),
    )


def without_prototypes(fusion: FusionRecipe) -> FusionRecipe:
    """The same fusion without the prototype head."""
    fusion = fusion.with_candidate({"prototypes_per_class": 0, "prototype_weight": 0.0, "diversity_weight": 0.0})
    return searching_without(
        fusion, "prototypes_per_class", "prototype_temperature", "prototype_weight", "diversity_weight"
    )


def with_text(
    base: Recipe,
    features: TextFeaturesConfig | WordsFeaturesConfig,
    encoder: TextEncoderConfig | ClassicalTextConfig,
) -> Recipe:
    """`base` with another text system."""
    return replace(
        base,
        features={**base.features, "text": features},
        encoders={**base.encoders, "text": encoder},
        encoder_searches={**base.encoder_searches, Modality.TEXT: text_search(encoder)},
    )


def _emotion_text_classifier(base: Recipe) -> Recipe:
    role = "text.emotion_text_classifier"
    features, encoder = base.features["text"], base.encoders["text"]
    if not isinstance(features, TextFeaturesConfig) or not isinstance(encoder, TextEncoderConfig):
        raise TypeError(f"{base.name} has no text encoder to put another language model into")
    return with_text(base, replace(features, backbone=role), replace(encoder, backbone=role))


def _as_it_is(base: Recipe) -> Recipe:
    return base


_TEXT_SYSTEMS: dict[int, Callable[[Recipe], Recipe]] = {
    4: lambda base: with_text(base, WordsFeaturesConfig(), ClassicalTextConfig(classifier="logistic_regression")),
    5: lambda base: with_text(base, WordsFeaturesConfig(), ClassicalTextConfig(classifier="catboost")),
    6: _emotion_text_classifier,
}
"""By the ID of the unimodal row; the base's own in all others."""

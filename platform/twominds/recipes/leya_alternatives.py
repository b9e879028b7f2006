"""What LEYA tried (sections 3 and 4.2) without a row of Table 1, as recipes beside those rows.

Alternatives to an encoder are that encoder alone, as rows 1 to 7. Alternatives in the fusion report the mean of single
models, to be compared with the row that they vary: 11, or with the prototype head 12 (whose inputs are the fourth kind,
`emb`). The paper names these systems without their settings, which are those of the row, or ours.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Literal

from twominds.encoders.classical import ClassicalTextConfig
from twominds.encoders.face_frames import FaceFramesEncoderConfig
from twominds.encoders.temporal import TemporalKind
from twominds.features.face_frames import FaceFramesFeaturesConfig
from twominds.features.text import TextFeaturesConfig
from twominds.features.words import WordsFeaturesConfig
from twominds.fusion.batch import InputKind
from twominds.fusion.simple import AttentionSumConfig, ClassWeightedConfig, ConcatMLPConfig
from twominds.recipes.leya import SOURCE
from twominds.recipes.leya_table import searching_without, table_row, with_text
from twominds.recipes.recipe import Recipe
from twominds.records import Modality

Alternative = Callable[[Recipe], Recipe]

FACE_ROW, AUDIO_ROW, TEXT_ROW, FUSION_ROW, PROTOTYPE_ROW = 1, 3, 7, 11, 12
"""Rows of Table 1 that an alternative stands beside."""

FROZEN_TEXT = {
    "emotion-distilroberta": ("text.emotion_distilroberta", "EmotionDistilRoBERTa"),
    "all-minilm": ("text.all_minilm", "allMiniLM"),
    "emotion-text-classifier": ("text.emotion_text_classifier", "EmotionTextClassifier"),
    "deberta": ("text.deberta_base", "DeBERTa"),
}
"""Language models of section 3.4 by their name here: role, and name in the paper."""

AUDIO_LAYERS = (6, 8, 9, 11)
"""Hidden states tried besides the tenth. The published model has twelve layers, and what the last one puts out is
normalised unlike the rest."""


def _tfidf_lightgbm(base: Recipe) -> Recipe:
    recipe = with_text(base, WordsFeaturesConfig(), ClassicalTextConfig(classifier="lightgbm"))
    return replace(table_row(recipe, TEXT_ROW), description="TF-IDF, LightGBM")


def _frozen_text(
    base: Recipe, *, model: str, representation: Literal["cls", "mean"], classifier: Literal["lightgbm", "catboost"]
) -> Recipe:
    role, name = FROZEN_TEXT[model]
    config = ClassicalTextConfig(representation=representation, backbone=role, classifier=classifier)
    recipe = with_text(base, TextFeaturesConfig(backbone=role), config)
    taken = {"cls": "[CLS]", "mean": "mean"}[representation]
    trees = {"lightgbm": "LightGBM", "catboost": "CatBoost"}[classifier]
    return replace(table_row(recipe, TEXT_ROW), description=f"frozen {name}, {taken}, {trees}")


def _face_frames(base: Recipe, *, backbone: str, name: str, temporal: TemporalKind) -> Recipe:
    recipe = replace(
        base,
        features={**base.features, "face": FaceFramesFeaturesConfig(backbone=backbone)},
        encoders={**base.encoders, "face": FaceFramesEncoderConfig(temporal=temporal)},
        # The audio's kind of model, so trained as that is.
        encoder_fits={**base.encoder_fits, "face": base.encoder_fits["audio"]},
        encoder_searches={m: search for m, search in base.encoder_searches.items() if m != Modality.FACE},
    )
    return replace(table_row(recipe, FACE_ROW), description=f"{name} per frame + {temporal.title()}, Linear Layer")


def _audio_transformer(base: Recipe) -> Recipe:
    audio = replace(base.encoders["audio"], temporal="transformer")
    recipe = replace(base, encoders={**base.encoders, "audio": audio})
    return replace(table_row(recipe, AUDIO_ROW), description="EmotionWav2Vec2.0 + Transformer, Linear Layer")


def _audio_layer(base: Recipe, *, layer: int) -> Recipe:
    audio = replace(base.features["audio"], hidden_state=layer)
    recipe = replace(base, features={**base.features, "audio": audio})
    description = f"EmotionWav2Vec2.0, layer {layer}, + Mamba, Linear Layer"
    return replace(table_row(recipe, AUDIO_ROW), description=description)


def _fuser(
    base: Recipe, *, model: AttentionSumConfig | ConcatMLPConfig | ClassWeightedConfig, inputs: InputKind, what: str
) -> Recipe:
    row = table_row(base, FUSION_ROW)
    without_effect = {"hidden_dim", "dropout"} if isinstance(model, ClassWeightedConfig) else set[str]()
    settings = {setting.name for setting in (*fields(model), *fields(row.fusion.fit))} - without_effect
    fusion = searching_without(row.fusion, *(row.fusion.space.keys() - settings))
    return replace(row, fusion=replace(fusion, model=model, inputs=inputs), description=f"row {FUSION_ROW} with {what}")


def _inputs(base: Recipe, *, inputs: InputKind, what: str) -> Recipe:
    row = table_row(base, PROTOTYPE_ROW)
    return replace(row, fusion=replace(row.fusion, inputs=inputs), description=f"row {PROTOTYPE_ROW} on {what}")


def _cls(base: Recipe) -> Recipe:
    row = table_row(base, PROTOTYPE_ROW)
    fusion = searching_without(row.fusion.with_candidate({"use_cls": True}), "use_cls")
    return replace(row, fusion=fusion, description=f"row {PROTOTYPE_ROW} with a [CLS] token instead of the mean")


ALTERNATIVES: dict[str, Alternative] = {
    "face-vit-transformer": partial(_face_frames, backbone="face.vit_base", name="ViT", temporal="transformer"),
    "face-vit-mamba": partial(_face_frames, backbone="face.vit_base", name="ViT", temporal="mamba"),
    "face-clip-transformer": partial(_face_frames, backbone="face.clip_vit_b32", name="CLIP", temporal="transformer"),
    "face-clip-mamba": partial(_face_frames, backbone="face.clip_vit_b32", name="CLIP", temporal="mamba"),
    "audio-transformer": _audio_transformer,
    **{f"audio-layer-{layer}": partial(_audio_layer, layer=layer) for layer in AUDIO_LAYERS},
    "text-tfidf-lightgbm": _tfidf_lightgbm,
    **{
        f"text-{model}-{representation}-{classifier}": partial(
            _frozen_text, model=model, representation=representation, classifier=classifier
        )
        for model in FROZEN_TEXT
        for representation in ("cls", "mean")
        for classifier in ("lightgbm", "catboost")
    },
    "fusion-attention": partial(
        _fuser, model=AttentionSumConfig(), inputs="emb", what="an attention-weighted sum of the tokens"
    ),
    "fusion-concat": partial(_fuser, model=ConcatMLPConfig(), inputs="emb", what="an MLP over the tokens side by side"),
    "fusion-class-weighted": partial(
        _fuser, model=ClassWeightedConfig(), inputs="logits", what="a class-weighted sum of the encoders' logits"
    ),
    "fusion-cls": _cls,
    "inputs-prob": partial(_inputs, inputs="prob", what="the encoders' probabilities"),
    "inputs-logits": partial(_inputs, inputs="logits", what="the encoders' logits"),
    "inputs-emb-prob": partial(_inputs, inputs="emb+prob", what="embeddings and probabilities side by side"),
}
"""By the last part of their names."""


def alternative(base: Recipe, name: str) -> Recipe:
    """An alternative to a part of `base`, named after it; nothing is published of it."""
    return replace(
        ALTERNATIVES[name](base), name=f"{base.name}/{name}", source=f"{SOURCE}, sections 3 and 4.2", published=None
    )

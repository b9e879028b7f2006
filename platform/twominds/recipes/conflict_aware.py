"""ConflictAwareAH: three backbones and a conflict-aware fusion in one model; and that fusion over other encoders.

`conflict-aware` is checkpoint B (frozen backbones, label smoothing), `conflict-aware/top-2` checkpoint A (the last two
layers of each learn), both with the text's own head blended in. Numbers are those of the paper, of its model card, and
of a declared fork of its code. Where they differ: the fork's six tokens as the fusion (its size is that of the paper's
model), its 0.6 for the text's head, its sound of the frames that are seen and 128 tokens of the words.

Not as there. Faces and sound are looked at 25 times a second in videos of any rate, in stretches of 16 that are one
after another in time. Faces are found here, and a frame without one is there whole (`--detector corpus`: the nearest
of the corpus's crops stands in). Validation alone selects, and an ensemble's threshold is chosen on the joined answer
of all windows, not the mean of its parts'. An absent modality is masked; rows without a modality have no part for it.
The last batch of an epoch is not dropped, and a short step is divided by what it holds. Training is in float32 unless
`fit.precision` is bf16; a loss that is no number ends it.

Over the encoders of another system (`over_encoders`) settings and search are ours: `conflict` is one of the dimensions,
so the stability search says over several seeds whether the differences help.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from twominds.encoders.attended import AttendedEncoderConfig
from twominds.encoders.catalog import AnyEncoderConfig
from twominds.features.catalog import FeaturesConfig, backbones_of
from twominds.features.face_images import FaceImagesFeaturesConfig
from twominds.features.sound import SoundFeaturesConfig
from twominds.features.text import TextFeaturesConfig
from twominds.fusion.conflict import ConflictFusionConfig
from twominds.media.reader import MediaConfig
from twominds.recipes.recipe import FusionRecipe, Recipe
from twominds.recipes.space import Candidate, Choice, LogUniform, SearchSpace, Uniform
from twominds.recipes.stages import TrainJointly
from twominds.records import Modality, View
from twominds.scoring.post_processing import Grids
from twominds.training.fit import FitConfig
from twominds.training.losses import FusionLoss

SOURCE = "ConflictAwareAH (arXiv 2603.15818)"

SPACE: SearchSpace = {
    "conflict": Choice(values=(True, False)),
    "form": Choice(values=("tokens", "feed_forward")),
    "hidden_dim": Choice(values=(32, 64, 128)),
    "head_dim": Choice(values=(32, 64, 128)),
    "dropout": Choice(values=(0.2, 0.3, 0.4, 0.5)),
    "learning_rate": LogUniform(low=8e-5, high=1e-3),
    "weight_decay": LogUniform(low=1e-4, high=2e-3),
    "label_smoothing": Uniform(low=0.0, high=0.1),
}
"""Where the search of a fusion over other encoders looks."""


FACE, AUDIO, TEXT = Modality.FACE, Modality.AUDIO, Modality.TEXT
VIEWS: tuple[View, ...] = (FACE, AUDIO, TEXT)

WINDOW_ROWS: Mapping[View, int] = {FACE: 16, AUDIO: 16, TEXT: 0}
"""Faces and sound of 16 frames, one after another, and all the words."""


def above(probability: float) -> float:
    """The threshold of the public code as ours: there A/H is what is above it, here what is from it on."""
    return math.nextafter(probability, 1)


THRESHOLDS = tuple(above(round(0.25 + 0.01 * step, 2)) for step in range(50))
"""Among them the threshold is chosen on validation, the first of equally good ones (section 4.2; range and order are
the public code's)."""

TEXT_BLEND = 0.6
"""alpha of the text's head (launcher of the public code; the model card has 0.5)."""


def conflict_aware() -> Recipe:
    """Checkpoint B: nothing of the backbones learns, labels are smoothed."""
    return _joint(
        "conflict-aware",
        "VideoMAE, HuBERT and RoBERTa, frozen, under one conflict-aware model; text-guided late fusion",
        trainable_layers=0,
        label_smoothing=0.1,
    )


def top_layers() -> Recipe:
    """Checkpoint A: the last two layers of each backbone learn, at a tenth of the rate."""
    return _joint(
        "conflict-aware/top-2",
        "the same with the last two layers of each backbone fine-tuned, without label smoothing",
        trainable_layers=2,
        label_smoothing=0.0,
    )


def _joint(name: str, description: str, *, trainable_layers: int, label_smoothing: float) -> Recipe:
    fit = FitConfig(
        epochs=60,
        patience=15,
        batch_size=4,
        accumulate=4,
        optimizer="adamw",
        learning_rate=3e-5,
        weight_decay=0.01,
        scheduler="cosine",
        learning_rate_floor=3e-7,
        label_smoothing=label_smoothing,
        class_weights=True,
        grad_clip=1.0,
    )
    loss = FusionLoss(prototype_weight=0.0)
    features: FeaturesConfig = {
        FACE: FaceImagesFeaturesConfig(),
        AUDIO: SoundFeaturesConfig(),
        TEXT: TextFeaturesConfig(backbone="text.roberta_go_emotions", max_tokens=128),
    }
    encoders: dict[View, AnyEncoderConfig] = {
        view: AttendedEncoderConfig(
            backbone=backbones_of(features[view])[0],
            trainable_layers=trainable_layers,
            window_rows=WINDOW_ROWS[view],
            dropout=0.4,
        )
        for view in VIEWS
    }
    model = ConflictFusionConfig(project=False, one_logit=True, dropout=0.4)
    return Recipe(
        name=name,
        description=description,
        source=f"{SOURCE}, sections 3 and 4, and its model card",
        media=MediaConfig(face_frames=8),
        features=features,
        encoders=encoders,
        encoder_fits={},
        encoder_seed=42,
        fusion=FusionRecipe(model=model, fit=fit, loss=loss, views=VIEWS, seeds=(42,)),
        grids=Grids(thresholds=THRESHOLDS),
        criterion="binary_cross_entropy",
        stages=(TrainJointly(fit=fit, loss=loss, fusion_weight=0.5, heads={TEXT: 0.5}, blend={TEXT: TEXT_BLEND}),),
    )


def with_windows(recipe: Recipe, count: int) -> Recipe:
    """Has a recipe score a clip by the mean over so many windows of its faces and sound."""
    windowed = {
        view: replace(encoder, windows=count)
        for view, encoder in recipe.encoders.items()
        if isinstance(encoder, AttendedEncoderConfig) and encoder.window_rows
    }
    return replace(recipe, encoders={**recipe.encoders, **windowed})


def conflict_aware_demo() -> Recipe:
    """The same system on tiny debug backbones and the real all-MiniLM, with a faster and shorter training (ours)."""
    return _demo(conflict_aware(), "conflict-aware/demo", trainable_layers=0)


def top_layers_demo() -> Recipe:
    """`top_layers` on the same; the tiny backbones have few layers, of which the last one learns."""
    return _demo(top_layers(), "conflict-aware/demo/top-1", trainable_layers=1)


def _demo(recipe: Recipe, name: str, *, trainable_layers: int) -> Recipe:
    features = {**recipe.features, TEXT: TextFeaturesConfig(backbone="text.all_minilm", max_tokens=128)}
    (stage,) = recipe.stages
    assert isinstance(stage, TrainJointly)
    fit = replace(stage.fit, epochs=15, patience=8, learning_rate=1e-3)
    small = AttendedEncoderConfig(backbone="", dim=64, head_dim=64, trainable_layers=trainable_layers)
    return replace(
        recipe,
        name=name,
        description=f"{recipe.name} on tiny debug backbones and all-MiniLM, for the demo and for tests",
        features=features,
        encoders={
            view: replace(small, backbone=backbones_of(features[view])[0], window_rows=WINDOW_ROWS[view])
            for view in VIEWS
        },
        fusion=replace(
            recipe.fusion, model=replace(recipe.fusion.model, hidden_dim=64, head_dim=64, num_heads=4), fit=fit
        ),
        stages=(replace(stage, fit=fit),),
    )


def over_encoders(base: Recipe, name: str, *, conflict: bool = True) -> Recipe:
    """Another system with conflict-aware fusion in place of its own: same encoders, inputs, seeds and training.

    Args:
        base: The system whose fusion is replaced.
        name: Name of the new recipe.
        conflict: Whether the differences are taken; without, it is what they are compared with.
    """
    own = base.fusion.model
    model = ConflictFusionConfig(
        hidden_dim=64,
        head_dim=64,
        num_heads=4,
        dropout=0.4,
        conflict=conflict,
        # Directions of each view's own have nothing in common, of which a difference could be taken (test macro F1 on
        # drawn disagreements .68 rather than .92).
        standardize="zscore" if own.standardize == "interaction" else own.standardize,
        pca_components=own.pca_components,
    )
    settings = vars(model) | vars(base.fusion.fit)
    point: Candidate = {dimension: settings[dimension] for dimension in SPACE}
    fusion = replace(
        base.fusion,
        model=model,
        loss=FusionLoss(prototype_weight=0.0),
        space=SPACE,
        first_points=(point, {**point, "conflict": not conflict}),
    )
    return replace(
        base,
        name=name,
        description=f"{base.name} with conflict-aware fusion{'' if conflict else ', without differences'}",
        source=f"{SOURCE}, section 3.4, over other encoders (ours)",
        fusion=fusion,
        published=None,
    )

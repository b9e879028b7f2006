"""A simple model for each kind of task, ours: they show that the platform carries it, and are where a system begins.

- `simple/ah-frame`: A/H at every frame, from the face around it and the voice; a timeline with segments.
- `simple/expression`: eight expressions at every frame, from the face.
- `simple/mimicry`: six intensities of a clip, from face, voice and words.
- `simple/words`: A/H of a clip, from its words: a floor for systems that look at more.
- `simple/joint`: A/H of a clip, from face and voice, whose encoders and fusion are trained as one model.

Faces are looked at a few times a second rather than in every frame: what a face says does not change faster.
"""

from dataclasses import replace

from twominds.encoders.audio import AudioEncoderConfig
from twominds.encoders.face import FaceEncoderConfig
from twominds.encoders.points import PointEncoderConfig
from twominds.encoders.text import TextEncoderConfig
from twominds.encoders.vector_classifier import VectorClassifierConfig
from twominds.features.audio import AudioFeaturesConfig
from twominds.features.face import FaceFeaturesConfig
from twominds.features.face_track import FaceTrackFeaturesConfig
from twominds.features.text import TextFeaturesConfig
from twominds.features.text_rows import TextRowsFeaturesConfig
from twominds.fusion.catalog import FusionConfig
from twominds.fusion.simple import AttentionSumConfig, ConcatMLPConfig
from twominds.media.reader import MediaConfig
from twominds.recipes.recipe import FusionRecipe, Recipe
from twominds.recipes.space import Choice, LogUniform, SearchSpace
from twominds.recipes.stages import TrainJointly
from twominds.records import Modality
from twominds.scoring.decision import Decision, Filter, Smooth
from twominds.tasks import AH_FRAME, EXPRESSION, MIMICRY
from twominds.training.fit import FitConfig
from twominds.training.losses import FusionLoss

SPACE: SearchSpace = {
    "hidden_dim": Choice(values=(32, 64, 128)),
    "dropout": Choice(values=(0.1, 0.3, 0.5)),
    "learning_rate": LogUniform(low=3e-4, high=3e-3),
}
"""Where the search of a simple fusion looks."""

_SEEDS = (42, 2025)
_MEDIA = MediaConfig(face_frames=8)
"""Of a face that is tracked, these frames alone say whether there is one."""

_CLIPS = FitConfig(
    epochs=60,
    batch_size=16,
    optimizer="adamw",
    learning_rate=2e-3,
    weight_decay=1e-2,
    scheduler="cosine",
    label_smoothing=0.0,
    class_weights=True,
    grad_clip=1.0,
    patience=20,
    min_epochs=4,
)
"""Training on whole clips, of which there are few: small batches and many epochs."""
_POINTS = replace(
    _CLIPS,
    epochs=24,
    batch_size=256,
    learning_rate=1e-3,
    evaluation_batch_size=4096,
    patience=5,
    min_epochs=2,
)
"""Points are many and neighbours alike: a few passes over them are enough."""


_SUM = AttentionSumConfig(hidden_dim=64, dropout=0.3)
_SIDE_BY_SIDE = ConcatMLPConfig(hidden_dim=64, dropout=0.5, standardize="zscore")
"""Where each output is told by another modality: one weight of a modality for all outputs would not do."""


def _fusion(*views: Modality, fit: FitConfig = _POINTS, model: FusionConfig = _SUM) -> FusionRecipe:
    return FusionRecipe(
        model=model,
        fit=fit,
        loss=FusionLoss(prototype_weight=0.0),
        views=views,
        seeds=_SEEDS,
        space=SPACE,
        trials=3,
        first_points=({"hidden_dim": 64, "dropout": model.dropout, "learning_rate": fit.learning_rate},),
    )


def ah_frame() -> Recipe:
    """A/H at every frame. Stretches are smoothed over a second; BAH's last 4 s, so those below half a second go."""
    return Recipe(
        name="simple/ah-frame",
        description="A/H per frame: face and voice around each moment, with a timeline",
        source="ours",
        task=AH_FRAME,
        media=_MEDIA,
        features={
            Modality.FACE: FaceTrackFeaturesConfig(rate_hz=5.0),
            Modality.AUDIO: AudioFeaturesConfig(),
        },
        encoders={
            Modality.FACE: PointEncoderConfig(alignment="linear", steps=5, step_s=0.4, dropout=0.3),
            Modality.AUDIO: PointEncoderConfig(alignment="mean", steps=5, step_s=0.4, dropout=0.3),
        },
        encoder_fits={Modality.FACE: _POINTS, Modality.AUDIO: _POINTS},
        encoder_seed=42,
        fusion=_fusion(Modality.FACE, Modality.AUDIO),
        decision=Decision(steps=(Smooth(radius=0.5), Filter(longest_gap_s=0.5, shortest_s=0.5))),
    )


def expression() -> Recipe:
    """Eight expressions at every frame; a moving average of a second, as expressions last longer than frames."""
    return Recipe(
        name="simple/expression",
        description="eight expressions per frame: the face around each moment, with a timeline",
        source="ours",
        task=EXPRESSION,
        media=_MEDIA,
        features={Modality.FACE: FaceTrackFeaturesConfig(rate_hz=5.0)},
        encoders={Modality.FACE: PointEncoderConfig(alignment="linear", steps=3, step_s=0.2, dropout=0.3)},
        encoder_fits={Modality.FACE: _POINTS},
        encoder_seed=42,
        fusion=_fusion(Modality.FACE),
        decision=Decision(steps=(Smooth(radius=0.5),)),
    )


def mimicry() -> Recipe:
    """Six intensities of a clip, trained by mean squared error and chosen by mean Pearson correlation."""
    return Recipe(
        name="simple/mimicry",
        description="six intensities per clip: face statistics, voice and words",
        source="ours",
        task=MIMICRY,
        media=MediaConfig(),
        features={
            Modality.FACE: FaceFeaturesConfig(),
            Modality.AUDIO: AudioFeaturesConfig(),
            Modality.TEXT: TextFeaturesConfig(backbone="text.all_minilm"),
        },
        encoders={
            Modality.FACE: FaceEncoderConfig(hidden_dim=64, embedding_dim=64, dropout=0.1),
            Modality.AUDIO: AudioEncoderConfig(temporal="lstm", hidden_dim=64, num_layers=1, head_hidden_dim=32),
            Modality.TEXT: TextEncoderConfig(backbone="text.all_minilm", pooling="mean", dropout=0.3),
        },
        encoder_fits={
            Modality.FACE: _CLIPS,
            Modality.AUDIO: replace(_CLIPS, epochs=20, batch_size=16, learning_rate=2e-3, patience=8, min_epochs=0),
            Modality.TEXT: replace(
                _CLIPS, epochs=8, batch_size=16, learning_rate=1e-4, scheduler="none", patience=4, min_epochs=0
            ),
        },
        encoder_seed=42,
        fusion=_fusion(Modality.FACE, Modality.AUDIO, Modality.TEXT, fit=_CLIPS, model=_SIDE_BY_SIDE),
    )


def joint() -> Recipe:
    """A/H of a clip by one model: what the encoders tell is what the fusion asks for; their heads keep them awake."""
    fit = replace(_CLIPS, epochs=60, patience=15, min_epochs=5)
    views, loss = (Modality.FACE, Modality.AUDIO), FusionLoss(prototype_weight=0.0)
    return Recipe(
        name="simple/joint",
        description="A/H per clip: face statistics, voice and their fusion trained as one model",
        source="ours",
        media=MediaConfig(),
        features={Modality.FACE: FaceFeaturesConfig(), Modality.AUDIO: AudioFeaturesConfig()},
        encoders={
            Modality.FACE: FaceEncoderConfig(embedding_dim=64),
            Modality.AUDIO: AudioEncoderConfig(temporal="lstm", hidden_dim=64, num_layers=1, head_hidden_dim=32),
        },
        encoder_fits={},
        encoder_seed=42,
        fusion=FusionRecipe(model=_SUM, fit=fit, loss=loss, views=views, seeds=(42,)),
        stages=(TrainJointly(fit=fit, loss=loss, heads=dict.fromkeys(views, 0.3)),),
    )


def words() -> Recipe:
    """A/H of a clip by what any system that looks at more should beat: frozen words, a calibrated linear classifier."""
    rows = TextRowsFeaturesConfig(backbone="text.roberta_go_emotions")
    encoder = VectorClassifierConfig(
        pooling="mean_std", normalize="standardize", classifier="logistic_regression", c=0.01, calibrated=True
    )
    return Recipe(
        name="simple/words",
        description="A/H per clip: mean and deviation of frozen GoEmotions tokens, calibrated logistic regression",
        source="ours",
        media=_MEDIA,
        features={Modality.TEXT: rows},
        encoders={Modality.TEXT: encoder},
        encoder_fits={Modality.TEXT: _CLIPS},  # of no effect: it learns all at once
        encoder_seed=42,
        fusion=FusionRecipe(model=_SUM, fit=_CLIPS, loss=FusionLoss(), views=(Modality.TEXT,), seeds=(42,)),
        reports="encoder",
    )


def words_demo() -> Recipe:
    """`words` on the real all-MiniLM: a debug model of GoEmotions knows no words."""
    features = {Modality.TEXT: TextRowsFeaturesConfig(backbone="text.all_minilm")}
    told = "A/H per clip: mean and deviation of all-MiniLM's tokens, calibrated logistic regression"
    return replace(words(), name="simple/demo/words", description=told, features=features)

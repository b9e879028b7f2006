"""HSEmotion at ABAW-8 (Savchenko, 2025): what its four tables share, of which each has a file of its own.

    hsemotion_expr.py       Table 1: eight expressions per frame (Aff-Wild2)
    hsemotion_emi.py        Table 2: six intensities per video (Hume-Vidmimic2)
    hsemotion_ah_video.py   Table 3: A/H per video (BAH)
    hsemotion_ah_frame.py   Table 4: A/H per frame (BAH)

Frozen descriptors of faces, sound and words under small networks; late fusion by blending, or early fusion; and after
the model smoothing, filters and thresholds. Every row comes in three ways:

- `mended`: rows of sound and words meet the frames by time; what follows the models is chosen on validation from the
  sheet's grids, and test reports it.
- `faithful`: as published, with the numbers that were chosen on the rows they are printed for, on the corpus's own face
  crops; sound and words are spread evenly over the frames, whatever their times.
- `demo`: `mended` on the tiny debug bundle and drawn clips: faces five times a second, standardised features,
  all-MiniLM in place of the published text models and of the vectors that users bring, and smaller batches over more
  epochs, for drawn corpora are small.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from twominds.encoders.catalog import AnyEncoderConfig
from twominds.encoders.rows import RowsEncoderConfig
from twominds.features.audio import AudioFeaturesConfig
from twominds.features.catalog import AnyFeaturesConfig
from twominds.fusion.simple import ClassWeightedConfig, EarlyFusionConfig
from twominds.media.reader import MediaConfig
from twominds.recipes.recipe import EncoderSearch, FusionRecipe, PublishedScores, Recipe
from twominds.recipes.space import Choice, LogUniform, SearchSpace
from twominds.recipes.stages import Stage, TrainViews
from twominds.records import View
from twominds.scoring.decision import Decision
from twominds.scoring.post_processing import Grids
from twominds.tasks import Task
from twominds.training.fit import FitConfig
from twominds.training.losses import FusionLoss

Way = Literal["mended", "faithful", "demo"]
WAYS: tuple[Way, ...] = ("mended", "faithful", "demo")

What = Literal["scores", "features"]

SOURCE = "Savchenko 2025, HSEmotion at ABAW-8"

CHOSEN_ON_WHAT_IS_PRINTED = (
    "The paper's numbers are of the validation split, on which its epochs, weights, radii and thresholds were chosen, "
    "row by row: they are optimistic."
)
"""What a reader must know of the numbers of all four tables."""

SEED = 42
"""The published code seeds nothing."""


def recipe_name(table: str, row: str, way: Way) -> str:
    """What a row is called in `--recipe`; a study of them has the row `all`."""
    return f"hsemotion/{'demo/' if way == 'demo' else ''}{table}/{row}{'/faithful' if way == 'faithful' else ''}"


@dataclass(frozen=True, kw_only=True)
class Face:
    """A face descriptor as the tables call it."""

    role: str
    """The descriptor's role in the catalogue of backbones."""
    scores: int
    """Numbers after the embedding."""
    name: str
    """The paper's."""

    def columns(self, what: What) -> tuple[int | None, int | None]:
        """Where the scores, or the embedding, stand in a row."""
        return (-self.scores, None) if what == "scores" else (None, -self.scores)


FACES: Mapping[str, Face] = {
    "b0": Face(role="face.emotieffnet_b0", scores=8, name="EmotiEffNet-B0"),
    "mtb0": Face(role="face.emotieffnet_b0_mtl", scores=10, name="MT-EmotiEffNet"),
    "mvt": Face(role="face.emotimobilevit_mtl", scores=10, name="MT-EmotiMobileViT"),
    "mfn": Face(role="face.emotimobilefacenet_mtl", scores=10, name="MT-EmotiMobileFaceNet"),
    "ddamfn": Face(role="face.ddamfn", scores=8, name="DDAMFN"),
    "mtddamfn": Face(role="face.ddamfn_mtl", scores=10, name="MT-DDAMFN"),
}
"""By the name that rows have them under."""

SOUNDS: Mapping[str, tuple[str, str]] = {
    "wav2vec2": ("audio.wav2vec2_base", "wav2vec 2.0"),
    "hubert": ("audio.hubert_large", "HuBERT"),
}
"""Role and name of the models of sound."""

TEXTS: Mapping[str, str] = {
    "roberta": "RoBERTa-GoEmotions",
    "sentence_bert": "SentenceBERT",
    "minilm": "MiniLM",
    "e5": "E5",
    "openai": "OpenAI vectors",
    "gigachat": "GigaChat vectors",
}
"""Names of the models of words, and of the vectors that users bring."""


def view_of(part: str) -> View:
    """The view of a part of a row, which begins with its model's name: `mfn-scores`, `hubert-mean`, `roberta`."""
    name = part.partition("-")[0]
    if name in FACES:
        return f"face.{name}"
    return f"audio.{name}" if name in SOUNDS else f"text.{name}"


def told(part: str) -> str:
    """A part in words: the paper's name of its model, and what of its rows is taken."""
    name, *taken = part.split("-")
    model = FACES[name].name if name in FACES else SOUNDS[name][1] if name in SOUNDS else TEXTS[name]
    return " ".join([model, *("STAT" if word == "stat" else word for word in taken)])


def ending(way: Way, faithful: str) -> str:
    """What a row's description ends with: how it is `faithful`, that it is the demo, or nothing."""
    endings: Mapping[Way, str] = {"mended": "", "faithful": f"; as published{faithful}", "demo": " (demo)"}
    return endings[way]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One view of a row: what is seen, by which encoder, and how that is trained."""

    features: AnyFeaturesConfig
    encoder: AnyEncoderConfig
    fit: FitConfig


def row_recipe(
    table: str,
    name: str,
    way: Way,
    *,
    number: int,
    description: str,
    task: Task,
    parts: Mapping[View, Part],
    fusion: FusionRecipe,
    last: Stage,
    published: PublishedScores,
    face_frames: int = 8,
    searches: Mapping[View, EncoderSearch],
    decision: Decision | None = None,
    grids: Grids | None = None,
) -> Recipe:
    """A row of one of the tables: what all of them have alike, filled in.

    Args:
        table: Name of the table, as in the recipe's name.
        name: Name of the row.
        way: How it is built.
        number: Number of the table in the paper.
        description: One line for the page of recipes.
        task: What is recognised.
        parts: All views, also one that only overrules.
        fusion: See `blended` and `early`.
        last: The stage after the views'.
        published: What the paper got.
        face_frames: In how many frames of a clip a face is looked for, where not in all.
        searches: The searches of single encoders, by view.
        decision: Steps that are given.
        grids: What is chosen on validation.
    """
    return Recipe(
        name=recipe_name(table, name, way),
        description=description,
        source=f"{SOURCE}, Table {number}",
        task=task,
        # The published features are of the organisers' crops, and sound is heard to its end.
        media=MediaConfig(
            max_audio_s=7200.0, detector="corpus" if way == "faithful" else "yolo", face_frames=face_frames
        ),
        features={view: part.features for view, part in parts.items()},
        encoders={view: part.encoder for view, part in parts.items()},
        encoder_fits={view: part.fit for view, part in parts.items()},
        encoder_seed=SEED,
        encoder_searches=searches,
        fusion=fusion,
        stages=(TrainViews(), last),
        decision=decision or Decision(),
        grids=grids or Grids(),
        published=published,
    )


def sound(name: str, *, window_s: float = 60.0) -> AudioFeaturesConfig:
    """The last hidden state of a model of `SOUNDS`."""
    return AudioFeaturesConfig(
        backbone=SOUNDS[name][0], hidden_state=None, window_s=window_s, max_batch_s=max(120.0, window_s)
    )


def head_fit(way: Way, *, epochs: int, batch_size: int, learning_rate: float, class_weights: bool = False) -> FitConfig:
    """Keras's Adam at a constant rate; the best epoch is kept. The demo has smaller batches and more epochs."""
    demo = way == "demo"
    return FitConfig(
        epochs=max(epochs, 30) if demo else epochs,
        batch_size=min(batch_size, 64) if demo else batch_size,
        evaluation_batch_size=16_384,
        optimizer="adam",
        learning_rate=2 * learning_rate if demo else learning_rate,
        weight_decay=0.0,
        scheduler="none",
        label_smoothing=0.0,
        class_weights=class_weights,
        grad_clip=None,
        patience=max(epochs, 30),
    )


def linear_fit(settings: FitConfig, *, epochs: int) -> FitConfig:
    """Of a linear head: an L2 penalty of 1/512, a rate of 1e-3, and the last epoch is kept."""
    epochs = max(epochs, settings.epochs)
    return replace(
        settings, epochs=epochs, min_epochs=epochs, patience=epochs, learning_rate=1e-3, weight_decay=2 / 512
    )


def blended(views: Sequence[View]) -> FusionRecipe:
    """No fusion to train: what the encoders say is blended."""
    return FusionRecipe(
        model=ClassWeightedConfig(),
        fit=FitConfig(),
        loss=FusionLoss(prototype_weight=0.0),
        inputs="logits",
        views=tuple(views),
        seeds=(SEED,),
    )


def early(views: Sequence[View], settings: FitConfig, *, hidden_dim: int, way: Way) -> FusionRecipe:
    """One network over the features of all views side by side: the embeddings of encoders without a hidden layer."""
    model = EarlyFusionConfig(hidden_dim=hidden_dim, dropout=0.0, standardize="zscore" if way == "demo" else "none")
    return FusionRecipe(
        model=model,
        fit=settings,
        loss=FusionLoss(prototype_weight=0.0),
        views=tuple(views),
        seeds=(SEED,),
        space=SPACE,
        trials=1,
        first_points=({"hidden_dim": hidden_dim, "learning_rate": settings.learning_rate},),
    )


SPACE: SearchSpace = {
    "hidden_dim": Choice(values=(16, 32, 64, 128)),
    "learning_rate": LogUniform(low=1e-4, high=5e-3),
}
"""Where a search of a head, or of early fusion, looks; the published numbers are in it, the ranges are ours."""


def head_searches(parts: Mapping[View, Part]) -> dict[View, EncoderSearch]:
    """The search of each view's network with a hidden layer: its width and its learning rate."""
    return {
        view: EncoderSearch(space=SPACE, trials=20)
        for view, part in parts.items()
        if isinstance(part.encoder, RowsEncoderConfig) and part.encoder.hidden_dim and not part.encoder.logits_of
    }

"""LEYA's searches of single encoders (section 4.2); its search of the fusion is `recipes.leya.SPACE`.

What the paper names is searched, in its ranges where it gives them; "ours" marks values that it does not give. It says
nothing of scene, and what it tried of audio are recipes (`leya/audio-layer-8`, `leya/audio-transformer`).
"""

from twominds.encoders.classical import ClassicalTextConfig
from twominds.encoders.text import TextEncoderConfig
from twominds.recipes.recipe import EncoderSearch
from twominds.recipes.space import Choice, Dimension, LogUniform, Uniform

FACE_SEARCH = EncoderSearch(
    sampler="grid",
    trials=54,
    space={
        "hidden_dim": Choice(values=(16, 32, 64)),
        "embedding_dim": Choice(values=(64, 128, 256)),
        "learning_rate": Choice(values=(1e-4, 1e-3, 1e-2)),
        "optimizer": Choice(values=("adamw", "sgd")),
    },
)
"""Hidden states, output features, learning rate and optimizer; the values are ours, the paper's pick is among them.

Its grid had the number of frames too. That is no setting of the encoder but of how videos are read
(`media.face_frames`): each number needs features of its own.
"""

HEAD_SEARCH = EncoderSearch(
    space={
        "hidden_dims": Choice(values=tuple((width,) * layers for layers in (1, 2, 3) for width in (64, 96, 128))),
        "dropout": Uniform(low=0.0, high=0.3),
        "optimizer": Choice(values=("adamw", "sgd")),
        "learning_rate": LogUniform(low=1e-5, high=0.1),
    },
)
"""The head on a partly frozen language model, in the paper's ranges (that 96 is between 64 and 128 is ours).

Its 16 clips per batch and at most 20 epochs are the recipe's fit. How many epochs it takes is no dimension: the
learning rate is constant, so a training with fewer at most is the beginning of the same one, and early stopping keeps
its best epoch.
"""

_COUNTING: dict[str, Dimension] = {
    "vocabulary": Choice(values=(100, 200, 500, 1000, 2000, 5000, 10_000)),
    "ngram_max": Choice(values=(1, 2, 3)),
}
"""TF-IDF, in the paper's ranges."""

_CLASSIFIERS: dict[str, dict[str, Dimension]] = {
    "logistic_regression": {"c": LogUniform(low=1e-2, high=1e2)},
    "catboost": {
        "trees": Choice(values=(100, 300, 1000)),
        "tree_learning_rate": LogUniform(low=0.01, high=0.3),
        "tree_depth": Choice(values=(4, 6, 8)),
    },
    "lightgbm": {
        "trees": Choice(values=(100, 300, 1000)),
        "tree_learning_rate": LogUniform(low=0.01, high=0.3),
        "tree_depth": Choice(values=(4, 6, 8)),
        "tree_leaves": Choice(values=(7, 15, 31, 63)),
        "tree_min_clips": Choice(values=(3, 5, 10, 20)),
    },
}
"""The paper tuned them, and does not say within which ranges: they are ours."""


def text_search(encoder: TextEncoderConfig | ClassicalTextConfig) -> EncoderSearch:
    """The search of a text encoder: of its head, or of what counts the words and of the classifier."""
    if isinstance(encoder, TextEncoderConfig):
        return HEAD_SEARCH
    counting = _COUNTING if encoder.representation == "tfidf" else {}
    return EncoderSearch(space={**counting, **_CLASSIFIERS[encoder.classifier]})

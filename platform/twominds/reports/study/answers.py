"""What models, and baselines that see no video, answer on labelled clips: each clip has an answer, whatever happens.

The scores are those of `scoring/`, the same as batch scoring and the service give. A clip that gets none is answered
with the training majority.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from twominds.records import Clip, Embedding, Score, Split, View, absent
from twominds.reports.study.results import Answers, RowResult
from twominds.scoring.ensemble import EmbeddingsOfClip, Ensemble
from twominds.training.metrics import IntArray, macro_f1, majority_baseline, question_baseline


def ensemble_answers(
    ensemble: Ensemble, inputs: Sequence[EmbeddingsOfClip], majority: int, *, each_seed: bool = False
) -> Answers:
    """What an ensemble says of some clips, or each of its seeds' models by itself.

    Args:
        ensemble: With S seeds.
        inputs: Of N clips.
        majority: What is predicted for a clip without any of the ensemble's modalities.
        each_seed: The S models' answers instead of the one of their mean probability.
    """
    probabilities = np.full((len(ensemble.models) if each_seed else 1, len(inputs)), np.nan)
    for i, score in enumerate(ensemble.score(inputs)):
        if isinstance(score, Score):
            probabilities[:, i] = score.seed_probabilities if each_seed else score.probabilities[-1]
    labels = ensemble.config.decision.labels(probabilities)
    return Answers(predictions=np.where(np.isnan(probabilities), majority, labels), probabilities=probabilities)


def encoder_answers(embeddings: Sequence[Embedding], majority: int) -> Answers:
    """What one modality's encoder says by itself: its most probable class."""
    said = [embedding.probabilities for embedding in embeddings]
    predictions = [majority if one is None else int(one[0].argmax()) for one in said]
    probabilities = [np.nan if one is None else float(one[0, -1]) for one in said]
    return Answers(predictions=np.array([predictions], dtype=np.int64), probabilities=np.array([probabilities]))


def baselines(train: Sequence[Clip], splits: Mapping[Split, Sequence[Clip]], classes: int) -> list[RowResult]:
    """What can be had without looking at a video; nothing, where no training clip has a label."""
    if not train:
        return []
    labels, questions = [label_of(clip) for clip in train], [clip.question for clip in train]
    asked = {split: [clip.question for clip in clips] for split, clips in splits.items()}
    predicted = {
        "majority": {split: majority_baseline(labels, len(clips), classes) for split, clips in splits.items()},
        "question only": {
            split: question_baseline(labels, questions, found, classes) for split, found in asked.items()
        },
    }
    described = {
        "majority": "the most frequent class of training",
        "question only": "the most frequent class of each question",
    }
    return [
        RowResult(
            recipe=name,
            description=f"{described[name]}, without a look at any video",
            views=(),
            reports="encoder",
            answers={split: _certain(found) for split, found in by_split.items()},
        )
        for name, by_split in predicted.items()
    ]


def _certain(predicted: IntArray) -> Answers:
    return Answers(predictions=predicted[None], probabilities=predicted[None].astype(np.float64))


def mean_score(found: Answers, clips: Sequence[Clip], classes: int) -> float:
    """Mean over the models of the macro F1."""
    labels = [label_of(clip) for clip in clips]
    return float(np.mean([macro_f1(labels, predicted, classes) for predicted in found.predictions]))


def without(clip: EmbeddingsOfClip, hidden: View | None) -> dict[View, Embedding]:
    """The same clip with one modality hidden: it counts as absent."""
    presence = absent("hidden, to see what it adds")
    return {
        view: Embedding(clip_id=embedding.clip_id, view=view, presence=presence) if view == hidden else embedding
        for view, embedding in clip.items()
    }


def label_of(clip: Clip) -> int:
    """The label of a clip that has one."""
    return cast("int", clip.label)

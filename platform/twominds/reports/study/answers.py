"""What models, and baselines that see no video, answer at labelled points: each has an answer, whatever happens.

The scores are those of `scoring/`, the same as batch scoring and the service give. A point that gets none is answered
with the constant of training: its majority, or its mean intensities.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from twominds.fusion.batch import count_points
from twominds.records import Embedding, Score, Split, View, absent, modality_of
from twominds.reports.study.points import LabelledPoints, constant
from twominds.reports.study.results import Answers, RowResult
from twominds.scoring.ensemble import EmbeddingsOfClip, Ensemble
from twominds.tasks import Classes, Task
from twominds.training.metrics import IntArray, metric_of, question_baseline

Outputs = npt.NDArray[np.float64]

_OfClip = tuple[Outputs, IntArray | None] | None
"""What S models say of a clip's P points: outputs [S, P, K], and of classes the decided ones [S, P]. None: nothing."""


def scored(ensemble: Ensemble, inputs: Sequence[EmbeddingsOfClip]) -> tuple[Score | None, ...]:
    """What an ensemble says of some clips as it is served, and what its modalities add where it has several."""
    explain = len({modality_of(view) for view in ensemble.config.views}) > 1
    return tuple(one if isinstance(one, Score) else None for one in ensemble.score(inputs, explain=explain))


def answers_of(scores: Sequence[Score | None], points: LabelledPoints, prior: Sequence[float], task: Task) -> Answers:
    """What scores of the points' clips say at them; arguments as for `ensemble_answers`."""
    return _at_points([None if one is None else _of_score(one) for one in scores], 1, points, prior, task)


def _of_score(score: Score) -> _OfClip:
    if score.timeline is not None:
        labels = score.timeline.labels
        return score.timeline.outputs[None], None if labels is None else labels[None]
    label = None if score.label is None else np.array([[score.label]], np.int64)
    return np.array([[score.probabilities]], np.float64), label


def ensemble_answers(
    ensemble: Ensemble,
    inputs: Sequence[EmbeddingsOfClip],
    points: LabelledPoints,
    prior: Sequence[float],
    *,
    each_member: bool = False,
) -> Answers:
    """What an ensemble says at some points, or each of its members by itself.

    Args:
        ensemble: The ensemble, of S members.
        inputs: Embeddings of each clip that has some of the points.
        points: Where answers are wanted.
        prior: What training says without a look: of a point that has no score its constant is the answer.
        each_member: The S members' answers instead of the one of their mean.
    """
    task = ensemble.card.task
    if not each_member:
        scores = [one if isinstance(one, Score) else None for one in ensemble.score(inputs)]
        return answers_of(scores, points, prior, task)
    return _at_points(_of_members(ensemble, inputs), len(ensemble.members), points, prior, task)


def _of_members(ensemble: Ensemble, inputs: Sequence[EmbeddingsOfClip]) -> list[_OfClip]:
    views, decision = ensemble.config.views, ensemble.config.decision
    seen = [i for i, clip in enumerate(inputs) if any(clip[view].presence.present for view in views)]
    found: list[_OfClip] = [None] * len(inputs)
    outputs, end = ensemble.probabilities([inputs[i] for i in seen]) if seen else np.empty((0, 0, 0)), 0
    for i in seen:
        of_clip = outputs[:, end : (end := end + count_points(inputs[i]))]
        points_s = next((e.points_s for e in inputs[i].values() if e.points_s is not None), None)
        by_name = ensemble.by_name(of_clip)
        over_time = np.stack([decision.over_time(of_member, points_s, by_name) for of_member in of_clip])
        of_classes = isinstance(ensemble.card.task.output, Classes)
        labels = np.stack([decision.classes(one, points_s) for one in over_time]) if of_classes else None
        found[i] = over_time, labels
    return found


def encoder_answers(
    embeddings: Sequence[Embedding], points: LabelledPoints, prior: Sequence[float], task: Task
) -> Answers:
    """What one view's encoder says by itself at each point: its most probable class, or its intensities."""
    said: list[_OfClip] = []
    for embedding in embeddings:
        own = embedding.probabilities
        # Of a clip that is asked about as a whole, the mean over the stretches that were looked at.
        rows = None if own is None else own.astype(np.float64)
        outputs = None if rows is None else (rows.mean(axis=0)[None] if embedding.stretches > 1 else rows)[None]
        of_classes = isinstance(task.output, Classes)
        said.append(None if outputs is None else (outputs, outputs.argmax(axis=-1) if of_classes else None))
    return _at_points(said, 1, points, prior, task)


def _at_points(
    said: Sequence[_OfClip], models: int, points: LabelledPoints, prior: Sequence[float], task: Task
) -> Answers:
    """Gathers what is said of clips at their known points; NaN, and a clip of which nothing is said, are no answer."""
    guess = constant(prior, task)
    predictions = np.broadcast_to(guess, (models, len(points), *guess.shape)).copy()
    outputs = np.full((models, len(points), task.num_outputs), np.nan)
    for owner, rows in points.of_clips():
        if (of_clip := said[owner]) is not None:
            places = points.places[rows]
            outputs[:, rows] = of_clip[0][:, places]
            predictions[:, rows] = outputs[:, rows] if of_clip[1] is None else of_clip[1][:, places]
    silent = np.isnan(outputs).any(axis=-1)
    predictions[silent] = guess
    return Answers(
        predictions=predictions,
        probabilities=outputs[..., -1] if task.is_binary else None,
        answered=np.asarray(~silent.all(axis=0)),
    )


def baselines(train: LabelledPoints, splits: Mapping[Split, LabelledPoints], task: Task) -> list[RowResult]:
    """What can be had without looking at a video; nothing, where no training clip has a label."""
    if not len(train):
        return []
    guess = constant(train.prior(task), task)
    always = {split: np.broadcast_to(guess, (len(points), *guess.shape)) for split, points in splits.items()}
    if not isinstance(task.output, Classes):
        return [_baseline("training mean", "the mean intensities of training", always, task)]
    rows = [_baseline("majority", f"the most frequent class of training{_published(guess, task)}", always, task)]
    asked = [clip.question for clip in train.clip_of_each]
    if not task.per_frame and any(question is not None for question in asked):
        by_question = {
            split: question_baseline(
                train.truth, asked, [clip.question for clip in points.clip_of_each], task.num_outputs
            )
            for split, points in splits.items()
        }
        rows.append(_baseline("question only", "the most frequent class of each question", by_question, task))
    return rows


def _published(guess: npt.NDArray[Any], task: Task) -> str:
    """What is known of the baseline on the published corpus."""
    if task.name != "ah-frame" or guess != 0:
        return ""
    return " (A/H nowhere; on the published validation split its weighted F1 is .674)"


def _baseline(name: str, description: str, predicted: Mapping[Split, npt.NDArray[Any]], task: Task) -> RowResult:
    return RowResult(
        recipe=name,
        description=f"{description}, without a look at any video",
        views=(),
        reports="encoder",
        answers={
            split: Answers(
                predictions=found[None],
                probabilities=found[None].astype(np.float64) if task.is_binary else None,
                answered=np.ones(len(found), np.bool_),
            )
            for split, found in predicted.items()
        },
    )


def mean_score(found: Answers, points: LabelledPoints, task: Task) -> float:
    """Mean over the models of the task's metric."""
    metric = metric_of(task)
    return float(np.mean([metric(points.truth, predicted) for predicted in found.predictions]))


def joined(answers: Sequence[Answers]) -> Answers:
    """What several models say of the same points of classes, or intensities, as the answers of one row."""
    of_two = [found.probabilities for found in answers if found.probabilities is not None]
    return Answers(
        predictions=np.concatenate([found.predictions for found in answers]),
        probabilities=np.concatenate(of_two) if of_two else None,
        answered=np.any([found.answered for found in answers], axis=0),
    )


def without(clip: EmbeddingsOfClip, *hidden: View) -> dict[View, Embedding]:
    """The same clip with some views hidden: they count as absent."""
    presence = absent("hidden, to see what it adds")
    return {
        view: Embedding(clip_id=embedding.clip_id, view=view, presence=presence, points_s=embedding.points_s)
        if view in hidden
        else embedding
        for view, embedding in clip.items()
    }

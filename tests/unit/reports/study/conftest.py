"""Evaluations of ensembles that nobody trained, on made-up embeddings: of clips or frames, classes or intensities."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from twominds.artifacts import Card
from twominds.fusion.simple import ClassWeightedConfig
from twominds.records import PRESENT, Clip, Embedding, Labels, Split, View, absent
from twominds.reports.study.answers import answers_of, baselines, encoder_answers, ensemble_answers, scored
from twominds.reports.study.points import LabelledPoints
from twominds.reports.study.results import RowResult, StudyResults
from twominds.scoring.decision import Decision, Filter, Smooth
from twominds.scoring.ensemble import Ensemble
from twominds.scoring.members import EnsembleConfig, member_models, seed_name
from twominds.tasks import Classes, Task

VIEWS: tuple[View, ...] = ("face.a", "face.b", "text")
RATE_HZ = 5.0


@dataclass(frozen=True, kw_only=True)
class MadeUp:
    """An evaluation, and what it was made of."""

    task: Task
    ensemble: Ensemble
    inputs: dict[Split, list[dict[View, Embedding]]]
    results: StudyResults


def truths(task: Task, count: int, rng: np.random.Generator) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """[P, 1] classes in stretches, or [P, K] intensities."""
    if not isinstance(task.output, Classes):
        return rng.uniform(task.output.low, task.output.high, (count, task.num_outputs)).astype(np.float32)
    lengths = 1 + rng.integers(4, 30, count)
    stretches = np.repeat(rng.integers(0, task.num_outputs, count), lengths)[:count]
    return stretches[:, None].astype(np.float32)


def signal(task: Task, truth: np.ndarray) -> np.ndarray:
    """[P, K]: what an encoder that knows all would say."""
    if not isinstance(task.output, Classes):
        return 4 * truth - 2
    return 2.0 * np.eye(task.num_outputs)[truth[:, 0].astype(int)] - 1


def view_scores(task: Task, seed: int) -> torch.Tensor:
    """[M, K]: of each member; a softmax over the views that are there makes weights of their logits."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((len(VIEWS), task.num_outputs))).float()


@pytest.fixture(scope="session")
def made_up_evaluation() -> Callable[..., MadeUp]:
    """`made_up_evaluation(task, clips=12)`: in each split the first clip has no text, and the last one nothing."""
    return evaluation


def evaluation(task: Task, clips: int = 12, seed: int = 0) -> MadeUp:
    rng = np.random.default_rng(seed)
    clips_of: dict[Split, list[Clip]] = {}
    inputs: dict[Split, list[dict[View, Embedding]]] = {}
    for split in (Split.TRAIN, Split.VALIDATION, Split.TEST):
        for i in range(clips):
            points = int(rng.integers(60, 200)) if task.per_frame else 1
            truth, known = truths(task, points, rng), np.ones(points, np.bool_)
            if task.per_frame:
                known[: points // 8] = False
            times_s = np.arange(points) / RATE_HZ if task.per_frame else None
            clip = Clip(
                clip_id=f"{split}-{i:02}",
                video_uri="",
                split=split,
                labels=Labels(values=truth, known=known),
                participant_id=f"{split}-person-{i // 2}" if i else None,
                question=None if task.per_frame else 1 + i % 3,
                attributes={"gender": "Woman" if i % 2 else "Man"},
            )
            clips_of.setdefault(split, []).append(clip)
            own: dict[View, Embedding] = {}
            for view, noise in zip(VIEWS, (1.5, 3.0, 2.0), strict=True):
                there = i != clips - 1 and (view != "text" or i > 0)
                said = signal(task, truth) + noise * rng.standard_normal((points, task.num_outputs))
                said = said.astype(np.float32)
                if isinstance(task.output, Classes):
                    chances = np.exp(said) / np.exp(said).sum(axis=1, keepdims=True)
                else:
                    chances = 1 / (1 + np.exp(-said))
                own[view] = Embedding(
                    clip_id=clip.clip_id,
                    view=view,
                    presence=PRESENT if there else absent("left out on purpose"),
                    vectors=said if there else None,
                    logits=said if there else None,
                    probabilities=np.asarray(chances, np.float32) if there else None,
                    points_s=times_s,
                )
            inputs.setdefault(split, []).append(own)
    return evaluated(task, clips_of, inputs)


def evaluated(
    task: Task, clips_of: dict[Split, list[Clip]], inputs: dict[Split, list[dict[View, Embedding]]]
) -> MadeUp:
    points = {
        split: LabelledPoints.of(found, task, [next(iter(own.values())).points_s for own in inputs[split]])
        for split, found in clips_of.items()
    }
    train = points.pop(Split.TRAIN)
    steps = (Smooth(kernel="mean", radius=0.4), Filter(shortest_s=0.4)) if task.per_frame and task.is_binary else ()
    config = EnsembleConfig(fusion=ClassWeightedConfig(), inputs="logits", views=VIEWS, decision=Decision(steps=steps))
    dims = dict.fromkeys(VIEWS, task.num_outputs)
    card = Card(kind="ensemble", task=task, recipe="made/up", config={}, seeds=(1, 2))
    states = {seed_name(seed): {"scores": view_scores(task, seed)} for seed in (1, 2)}
    models = member_models(states, config.members_of((1, 2)), dims, task.num_outputs)
    ensemble = Ensemble(models, config, dims, card)
    prior = train.prior(task)
    scores = {split: scored(ensemble, inputs[split]) for split in points}
    served = {split: answers_of(scores[split], points[split], prior, task) for split in points}
    whole = RowResult(
        recipe="ensemble",
        description="mean of 2 seeds",
        views=VIEWS,
        reports="ensemble",
        answers=served,
        without={"text": dict.fromkeys(points, 0.1)},
        seeds=(1, 2),
        artifact_id="e",
    )
    single = RowResult(
        recipe="single",
        description="each seed",
        views=VIEWS,
        reports="single",
        answers={s: ensemble_answers(ensemble, inputs[s], points[s], prior, each_member=True) for s in points},
        seeds=(1, 2),
    )
    parts = [
        RowResult(
            recipe=view,
            description="the encoder by itself",
            views=(view,),
            reports="encoder",
            answers={s: encoder_answers([own[view] for own in inputs[s]], points[s], prior, task) for s in points},
        )
        for view in VIEWS
    ]
    results = StudyResults(
        study="made/up",
        task=task,
        points=points,
        train=train,
        prior=prior,
        rows=(*baselines(train, points, task), *parts, single, whole),
        headline="ensemble",
        headline_is="the ensemble, as it is served",
        served=served,
        scores=scores,
    )
    return MadeUp(task=task, ensemble=ensemble, inputs=inputs, results=results)

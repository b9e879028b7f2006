"""Losses, constants and scores of every kind of task, against torch's, SciPy's and sums by hand."""

import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from sklearn import metrics
from torch import Tensor

from twominds.errors import ConfigError
from twominds.tasks import AH_VIDEO, EXPRESSION, MIMICRY, TASKS, Intensities, Task
from twominds.training.objective import CriterionName, Objective

f1_score = cast(Any, metrics).f1_score
WIDE = replace(MIMICRY, output=Intensities(names=("calm", "tense"), low=-1.0, high=3.0))


def drawn(points: int, outputs: int, seed: int = 0) -> Tensor:
    return torch.randn(points, outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def intensities(logits: Tensor, low: float = 0.0, high: float = 1.0) -> npt.NDArray[np.float64]:
    return low + (high - low) / (1 + np.exp(-logits.numpy()))


def concordance(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """Lin's (1989), with population moments."""
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    return float(2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_loss_follows_from_the_output(task: Task) -> None:
    assert Objective(task=task).name == ("mse" if task is MIMICRY else "cross_entropy")
    assert Objective(task=task).num_outputs == {"ah-video": 2, "ah-frame": 2, "expression": 8, "mimicry": 6}[task.name]
    assert Objective(task=task).metric.name == task.metric


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_torchs(smoothing: float, weighted: bool) -> None:
    logits, labels = drawn(9, 8), torch.arange(9) % 8
    weights = torch.linspace(0.5, 2, 8, dtype=torch.float64) if weighted else None
    loss = Objective(task=EXPRESSION).loss(logits, labels, class_weights=weights, label_smoothing=smoothing)
    assert torch.equal(loss, F.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing))


def test_sigmoid_cross_entropy_by_hand() -> None:
    """Each class is a question of its own; smoothing goes half-way to don't know."""
    logits, labels, weights, smoothing = drawn(5, 3), [0, 2, 1, 1, 0], [2.0, 0.5, 1.0], 0.2
    total = 0.0
    for row, label in zip(cast("list[list[float]]", logits.tolist()), labels, strict=True):
        of_point = 0.0
        for c, logit in enumerate(row):
            chance, truth = 1 / (1 + math.exp(-logit)), 0.9 if c == label else 0.1
            of_point -= truth * math.log(chance) + (1 - truth) * math.log(1 - chance)
        total += weights[label] * of_point / 3
    task = replace(EXPRESSION, output=replace(EXPRESSION.output, names=("a", "b", "c")))
    loss = Objective(task=task, criterion="sigmoid_cross_entropy").loss(
        logits, torch.tensor(labels), class_weights=torch.tensor(weights).double(), label_smoothing=smoothing
    )
    assert loss.item() == pytest.approx(total / sum(weights[label] for label in labels))


@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy_by_hand(weighted: bool) -> None:
    """One question; smoothing goes half-way to don't know, a yes counts negatives over positives, points are alike."""
    logits, labels, smoothing = drawn(7, 2), [0, 1, 1, 0, 1, 1, 0], 0.1
    objective = Objective(criterion="binary_cross_entropy")
    weights = objective.class_weights(torch.tensor([0] * 30 + [1] * 20)) if weighted else None
    total = 0.0
    for (no, yes), label in zip(cast("list[list[float]]", logits.tolist()), labels, strict=True):
        chance, truth = 1 / (1 + math.exp(no - yes)), label * (1 - smoothing) + smoothing / 2
        total -= (1.5 if weighted else 1.0) * truth * math.log(chance) + (1 - truth) * math.log(1 - chance)
    loss = objective.loss(logits, torch.tensor(labels), class_weights=weights, label_smoothing=smoothing)
    assert loss.item() == pytest.approx(total / len(labels))
    assert objective.weights_of_mean(torch.ones(2)) is None
    with pytest.raises(ConfigError, match="two classes, not for 8"):
        Objective(task=EXPRESSION, criterion="binary_cross_entropy")


def test_the_best_of_some_thresholds_is_the_score() -> None:
    logits, labels, left_out = drawn(60, 2), torch.arange(60) % 3 % 2, torch.tensor([1, 0, 0])
    thresholds = tuple((np.arange(25, 75) / 100).tolist())
    chance = 1 / (1 + np.exp(logits[:, 0].numpy() - logits[:, 1].numpy()))
    truth = torch.cat([labels, left_out]).numpy()
    by_hand = [f1_score(truth, [*(chance > t).astype(int), 0, 0, 0], average="macro") for t in thresholds]
    score = Objective(thresholds=thresholds).score(labels, left_out, logits, np.asarray(0))
    assert score == pytest.approx(max(by_hand))
    assert score > Objective().score(labels, left_out, logits, np.asarray(0))


@pytest.mark.parametrize(("task", "low", "high"), [(MIMICRY, 0.0, 1.0), (WIDE, -1.0, 3.0)])
def test_losses_of_intensities(task: Task, low: float, high: float) -> None:
    logits, outputs = drawn(40, task.num_outputs), task.num_outputs
    truth = (
        torch.rand(40, outputs, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * (high - low) + low
    )
    said, true = intensities(logits, low, high), truth.numpy()
    assert said.min() > low
    assert said.max() < high
    columns = [(said[:, k], true[:, k]) for k in range(outputs)]
    expected: dict[CriterionName, float] = {
        "mse": float(np.mean((said - true) ** 2)),
        "pearson": 1 - float(np.mean([np.corrcoef(x, y)[0, 1] for x, y in columns])),
        "ccc": 1 - float(np.mean([concordance(x, y) for x, y in columns])),
    }
    for name, value in expected.items():
        found = Objective(task=task, criterion=name).loss(logits, truth)
        assert found.item() == pytest.approx(value, abs=1e-5), name


PUBLISHED_WEIGHTS = (1, 1 / 8, 1 / 4, 1 / 2, 1 / 8, 1 / 8)
"""HSEmotion's, of the six emotions; normalised .4706 .0588 .1176 .2353 .0588 .0588."""


def test_the_weighted_pearson_loss_by_numpy_and_its_slope_by_differences() -> None:
    logits, truth = drawn(12, 6), torch.rand(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    objective = Objective(task=MIMICRY, criterion="pearson", output_weights=PUBLISHED_WEIGHTS)
    said = intensities(logits, 0.0, 1.0)
    correlations = [np.corrcoef(said[:, k], truth.numpy()[:, k])[0, 1] for k in range(6)]
    expected = 1 - float(np.dot([0.4706, 0.0588, 0.1176, 0.2353, 0.0588, 0.0588], correlations))
    assert objective.loss(logits, truth).item() == pytest.approx(expected, abs=2e-4)  # of weights with four digits

    def loss(x: Tensor) -> Tensor:
        return objective.loss(x, truth)

    check = cast(Any, torch.autograd.gradcheck)
    assert check(loss, logits.clone().requires_grad_(), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("criterion", ["mse", "pearson", "ccc"])
def test_equal_weights_are_none(criterion: CriterionName) -> None:
    logits, truth = drawn(9, 6), torch.rand(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    plain, weighted = (Objective(task=MIMICRY, criterion=criterion, output_weights=w) for w in (None, (2.0,) * 6))
    torch.testing.assert_close(plain.loss(logits, truth), weighted.loss(logits, truth))


@pytest.mark.parametrize(
    ("task", "weights"),
    [(MIMICRY, (1.0,)), (MIMICRY, (-1.0, *[1.0] * 5)), (MIMICRY, (0.0,) * 6), (AH_VIDEO, (1.0, 1.0))],
)
def test_weights_that_do_not_fit_are_refused(task: Task, weights: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="output_weights are one for each intensity"):
        Objective(task=task, output_weights=weights)


@pytest.mark.parametrize("criterion", ["mse", "pearson", "ccc"])
@pytest.mark.parametrize("constant", ["answer", "truth", "both"])
def test_a_constant_has_a_finite_slope(criterion: CriterionName, constant: str) -> None:
    logits, truth = drawn(6, 6).float(), torch.rand(6, 6, generator=torch.Generator().manual_seed(2))
    if constant != "truth":
        logits = torch.full_like(logits, 0.3)
    if constant != "answer":
        truth = torch.full_like(truth, 0.7)
    logits.requires_grad_()
    loss = Objective(task=MIMICRY, criterion=criterion).loss(logits, truth)
    (slope,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert slope.isfinite().all()
    if criterion == "pearson":  # nothing is correlated with a constant
        assert loss.item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("criterion", ["mse", "pearson", "ccc"])
def test_a_loss_of_intensities_is_none_of_classes(criterion: CriterionName) -> None:
    with pytest.raises(ConfigError, match=f"{criterion} is one of intensities, which ah-video is not about"):
        Objective(task=AH_VIDEO, criterion=criterion)


@pytest.mark.parametrize("criterion", ["cross_entropy", "sigmoid_cross_entropy"])
def test_a_loss_of_classes_is_none_of_intensities(criterion: CriterionName) -> None:
    with pytest.raises(ConfigError, match=f"{criterion} is one of classes, which mimicry is not about"):
        Objective(task=MIMICRY, criterion=criterion)


def test_constants_by_hand() -> None:
    assert Objective(task=EXPRESSION).constant(torch.tensor([3, 5, 5, 3, 1])) == 3, "of equals the first"
    truth = torch.tensor([[0.0, 0.5], [1.0, 0.1], [0.5, 0.9]])
    assert Objective(task=WIDE).constant(truth).tolist() == pytest.approx([0.5, 0.5])


def test_classes_that_cannot_be_answered_are_counted_with_the_constant() -> None:
    objective, logits = Objective(), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.2, 0.1]])
    labels, left_out = torch.tensor([0, 1, 1]), torch.tensor([1, 0])
    score = objective.score(labels, left_out, logits, objective.constant(torch.tensor([1, 1, 0])))
    assert score == pytest.approx(f1_score([0, 1, 1, 1, 0], [0, 1, 0, 1, 1], average="macro"))
    assert objective.score(labels, left_out[:0], logits, np.asarray(1)) == pytest.approx(
        f1_score([0, 1, 1], [0, 1, 0], average="macro")
    )


def test_intensities_that_cannot_be_answered_are_counted_with_the_mean() -> None:
    objective, logits = Objective(task=WIDE), drawn(12, 2)
    truth, left_out = drawn(12, 2, 1), drawn(5, 2, 2)
    constant = objective.constant(truth)
    score = objective.score(truth, left_out, logits, constant)
    said = np.concatenate([intensities(logits, -1, 3), np.tile(truth.numpy().mean(axis=0), (5, 1))])
    true = torch.cat([truth, left_out]).numpy()
    assert score == pytest.approx(np.mean([np.corrcoef(said[:, k], true[:, k])[0, 1] for k in range(2)]))


def test_classes_have_weights_and_intensities_none() -> None:
    weights = Objective().class_weights(torch.tensor([0, 1, 1, 1]))
    assert weights is not None
    assert weights.tolist() == pytest.approx([4 / 2, 4 / 6])
    assert Objective(task=MIMICRY).class_weights(torch.rand(4, 6)) is None

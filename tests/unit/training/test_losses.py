from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from twominds.errors import ConfigError
from twominds.fusion.model import FusionOutput
from twominds.training.losses import FusionLoss, balanced_class_weights, fusion_loss, loss_of_logits
from twominds.training.objective import Objective

CRITERION = Objective().loss

LOGITS = torch.tensor([[2.0, -1.0], [0.5, 0.0], [-1.0, 1.0]])
PROTOTYPE_LOGITS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
LABELS = torch.tensor([0, 1, 1])
WEIGHTS = torch.tensor([1.5, 0.75])


def smoothed(logits: Tensor, smoothing: float) -> float:
    """Class-weighted cross entropy with label smoothing, written out clip by clip."""
    total, weight = 0.0, 0.0
    labels: list[int] = LABELS.numpy().tolist()
    w: list[float] = WEIGHTS.numpy().tolist()
    for row, label in zip(logits.double().numpy(), labels, strict=True):
        log_p = row - np.log(np.exp(row).sum())
        target = [smoothing / 2 + (1 - smoothing) * (c == label) for c in range(2)]
        total -= sum(target[c] * w[c] * log_p[c] for c in range(2))
        weight += w[label]
    return total / weight


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_smoothed_cross_entropy_by_hand(smoothing: float) -> None:
    output = FusionOutput(logits=LOGITS, fused=LOGITS)
    loss = loss_of_logits(output, LABELS, class_weights=WEIGHTS, label_smoothing=smoothing, criterion=CRITERION)
    assert loss.item() == pytest.approx(smoothed(LOGITS, smoothing), rel=1e-6)


def test_cross_entropy_is_torchs_to_the_bit_and_batches_over_models() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(9) % 3
    stacked = torch.randn(4, 9, 3, generator=generator).requires_grad_()

    def of_one(logits: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
        output = FusionOutput(logits=logits, fused=logits)
        return loss_of_logits(output, labels, class_weights=weights, label_smoothing=smoothing, criterion=CRITERION)

    for weights in (None, torch.tensor([0.5, 2.0, 1.1])):
        for smoothing in (0.0, 0.02):
            batched = torch.vmap(partial(of_one, weights=weights, smoothing=smoothing))(stacked)
            for row, logits in zip(batched, stacked, strict=True):
                ours = of_one(logits, weights, smoothing)
                torchs = F.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)
                assert torch.equal(ours, torchs)
                slopes = [torch.autograd.grad(loss, stacked, retain_graph=True)[0] for loss in (ours, torchs)]
                assert torch.equal(*slopes)
                assert row.item() == pytest.approx(torchs.item(), rel=1e-6)


def test_equation_10_by_hand() -> None:
    output = FusionOutput(logits=LOGITS, fused=LOGITS, prototype_logits=PROTOTYPE_LOGITS, diversity=torch.tensor(0.7))
    objective = FusionLoss(prototype_weight=0.2, diversity_weight=0.1)
    loss = objective(output, LABELS, class_weights=WEIGHTS, label_smoothing=0.02, criterion=CRITERION)
    expected = smoothed(LOGITS, 0.02) + 0.2 * smoothed(PROTOTYPE_LOGITS, 0.02) + 0.1 * 0.7
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weights", [WEIGHTS, None])
def test_models_with_settings_of_their_own_get_each_its_own_loss(weights: Tensor | None) -> None:
    def of_one(logits: Tensor, smoothing: Tensor, prototype_weight: Tensor, diversity_weight: Tensor) -> Tensor:
        return fusion_loss(
            FusionOutput(logits=logits, fused=logits, prototype_logits=PROTOTYPE_LOGITS, diversity=logits.abs().mean()),
            LABELS,
            class_weights=weights,
            label_smoothing=smoothing,
            criterion=CRITERION,
            prototype_weight=prototype_weight,
            diversity_weight=diversity_weight,
        )

    settings = [(0.0, 0.2, 0.1), (0.02, 0.0, 0.3), (0.3, 0.7, 0.0)]
    stacked = torch.stack([LOGITS, LOGITS.flip(1), 2 * LOGITS])
    losses = torch.vmap(of_one)(stacked, *(torch.tensor(of_all) for of_all in zip(*settings, strict=True)))
    for loss, logits, (smoothing, prototype_weight, diversity_weight) in zip(losses, stacked, settings, strict=True):
        expected = (
            F.cross_entropy(logits, LABELS, weight=weights, label_smoothing=smoothing)
            + prototype_weight * F.cross_entropy(PROTOTYPE_LOGITS, LABELS, weight=weights, label_smoothing=smoothing)
            + diversity_weight * logits.abs().mean()
        )
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_defaults_are_the_papers() -> None:
    assert (FusionLoss().prototype_weight, FusionLoss().diversity_weight) == (0.2, 0.0)


def test_a_model_without_prototypes_gets_the_first_term() -> None:
    output = FusionOutput(logits=LOGITS, fused=LOGITS)
    loss = FusionLoss()(output, LABELS, class_weights=WEIGHTS, label_smoothing=0.0, criterion=CRITERION)
    assert loss.item() == pytest.approx(smoothed(LOGITS, 0.0), rel=1e-6)


def test_balanced_weights_by_hand() -> None:
    assert balanced_class_weights(torch.tensor([0, 1, 1, 1]), 2).tolist() == pytest.approx([4 / 2, 4 / 6])
    assert balanced_class_weights(torch.tensor([1, 1]), 2).tolist() == [0.0, 0.5]


def test_negative_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="prototype_weight"):
        FusionLoss(prototype_weight=-1)

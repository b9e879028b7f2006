import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import build_fusion
from twominds.fusion.model import Fusion, FusionOutput
from twominds.fusion.simple import AttentionSumConfig
from twominds.records import Modality, View
from twominds.training.fit_config import FitConfig
from twominds.training.optim import OptimizerName, make_optimizer
from twominds.training.stacked import ModelStack, RowOptimizer, reached, weights_of

FACE, TEXT = Modality.FACE, Modality.TEXT
RATES, DECAYS, CLIPS = (1e-2, 3e-2, 1e-3), (0.0, 0.3, 0.02), (1.0, 0.5, None)
"""Of three rows."""


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("name", ["rmsprop", "adamw", "adam", "sgd"])
def test_every_row_takes_the_steps_of_torch(name: OptimizerName, momentum: float) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 7, generator=generator)
    expected: list[Tensor] = []
    # Norms about 0.03, 3 and 300: below the clip, above it, far above it.
    gradients = [torch.randn(3, 7, generator=generator) * 10 ** (2 * (step % 3) - 2) for step in range(6)]
    for row, (rate, decay, clip) in enumerate(zip(RATES, DECAYS, CLIPS, strict=True)):
        parts = [nn.Parameter(start[row, :4].view(2, 2).clone()), nn.Parameter(start[row, 4:].clone())]
        group = [{"params": parts}]
        optimizer = make_optimizer(name, group, learning_rate=rate, weight_decay=decay, momentum=momentum)
        for step, gradient in enumerate(gradients):
            optimizer.param_groups[0]["lr"] = rate / (1 + step)
            parts[0].grad, parts[1].grad = gradient[row, :4].view(2, 2).clone(), gradient[row, 4:].clone()
            if clip is not None:
                nn.utils.clip_grad_norm_(parts, clip)
            optimizer.step()
        expected.append(torch.cat([part.detach().flatten() for part in parts]))

    matrix = start.clone().requires_grad_()
    common = FitConfig(optimizer=name, momentum=momentum)
    rows = RowOptimizer(
        [replace(common, weight_decay=d, grad_clip=clip) for d, clip in zip(DECAYS, CLIPS, strict=True)], matrix
    )
    for step, gradient in enumerate(gradients):
        rows.set_learning_rates([rate / (1 + step) for rate in RATES])
        matrix.grad = gradient.clone()
        rows.step(matrix)
    assert matrix.grad is None
    torch.testing.assert_close(matrix.detach(), torch.stack(expected), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["rmsprop", "adamw", "adam", "sgd"])
def test_rows_that_stay_step_as_if_none_had_left(name: OptimizerName) -> None:
    def stepped(leave_after: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        matrix = torch.randn(3, 5, generator=generator).requires_grad_()
        rows = RowOptimizer([FitConfig(optimizer=name)] * 3, matrix)
        rows.set_learning_rates(RATES)
        for step in range(4):
            gradient = torch.randn(3, 5, generator=generator)
            if step == leave_after:
                matrix = matrix.detach()[[0, 2]].requires_grad_()
                rows.keep([0, 2])
            matrix.grad = gradient if len(matrix) == 3 else gradient[[0, 2]]
            rows.step(matrix)
        return matrix.detach()

    torch.testing.assert_close(stepped(leave_after=2), stepped(leave_after=9)[[0, 2]], rtol=0, atol=0)


def models(count: int) -> list[Fusion]:
    """Each with z-scores of its own: of other training clips."""
    config = AttentionSumConfig(hidden_dim=4, dropout=0.0, standardize="zscore")
    splits = [(inputs(20 + seed), torch.arange(20 + seed) % 2) for seed in range(count)]
    return [
        build_fusion(config, dims=train[0].dims, num_outputs=2, seed=seed, train=train)
        for seed, train in enumerate(splits)
    ]


def inputs(clips: int) -> FusionInputs:
    generator = torch.Generator().manual_seed(clips)
    tokens: dict[View, Tensor] = {
        FACE: torch.randn(clips, 4, generator=generator),
        TEXT: torch.randn(clips, 3, generator=generator),
    }
    return FusionInputs(tokens=tokens, mask=torch.rand(clips, 2, generator=generator) > 0.2)


def objective(output: FusionOutput, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output.logits, labels)


def stack_of(several: list[Fusion]) -> ModelStack:
    return ModelStack(several, [name for name, _ in several[0].named_parameters()], objective, {})


def test_losses_logits_and_gradients_are_those_of_the_models_one_by_one() -> None:
    several, labels = models(3), torch.arange(15).view(3, 5) % 2
    stack, own = stack_of(several), inputs(15)
    clips = own.select(torch.arange(15).view(3, 5))
    losses = stack.losses(clips, labels)
    losses.sum().backward()
    assert stack.matrix.grad is not None
    for row, model in enumerate(several):
        loss = objective(model(own.select(torch.arange(15).view(3, 5)[row])), labels[row])
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        torch.testing.assert_close(losses[row], loss)
        torch.testing.assert_close(stack.matrix.grad[row], gradient)
        torch.testing.assert_close(stack.logits(own)[row], model(own).logits)


def test_a_row_is_a_copy_of_one_models_weights_with_its_buffers() -> None:
    several = models(3)
    stack = stack_of(several)
    stack.keep([0, 2])
    row = stack.row(1)
    with torch.no_grad():
        stack.matrix.zero_()
    assert row.keys() == several[2].state_dict().keys()
    assert all(torch.equal(tensor, row[name]) for name, tensor in several[2].state_dict().items())
    assert stack.matrix.is_leaf
    assert stack.matrix.requires_grad


def test_weights_of_a_model_are_its_parameters_and_all_its_buffers() -> None:
    module = nn.BatchNorm1d(2)
    module.register_buffer("passing", torch.ones(1), persistent=False)
    assert weights_of(module).keys() == module.state_dict().keys() | {"passing"}


def test_what_the_loss_does_not_need_and_what_is_frozen_is_not_reached() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model.register_parameter("idle", nn.Parameter(torch.ones(1)))
    model[0].bias.requires_grad_(False)
    assert reached(model, model(torch.ones(1, 2)).sum()) == ["0.weight", "1.weight", "1.bias"]


def test_the_optimizers_settings_are_those_of_each_rows_config() -> None:
    config = FitConfig(learning_rate=0.5, weight_decay=0.25, grad_clip=2.0)
    other = FitConfig(learning_rate=0.125, weight_decay=0.0, grad_clip=None)
    rows = RowOptimizer([config, other], torch.zeros(2, 3))
    assert [rows.learning_rate.tolist(), rows.weight_decay.tolist(), rows.grad_clip.tolist()] == [
        [[0.5], [0.125]], [[0.25], [0.0]], [[2.0], [math.inf]],
    ]  # fmt: skip


def test_settings_of_the_objective_stay_with_their_rows() -> None:
    several, labels = models(3), torch.arange(15).view(3, 5) % 2

    def weighted(output: FusionOutput, labels: Tensor, *, weight: Tensor) -> Tensor:
        return weight * objective(output, labels)

    names = [name for name, _ in several[0].named_parameters()]
    stack = ModelStack(several, names, weighted, {"weight": torch.tensor([1.0, 2.0, 3.0])})
    clips = inputs(15).select(torch.arange(15).view(3, 5))
    expected = stack_of(several).losses(clips, labels) * torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(stack.losses(clips, labels), expected)
    stack.keep([2])
    torch.testing.assert_close(stack.losses(inputs(15).select(torch.arange(10, 15)[None]), labels[2:]), expected[2:])

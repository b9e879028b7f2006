import math
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from twominds.errors import ConfigError
from twominds.training.fit_config import FitConfig
from twominds.training.optim import OptimizerName, Schedule, make_optimizer, trainable_groups

each_optimizer = pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", torch.optim.AdamW),
        ("adam", partial(torch.optim.Adam, eps=1e-7)),  # Keras's epsilon
        ("rmsprop", torch.optim.RMSprop),
        ("sgd", torch.optim.SGD),
    ],
)


@pytest.mark.parametrize("floor", [0.0, 0.01])
def test_cosine_equals_torch(floor: float) -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10, eta_min=floor)
    schedule = Schedule(name="cosine", epochs=10, floor=floor)
    for epoch in range(1, 11):
        optimizer.step()
        reference.step()
        schedule.step(epoch, validation_loss=1.0)
        assert schedule.rate(1.0) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)


def test_a_floor_above_the_learning_rate_is_refused() -> None:
    with pytest.raises(ConfigError, match="learning_rate_floor"):
        FitConfig(learning_rate=1e-3, learning_rate_floor=1e-2)


def test_plateau_equals_torch() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2, threshold=0.0)
    schedule = Schedule(name="plateau", epochs=99)
    for epoch, loss in enumerate([5, 4, 4, 4, 4, 3, 3, 3, 3, 3, 3, 3, 2, 9, 9, 9, 9], start=1):
        reference.step(loss)
        schedule.step(epoch, validation_loss=loss)
        assert schedule.scale == optimizer.param_groups[0]["lr"], epoch


def test_none_is_constant() -> None:
    schedule = Schedule(name="none", epochs=5)
    schedule.step(1, math.inf)
    assert schedule.scale == 1.0


@each_optimizer
def test_optimizers_take_their_settings(name: OptimizerName, kind: Callable[..., torch.optim.Optimizer]) -> None:
    groups = trainable_groups(nn.Linear(2, 1), 0.1)
    optimizer = make_optimizer(name, groups, learning_rate=0.1, weight_decay=0.01, momentum=0.9)
    assert isinstance(optimizer, type(kind(nn.Linear(2, 1).parameters(), lr=0.1)))
    assert optimizer.defaults.get("eps") == kind(nn.Linear(2, 1).parameters(), lr=0.1).defaults.get("eps")
    assert optimizer.defaults["weight_decay"] == 0.01
    assert optimizer.defaults.get("momentum", 0.9) == 0.9


@each_optimizer
def test_optimizers_step_as_torchs_own_and_leave_its_compiler_alone(
    name: OptimizerName, kind: Callable[..., torch.optim.Optimizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    settings = {"lr": 0.1, "weight_decay": 0.01, **({} if name.startswith("adam") else {"momentum": 0.9})}
    reference = kind(theirs.parameters(), **settings)
    x = torch.randn(4, 3)
    for _ in range(3):
        theirs(x).square().sum().backward()
        reference.step()
        reference.zero_grad()
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # to import it is an error now
    groups = trainable_groups(ours, 0.1)
    optimizer = make_optimizer(name, groups, learning_rate=0.1, weight_decay=0.01, momentum=0.9)
    for _ in range(3):
        ours(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
    for own, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own, their)
        assert own.requires_grad
        assert own.grad is None


class TwoRates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(2, 2), nn.Linear(2, 2)

    def parameter_groups(self, lr: float) -> list[dict[str, object]]:
        return [
            {"params": list(self.backbone.parameters()), "lr": lr / 10},
            {"params": list(self.head.parameters()), "lr": lr},
        ]


def test_a_models_own_groups_are_used_and_frozen_parameters_are_not() -> None:
    assert [group["lr"] for group in trainable_groups(TwoRates(), 1.0)] == [0.1, 1.0]
    model = nn.Linear(2, 1)
    model.bias.requires_grad_(False)
    assert [p is model.weight for p in trainable_groups(model, 1.0)[0]["params"]] == [True]

"""Two processes over gloo train like one: this file is both the test and what the processes run."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from twominds.training.fit import FitConfig, FitResult, fit
from twominds.training.losses import loss_of_logits
from twominds.training.objective import Objective
from twominds.training.workers import ALONE, Workers, share_of

CONFIG = FitConfig(
    epochs=4, batch_size=4, accumulate=2, learning_rate=1e-2, weight_decay=0.1, label_smoothing=0.1, grad_clip=0.5
)
CASES = {
    # 21 clips are windows of 8, 8 and 5, and the last batch is one clip: a worker has none of it.
    "adamw": replace(CONFIG, optimizer="adamw"),
    "rmsprop": replace(CONFIG, scheduler="plateau", accumulate=1),
    "sgd": replace(CONFIG, optimizer="sgd", class_weights=False, grad_clip=None, evaluation_batch_size=3),
}


@dataclass(frozen=True)
class Output:
    logits: Tensor


class Clips:
    in_memory = False
    left_out = torch.tensor([0, 1, 1])

    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.values = torch.randn(count, 6, generator=generator)
        self.labels = (self.values[:, 0] > 0.5).long()  # the classes are not equally frequent

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> Tensor:
        return self.values[indices]


class Small(nn.Module):
    """Two learning rates, a frozen layer, and a layer that no gradient reaches."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.frozen, self.unused = nn.Linear(6, 6).requires_grad_(False), nn.Linear(2, 2)
        self.hidden, self.classifier = nn.Linear(6, 8), nn.Linear(8, 2)

    def parameter_groups(self, lr: float) -> list[dict[str, object]]:
        return [
            {"params": [*self.hidden.parameters(), *self.unused.parameters()], "lr": lr / 3},
            {"params": list(self.classifier.parameters()), "lr": lr},
        ]

    def forward(self, values: Tensor) -> Output:
        return Output(logits=self.classifier(torch.tanh(self.hidden(values + self.frozen(values)))))


def trained(config: FitConfig, model: Small, workers: Workers = ALONE) -> FitResult:
    validation = Clips(9, seed=1)
    return fit(
        model, Clips(21, seed=0), validation, config, seed=3, loss=loss_of_logits, objective=Objective(),
        scored_on=(validation, Clips(5, seed=2)), workers=workers,
    )  # fmt: skip


def curve(result: FitResult) -> list[list[float]]:
    return [[e.train_loss, e.validation_loss, e.validation_score, e.selection_loss] for e in result.history]


def main(rank: int, count: int, folder: Path) -> None:
    """What each process does: every case, after the others' weights were made to differ."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    workers = Workers.joined("cpu")
    assert (workers.rank, workers.count, workers.first) == (rank, count, rank == 0)
    assert workers.agreed(rank == 0)
    assert not workers.agreed(rank != 0)
    curves: dict[str, list[list[float]]] = {}
    for name, config in CASES.items():
        model = Small(seed=rank)
        curves[name] = curve(trained(config, model, workers))
        safetensors.torch.save_file(model.state_dict(), folder / f"{name}-{rank}.safetensors")
    (folder / f"{rank}.json").write_text(json.dumps(curves))
    distributed.destroy_process_group()


def test_two_workers_train_like_one_with_the_same_global_batch(
    together: Callable[[str, int], None], tmp_path: Path
) -> None:
    together(__file__, 2)
    both = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert both[0] == both[1], "workers that see other numbers may decide otherwise"
    for name, config in CASES.items():
        model = Small(seed=0)
        alone = curve(trained(config, model))
        assert both[0][name] == [pytest.approx(epoch, abs=1e-4) for epoch in alone], name
        weights = [safetensors.torch.load_file(tmp_path / f"{name}-{rank}.safetensors") for rank in range(2)]
        start = Small(seed=0)
        for parameter, tensor in model.state_dict().items():
            assert torch.equal(weights[0][parameter], weights[1][parameter])
            torch.testing.assert_close(weights[0][parameter], tensor, atol=1e-4, rtol=1e-3)
        for tensor, untouched in zip(weights[0]["unused.weight"], start.unused.weight, strict=True):
            assert torch.equal(tensor, untouched), "a parameter without a gradient was decayed"


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, torch.tensor([3.0, 0.5, 1.25])])
def test_shares_of_the_parts_make_the_loss_of_the_batch(weights: Tensor | None, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(7, 3, generator=generator), torch.tensor([0, 1, 1, 2, 0, 1, 0])

    def loss(chosen: slice) -> Tensor:
        return F.cross_entropy(logits[chosen], labels[chosen], weight=weights, label_smoothing=smoothing)

    parts = [slice(rank, None, 3) for rank in range(3)]
    total = sum(share_of(labels[part], labels, weights) * loss(part).item() for part in parts)
    assert total == pytest.approx(loss(slice(None)).item(), rel=1e-6)


def test_every_clip_is_one_workers_own() -> None:
    batch = torch.randperm(10)
    parts = [Workers(rank=rank, count=4).own(batch) for rank in range(4)]
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(10))
    assert [len(part) for part in parts] == [3, 3, 2, 2]
    assert len(Workers(rank=1, count=2).own(batch[:1])) == 0


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    # What main raises ends the process before this. Now and then a thread of Gloo's aborts an interpreter that is shut
    # down ("terminate called without an active exception", no Python frame left), with all results written.
    os._exit(0)

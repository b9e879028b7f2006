"""DeepSpeed by configuration; where it is installed and can compile, its engine steps like plain training."""

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, distributed, nn

from twominds.errors import ConfigError, TrainingError
from twominds.training.deepspeed import DeepSpeedConfig, load_deepspeed
from twominds.training.fit import EpochReport, FitConfig, FitResult, fit
from twominds.training.losses import loss_of_logits
from twominds.training.objective import Objective
from twominds.training.workers import ALONE, Workers

CONFIG = FitConfig(
    epochs=3, batch_size=4, accumulate=2, learning_rate=1e-2, weight_decay=0.1, optimizer="adamw", label_smoothing=0.1
)
CASES = {
    "stage 1": (DeepSpeedConfig(zero_stage=1), replace(CONFIG, optimizer="rmsprop")),
    # Of the three optimizers only this one would show a gradient that is out of scale, and clipping would hide it.
    "stage 2": (DeepSpeedConfig(zero_stage=2), replace(CONFIG, optimizer="sgd", grad_clip=None)),
    "stage 3": (DeepSpeedConfig(zero_stage=3), CONFIG),
    "offloaded": (DeepSpeedConfig(zero_stage=2, offload_optimizer=True), CONFIG),
}


def test_the_configuration_has_deepspeeds_own_names() -> None:
    fit_config = FitConfig(batch_size=10, accumulate=3, grad_clip=0.5, precision="bf16")
    config = DeepSpeedConfig(zero_stage=3, offload_optimizer=True).to_json(fit_config, workers=4)
    assert json.loads(json.dumps(config)) == config
    # https://www.deepspeed.ai/docs/config-json/
    assert config["train_micro_batch_size_per_gpu"] == 3, "of the 10 clips no worker has more"
    assert config["gradient_accumulation_steps"] == 3
    assert config["gradient_clipping"] == 0.5
    assert config["zero_optimization"] == {"stage": 3, "offload_optimizer": {"device": "cpu"}}
    assert config["torch_autocast"] == {"enabled": True, "dtype": "bfloat16"}
    plain = DeepSpeedConfig(zero_stage=1).to_json(FitConfig(grad_clip=None), workers=1)
    assert plain["zero_optimization"] == {"stage": 1}
    assert (plain["gradient_clipping"], plain["torch_autocast"]["enabled"]) == (0.0, False)


def test_a_stage_that_zero_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="zero_stage"):
        DeepSpeedConfig(zero_stage=cast("Any", 4))


def test_without_the_package_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(ConfigError, match=r"pip install twominds\[gpu\]"):
        load_deepspeed()


@dataclass(frozen=True)
class Output:
    logits: Tensor


class Clips:
    in_memory = True
    left_out = torch.tensor([0, 1, 1])

    def __init__(self, count: int, seed: int) -> None:
        self.values = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
        self.labels = (self.values[:, 0] > 0.5).long()

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> Tensor:
        return self.values[indices]


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.classifier = nn.Linear(6, 8), nn.Linear(8, 2)

    def parameter_groups(self, lr: float) -> list[dict[str, object]]:
        return [
            {"params": list(self.hidden.parameters()), "lr": lr / 3},
            {"params": list(self.classifier.parameters()), "lr": lr},
        ]

    def forward(self, values: Tensor) -> Output:
        return Output(logits=self.classifier(torch.tanh(self.hidden(values))))


def trained(config: FitConfig, workers: Workers = ALONE, **more: Any) -> tuple[FitResult, dict[str, Tensor]]:
    model = Small()
    result = fit(
        model,
        Clips(21, 0),
        Clips(9, 1),
        config,
        seed=3,
        loss=loss_of_logits,
        objective=Objective(),
        workers=workers,
        **more,
    )
    return result, model.state_dict()


def main(rank: int, count: int, folder: Path) -> None:
    """What each process does: every stage against training without DeepSpeed."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    for name, (deepspeed, config) in CASES.items():
        plain, plain_weights = trained(config)
        result, weights = trained(config, Workers.joined("cpu"), deepspeed=deepspeed)
        for ours, theirs in zip(plain.history, result.history, strict=True):
            assert theirs.train_loss == pytest.approx(ours.train_loss, abs=1e-4), name
            assert theirs.validation_loss == pytest.approx(ours.validation_loss, abs=1e-4), name
            assert theirs.learning_rate == ours.learning_rate
        for parameter, tensor in plain_weights.items():
            torch.testing.assert_close(weights[parameter], tensor, atol=1e-4, rtol=1e-3, msg=f"{name}: {parameter}")

    def resumed(report: EpochReport) -> None:
        with pytest.raises(TrainingError, match="resume"):
            report.fit_state()

    once = replace(CONFIG, epochs=1, precision="bf16")
    _, weights = trained(once, Workers.joined("cpu"), deepspeed=DeepSpeedConfig(), on_epoch=resumed)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    (folder / f"{rank}.done").touch()
    distributed.destroy_process_group()


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed (extra gpu)")
@pytest.mark.skipif(
    shutil.which("ninja") is None or shutil.which("g++") is None,
    reason="on the CPU DeepSpeed compiles its communication, which takes ninja and g++",
)
def test_the_engine_steps_like_training_without_it(together: Callable[[str, int], None], tmp_path: Path) -> None:
    together(__file__, 2)
    assert len(list(tmp_path.glob("*.done"))) == 2


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))

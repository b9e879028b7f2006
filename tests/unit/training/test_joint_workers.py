"""Two processes over gloo train a joint model like one: this file is both the test and what the processes run."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.unit.training.test_joint import AUDIO, FACE, FIT, clips, encoders
from tests.unit.training.test_workers import curve
from torch import distributed, nn

from twominds.fusion.catalog import build_fusion
from twominds.fusion.conflict import ConflictFusionConfig
from twominds.training.fit import FitResult, fit
from twominds.training.joint import JointExamples, JointLoss, JointModel
from twominds.training.losses import FusionLoss
from twominds.training.objective import Objective
from twominds.training.workers import ALONE, Workers

LOSS = JointLoss(fusion=FusionLoss(prototype_weight=0.0), fusion_weight=0.5, heads={FACE: 0.2, AUDIO: 0.5})
OBJECTIVE = Objective(criterion="binary_cross_entropy", thresholds=(0.3, 0.4, 0.5, 0.6))
CONFIG = replace(
    FIT,
    epochs=3,
    batch_size=4,
    accumulate=2,
    class_weights=True,
    label_smoothing=0.1,
    optimizer="sgd",
    learning_rate=0.05,
)
"""Not Adam, which makes steps of rounding errors where a gradient is none: that of a bias under a softmax."""


def trained(seed: int, workers: Workers = ALONE) -> tuple[JointModel, FitResult]:
    """Windows of the rows, views that are absent in some clips, and no dropout, which is each worker's own."""
    found, targets = clips(21, {FACE: (0, 3, 8, 9), AUDIO: (1, 2, 12)})
    of_views = encoders(seed)
    for encoder in of_views.values():
        encoder.window_rows = 2
        encoder.answers = True
    fusion = build_fusion(
        ConflictFusionConfig(hidden_dim=8, head_dim=8, num_heads=2, dropout=0.0),
        dims={view: encoder.embedding_dim for view, encoder in of_views.items()},
        num_outputs=2,
        seed=seed,
    )
    model = JointModel(of_views, fusion, blend={AUDIO: 0.6})
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.LSTM):
            module.dropout = 0.0
    seen, validation = JointExamples(of_views, found, targets, anywhere=True), JointExamples(of_views, found, targets)
    result = fit(model, seen, validation, CONFIG, seed=3, loss=LOSS, objective=OBJECTIVE, workers=workers)
    return model, result


def main(rank: int, count: int, folder: Path) -> None:
    """What each process does, after the others' weights were made to differ."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    model, result = trained(rank, Workers.joined("cpu"))
    safetensors.torch.save_file(model.state_dict(), folder / f"{rank}.safetensors")
    (folder / f"{rank}.json").write_text(json.dumps(curve(result)))
    distributed.destroy_process_group()


def test_two_workers_train_a_joint_model_like_one(together: Callable[[str, int], None], tmp_path: Path) -> None:
    together(__file__, 2)
    both = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert both[0] == both[1]
    model, result = trained(0)
    assert both[0] == [pytest.approx(epoch, abs=1e-4) for epoch in curve(result)]
    weights = [safetensors.torch.load_file(tmp_path / f"{rank}.safetensors") for rank in range(2)]
    for name, tensor in model.state_dict().items():
        assert torch.equal(weights[0][name], weights[1][name])
        torch.testing.assert_close(weights[0][name], tensor, atol=1e-4, rtol=1e-3)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    os._exit(0)  # see test_workers.py

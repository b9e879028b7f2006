"""Five seeds, and several candidates of five seeds, as one batched model, against one after another.

On a GPU where there is one.
"""

import time
from dataclasses import replace

import pytest
import torch

from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import Fusion, build_fusion
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.records import Modality, View
from twominds.training.examples import FusionExamples
from twominds.training.fit import fit
from twominds.training.fit_config import FitConfig
from twominds.training.fit_together import fit_together
from twominds.training.losses import FusionLoss
from twominds.training.objective import Objective

SEEDS = (42, 2025, 7777, 12345, 31415)
DIMS: dict[View, int] = {Modality.SCENE: 768, Modality.FACE: 256, Modality.AUDIO: 128, Modality.TEXT: 128}
CONFIG = FitConfig(epochs=5, patience=5)
"""LEYA's selected candidate; so many epochs."""
CANDIDATES = (1, 4, 8) if torch.cuda.is_available() else (1, 2)


def examples(clips: int, seed: int, device: str) -> FusionExamples:
    generator = torch.Generator().manual_seed(seed)
    tokens = {m: torch.randn(clips, dim, generator=generator) for m, dim in DIMS.items()}
    labels = torch.randint(0, 2, (clips,), generator=generator)
    return FusionExamples(FusionInputs(tokens=tokens, mask=torch.ones(clips, 4, dtype=torch.bool)), labels, device)


@pytest.mark.benchmark
@pytest.mark.parametrize("candidates", CANDIDATES)
def test_together_against_one_by_one(candidates: int) -> None:
    """Candidates differ in learning rate and in the weight of the prototypes' loss."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train, validation = examples(778, 0, device), examples(124, 1, device)
    numbers = [number for number in range(candidates) for _ in SEEDS]
    seeds = SEEDS * candidates
    configs = [replace(CONFIG, learning_rate=CONFIG.learning_rate * (1 + number / 4)) for number in numbers]
    losses = [FusionLoss(prototype_weight=0.2 + number / 20) for number in numbers]

    def models(count: int) -> list[Fusion]:
        return [build_fusion(TransformerFusionConfig(), dims=DIMS, num_outputs=2, seed=seed) for seed in seeds[:count]]

    def one_by_one(count: int) -> None:
        for model, seed, config, loss in zip(models(count), seeds, configs, losses, strict=False):
            fit(model, train, validation, config, seed=seed, loss=loss, objective=Objective(), device=device)

    def together(count: int) -> None:
        batched, own, its = models(count), configs[:count], losses[:count]
        fit_together(
            batched, train, validation, own, seeds=seeds[:count], losses=its, objective=Objective(), device=device
        )

    took: dict[str, float] = {}
    for name, run in (("one by one", one_by_one), ("together", together)):
        run(1)  # warms a GPU up
        started = time.perf_counter()
        run(len(seeds))
        took[name] = time.perf_counter() - started
    ratio = took["one by one"] / took["together"]
    print(
        f"\n{candidates} candidates of five seeds, {CONFIG.epochs} epochs of 778 clips on {device}: one by one "
        f"{took['one by one']:.2f} s, together {took['together']:.2f} s: {ratio:.1f} times as fast"
    )

"""All five seeds of a candidate as one batched model, against one after another; on a GPU where there is one."""

import time

import pytest
import torch

from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import build_fusion
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.records import Modality
from twominds.training.examples import FusionExamples
from twominds.training.fit import fit
from twominds.training.fit_config import FitConfig
from twominds.training.fit_seeds import fit_seeds
from twominds.training.losses import FusionLoss

SEEDS = (42, 2025, 7777, 12345, 31415)
DIMS = {Modality.SCENE: 768, Modality.FACE: 256, Modality.AUDIO: 128, Modality.TEXT: 128}
CONFIG = FitConfig(epochs=5, patience=5)
"""LEYA's selected candidate; so many epochs."""


def examples(clips: int, seed: int, device: str) -> FusionExamples:
    generator = torch.Generator().manual_seed(seed)
    tokens = {m: torch.randn(clips, dim, generator=generator) for m, dim in DIMS.items()}
    labels = torch.randint(0, 2, (clips,), generator=generator)
    return FusionExamples(FusionInputs(tokens=tokens, mask=torch.ones(clips, 4, dtype=torch.bool)), labels, device)


@pytest.mark.benchmark
def test_seeds_together_against_one_by_one() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train, validation = examples(778, 0, device), examples(124, 1, device)

    def models() -> list[torch.nn.Module]:
        return [build_fusion(TransformerFusionConfig(), dims=DIMS, num_classes=2, seed=seed) for seed in SEEDS]

    def one_by_one() -> None:
        for seed, model in zip(SEEDS, models(), strict=True):
            fit(model, train, validation, CONFIG, seed=seed, loss=FusionLoss(), num_classes=2, device=device)

    def together() -> None:
        fit_seeds(models(), train, validation, CONFIG, seeds=SEEDS, loss=FusionLoss(), num_classes=2, device=device)

    took: dict[str, float] = {}
    for _ in range(2):  # the first time warms a GPU up
        for name, run in (("one by one", one_by_one), ("together", together)):
            started = time.perf_counter()
            run()
            took[name] = time.perf_counter() - started
    ratio = took["one by one"] / took["together"]
    print(
        f"\nfive seeds, {CONFIG.epochs} epochs of 778 clips on {device}: one by one {took['one by one']:.2f} s, "
        f"together {took['together']:.2f} s: {ratio:.1f} times as fast"
    )

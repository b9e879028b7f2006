"""One candidate of the stability search: the same fusion trained with every seed (LEYA, section 4.2).

Each seed's result rests in storage under the candidate's fingerprint as soon as it is there. Whatever is killed, a
seed that was finished is never trained again: not by the same trial, nor by another that drew the same candidate.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
from torch import Tensor
from upath import UPath

from twominds.artifacts import fingerprint
from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import build_fusion
from twominds.pipelines.storage import write_whole
from twominds.recipes.recipe import FusionRecipe
from twominds.recipes.space import Value
from twominds.training.examples import FusionExamples
from twominds.training.fit import fit
from twominds.training.selection import SelectionView

RESULT, MODEL = "seed-{seed}.json", "seed-{seed}.safetensors"


@dataclass(frozen=True, kw_only=True)
class LabelledInputs:
    """One split as the fusion takes it."""

    inputs: FusionInputs
    labels: Tensor


SearchData = SelectionView[LabelledInputs]
"""What every candidate is trained and selected on: a view without the test split, but under the paper's protocol."""


@dataclass(frozen=True, kw_only=True)
class SeedResult:
    """One seed's training."""

    seed: int
    validation_mf1: float
    validation_loss: float
    selection_mf1: float
    """Mean over the splits that select: validation's own, but under the paper's protocol. It ranks candidates."""
    selection_loss: float
    """Likewise."""
    best_epoch: int
    epochs: int
    seconds: float


class CandidateStore:
    """Where the results of one candidate rest."""

    def __init__(self, uri: str, candidate: Mapping[str, Value]) -> None:
        """Takes the search's folder and the candidate's settings."""
        self.folder = UPath(uri) / "candidates" / fingerprint(dict(candidate))

    def result(self, seed: int) -> SeedResult | None:
        """The seed's result, or None while it is not finished."""
        path = self.folder / RESULT.format(seed=seed)
        return SeedResult(**json.loads(path.read_text())) if path.exists() else None

    def save(self, result: SeedResult, state: Mapping[str, Tensor]) -> None:
        """Keeps a finished seed: the model first, then the result that says it is complete."""
        payload = safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in state.items()})
        write_whole(self.folder / MODEL.format(seed=result.seed), payload)
        write_whole(self.folder / RESULT.format(seed=result.seed), json.dumps(vars(result)).encode())

    def state(self, seed: int) -> dict[str, Tensor]:
        """The model of a finished seed."""
        return safetensors.torch.load((self.folder / MODEL.format(seed=seed)).read_bytes())

    def drop_models(self) -> None:
        """Forgets the models (not the results) of a candidate that did not win."""
        for path in list(self.folder.glob("*.safetensors")) if self.folder.exists() else []:
            path.unlink()


def train_candidate(
    candidate: Mapping[str, Value],
    recipe: FusionRecipe,
    data: SearchData,
    store: CandidateStore,
    *,
    num_classes: int,
    device: str = "cpu",
    on_seed: Callable[[list[SeedResult]], None] | None = None,
) -> list[SeedResult]:
    """Trains the seeds that are not finished; returns the results of all, in the order of the seeds.

    Args:
        candidate: Settings that replace the recipe's.
        recipe: The fusion.
        data: Training inputs, and those that select.
        store: Keeps and knows finished seeds.
        num_classes: Number of logits.
        device: Where to train.
        on_seed: Called with the results so far after each seed.
    """
    chosen = recipe.with_candidate(dict(candidate))
    examples = data.map(lambda split: FusionExamples(split.inputs, split.labels, device))
    results: list[SeedResult] = []
    for seed in recipe.seeds:
        known = store.result(seed)
        if known is None:
            known, state = _train_seed(seed, chosen, examples, num_classes, device)
            store.save(known, state)
        results.append(known)
        if on_seed is not None:
            on_seed(results)
    return results


def _train_seed(
    seed: int, recipe: FusionRecipe, examples: SelectionView[FusionExamples], num_classes: int, device: str
) -> tuple[SeedResult, dict[str, Any]]:
    train = examples.train
    model = build_fusion(
        recipe.model,
        dims=train.inputs.dims,
        num_classes=num_classes,
        seed=seed,
        train=(train.inputs.to("cpu"), train.labels.cpu()),
    )
    result = fit(
        model,
        train,
        examples.validation,
        recipe.fit,
        seed=seed,
        loss=recipe.loss,
        num_classes=num_classes,
        device=device,
        scored_on=examples.scored_on,
    )
    summary = SeedResult(
        seed=seed,
        validation_mf1=result.validation_mf1,
        validation_loss=result.validation_loss,
        selection_mf1=result.best.selection_mf1,
        selection_loss=result.best.selection_loss,
        best_epoch=result.best_epoch,
        epochs=len(result.history),
        seconds=sum(report.seconds for report in result.history),
    )
    return summary, model.state_dict()

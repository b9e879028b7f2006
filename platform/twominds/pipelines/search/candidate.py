"""One candidate of the stability search: the same fusion trained with every seed (LEYA, section 4.2).

Each seed's result rests in storage under the candidate's fingerprint as soon as it is there. Whatever is killed, a
seed that was finished is never trained again: not by the same trial, nor by another that drew the same candidate.
"""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor
from upath import UPath

from twominds.artifacts import fingerprint, from_json, to_json
from twominds.errors import TrainingError
from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import Fusion, build_fusion
from twominds.pipelines.storage import files_in, read_if_there, write_whole
from twominds.recipes.recipe import FusionRecipe
from twominds.recipes.space import Value
from twominds.records import BoolArray, FloatArray, Modality
from twominds.training.examples import FusionExamples
from twominds.training.fit import EpochReport, FitResult, fit
from twominds.training.fit_seeds import fit_seeds
from twominds.training.selection import SelectionView

IntArray = npt.NDArray[np.int64]

RESULT, MODEL = "seed-{seed}.json", "seed-{seed}.safetensors"


@dataclass(frozen=True, kw_only=True)
class LabelledInputs:
    """One split as the fusion takes it."""

    inputs: FusionInputs
    labels: Tensor

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as NumPy arrays: those Ray keeps once per node, and every process there reads them in place."""
        tokens = {modality: token.numpy() for modality, token in self.inputs.tokens.items()}
        return _unpickled, (tokens, self.inputs.mask.numpy(), self.labels.numpy())


def _unpickled(tokens: Mapping[Modality, FloatArray], mask: BoolArray, labels: IntArray) -> LabelledInputs:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nobody writes to it
        found = {modality: torch.from_numpy(token) for modality, token in tokens.items()}
        inputs = FusionInputs(tokens=found, mask=torch.from_numpy(mask))
        return LabelledInputs(inputs=inputs, labels=torch.from_numpy(labels))


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
    curve: tuple[float, ...] = ()
    """Best selection MF1 up to each epoch."""

    @classmethod
    def of(cls, seed: int, result: FitResult, selection: tuple[float, float] | None = None) -> "SeedResult":
        """What a finished training came to.

        Args:
            seed: Its seed.
            result: Of it.
            selection: MF1 and loss on what selects, where they were measured elsewhere: a training without epochs has
                none.
        """
        mf1, loss = selection or (result.best.selection_mf1, result.best.selection_loss)
        return cls(
            seed=seed,
            validation_mf1=result.validation_mf1,
            validation_loss=result.validation_loss,
            selection_mf1=mf1,
            selection_loss=loss,
            best_epoch=result.best_epoch,
            epochs=len(result.history),
            seconds=sum(report.seconds for report in result.history),
            curve=tuple(accumulate((report.selection_mf1 for report in result.history), max)),
        )


class CandidateStore:
    """Where the results of one candidate rest."""

    def __init__(self, uri: str, candidate: Mapping[str, Value]) -> None:
        """Takes the search's folder and the candidate's settings."""
        self.folder = UPath(uri) / "candidates" / fingerprint(dict(candidate))

    def result(self, seed: int) -> SeedResult | None:
        """The seed's result, or None while it is not finished."""
        payload = read_if_there(self.folder / RESULT.format(seed=seed))
        return None if payload is None else from_json(SeedResult, json.loads(payload))

    def save(self, result: SeedResult, state: Mapping[str, Tensor]) -> None:
        """Keeps a finished seed: the model first, then the result that says it is complete."""
        payload = safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in state.items()})
        write_whole(self.folder / MODEL.format(seed=result.seed), payload)
        write_whole(self.folder / RESULT.format(seed=result.seed), json.dumps(to_json(result)).encode())

    def state(self, seed: int) -> dict[str, Tensor]:
        """The model of a finished seed."""
        return safetensors.torch.load((self.folder / MODEL.format(seed=seed)).read_bytes())

    def drop_models(self) -> None:
        """Forgets the models (not the results) of a candidate that did not win."""
        for path in files_in(str(self.folder), "*.safetensors"):
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
    on_epoch: Callable[[int, EpochReport], None] | None = None,
    together: bool | None = None,
) -> list[SeedResult]:
    """Trains the seeds that are not finished; returns the results of all, in the order of the seeds.

    Args:
        candidate: Settings that replace the recipe's.
        recipe: The fusion.
        data: Training inputs, and those that select.
        store: Keeps and knows finished seeds.
        num_classes: Number of logits.
        device: Where to train.
        on_seed: Called with the results so far after each seed; once with all, where all are trained already. An
            exception in it ends training.
        on_epoch: Called with the seed after each epoch. Likewise.
        together: All seeds at once, as one batched model (`fit_seeds`); by default on a GPU, where that takes little
            longer than one seed. They are then kept together, too.

    Raises:
        TrainingError: a seed diverged; those before it, and trained with it, are kept.
    """
    chosen = recipe.with_candidate(dict(candidate))
    examples = data.map(lambda split: FusionExamples(split.inputs, split.labels, device))
    known = {seed: result for seed in recipe.seeds if (result := store.result(seed)) is not None}
    pending = [seed for seed in recipe.seeds if seed not in known]
    if (device.startswith("cuda") if together is None else together) and len(pending) > 1:
        known |= _train_together(pending, chosen, examples, store, num_classes, device, on_epoch)
    results: list[SeedResult] = []
    for seed in recipe.seeds:
        if seed not in known:
            known[seed], state = _train_seed(seed, chosen, examples, num_classes, device, on_epoch)
            store.save(known[seed], state)
        results.append(known[seed])
        # Where all are trained there is nothing left to end.
        if on_seed is not None and (len(known) < len(recipe.seeds) or len(results) == len(known)):
            on_seed(results)
    return results


def _train_seed(
    seed: int,
    recipe: FusionRecipe,
    examples: SelectionView[FusionExamples],
    num_classes: int,
    device: str,
    on_epoch: Callable[[int, EpochReport], None] | None,
) -> tuple[SeedResult, dict[str, Any]]:
    model = new_model(recipe, examples.train, num_classes, seed)
    result = fit(
        model,
        examples.train,
        examples.validation,
        recipe.fit,
        seed=seed,
        loss=recipe.loss,
        num_classes=num_classes,
        device=device,
        scored_on=examples.scored_on,
        on_epoch=None if on_epoch is None else partial(on_epoch, seed),
    )
    return SeedResult.of(seed, result), model.state_dict()


def _train_together(
    seeds: Sequence[int],
    recipe: FusionRecipe,
    examples: SelectionView[FusionExamples],
    store: CandidateStore,
    num_classes: int,
    device: str,
    on_epoch: Callable[[int, EpochReport], None] | None,
) -> dict[int, SeedResult]:
    models = [new_model(recipe, examples.train, num_classes, seed) for seed in seeds]
    outcomes = fit_seeds(
        models,
        examples.train,
        examples.validation,
        recipe.fit,
        seeds=seeds,
        loss=recipe.loss,
        num_classes=num_classes,
        device=device,
        scored_on=examples.scored_on,
        on_epoch=None if on_epoch is None else lambda place, report: on_epoch(seeds[place], report),
    )
    results: dict[int, SeedResult] = {}
    for seed, model, outcome in zip(seeds, models, outcomes, strict=True):
        if isinstance(outcome, FitResult):
            results[seed] = SeedResult.of(seed, outcome)
            store.save(results[seed], model.state_dict())
    for outcome in outcomes:
        if isinstance(outcome, TrainingError):
            raise outcome
    return results


def new_model(recipe: FusionRecipe, train: FusionExamples, num_classes: int, seed: int) -> Fusion:
    """The untrained fusion model of a seed, standardised by the clips that it is to be trained on."""
    on_cpu = (train.inputs.to("cpu"), train.labels.cpu())
    return build_fusion(recipe.model, dims=train.inputs.dims, num_classes=num_classes, seed=seed, train=on_cpu)

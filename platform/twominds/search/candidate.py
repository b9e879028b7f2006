"""Candidates of the stability search: the same fusion trained with every seed (LEYA, section 4.2).

Each seed's result rests in storage under the candidate's fingerprint as soon as it is there. Whatever is killed, a
seed that was finished is never trained again: not by the same trial, nor by another that drew the same candidate.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, Literal, Protocol

import safetensors.torch
import torch
from torch import Tensor
from upath import UPath

from twominds.artifacts import fingerprint, from_json, to_json
from twominds.errors import ConfigError, TrainingError
from twominds.fusion.catalog import Fusion, build_fusion
from twominds.recipes.recipe import FusionRecipe
from twominds.recipes.space import Candidate, Value
from twominds.search.inputs import SearchData
from twominds.storage import files_in, read_if_there, write_whole
from twominds.training.examples import FusionExamples
from twominds.training.fit import EpochReport, FitResult, fit
from twominds.training.fit_together import OWN_SETTINGS, fit_together
from twominds.training.objective import Objective
from twominds.training.selection import SelectionView

RESULT, MODEL = "seed-{seed}.json", "seed-{seed}.safetensors"


@dataclass(frozen=True, kw_only=True)
class SeedResult:
    """One seed's training."""

    seed: int
    validation_score: float
    validation_loss: float
    selection_score: float
    """Mean over the splits that select: validation's own, but under the paper's protocol. It ranks candidates."""
    selection_loss: float
    """Mean over the splits that select: it orders candidates of equal scores."""
    best_epoch: int
    epochs: int
    seconds: float
    curve: tuple[float, ...] = ()
    """Best selection score up to each epoch."""

    @classmethod
    def of(cls, seed: int, result: FitResult) -> "SeedResult":
        """What the finished training of a seed came to."""
        return cls(
            seed=seed,
            validation_score=result.validation_score,
            validation_loss=result.validation_loss,
            selection_score=result.selection_score,
            selection_loss=result.selection_loss,
            best_epoch=result.best_epoch,
            epochs=len(result.history),
            seconds=sum(report.seconds for report in result.history),
            curve=tuple(accumulate((report.selection_score for report in result.history), max)),
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
        path = self.folder / MODEL.format(seed=seed)
        if (payload := read_if_there(path)) is None:
            raise FileNotFoundError(f"The model of seed {seed} is not at {path}.")
        return safetensors.torch.load(payload)

    def drop_models(self) -> None:
        """Forgets the models (not the results) of a candidate that did not win."""
        for path in files_in(str(self.folder), "*.safetensors"):
            path.unlink()


class EndedEarlyError(Exception):
    """A rule ends a candidate."""

    def __init__(
        self,
        rule: Literal["reach", "median"],
        reason: str,
        *,
        best: float | None = None,
    ) -> None:
        """Takes the rule, the sentence, and the best so far of the seed that is broken off."""
        super().__init__(reason)
        self.rule: Literal["reach", "median"] = rule
        self.best = best


class Onlooker(Protocol):
    """Who is told how a candidate gets on. An EndedEarlyError ends it, any other exception all training."""

    def on_seed(self, results: list[SeedResult], /) -> None:
        """Another seed is done; with the results so far. Once with all, where all are trained already."""

    def on_epoch(self, seed: int, epoch: EpochReport, /) -> None:
        """Another epoch of a seed is done."""


def train_candidates(
    candidates: Sequence[Candidate],
    onlookers: Sequence[Onlooker],
    *,
    recipe: FusionRecipe,
    data: SearchData,
    stores: Sequence[CandidateStore],
    objective: Objective,
    device: str = "cpu",
    together: bool | None = None,
) -> list[Exception | None]:
    """Trains the seeds that are not finished of one candidate, or of several.

    Args:
        candidates: Settings that replace the recipe's. Several may differ in what `fit_together` lets models differ in.
        onlookers: For each candidate, what is told of its epochs and may end it.
        recipe: The fusion that is searched.
        data: Training inputs, and those that select.
        stores: Of each candidate: keep and know finished seeds.
        objective: The task's.
        device: Where to train.
        together: All seeds of all candidates at once, as one batched model; by default on a GPU, where that takes
            little longer than one seed, and of several candidates. They are then kept together, too.

    Returns:
        For each candidate what ended it: EndedEarlyError; TrainingError where a seed diverged (those before it, and
        trained with it, are kept); or None.

    Raises:
        ConfigError: the candidates can't be trained together.
        RuntimeError: they need more memory than there is (`is_out_of_memory`).
        MemoryError: likewise.
    """
    work = [
        _Work(recipe.with_candidate(dict(candidate)), store, onlooker)
        for candidate, store, onlooker in zip(candidates, stores, onlookers, strict=True)
    ]
    examples = data.map(lambda split: FusionExamples(split.inputs, split.labels, device))
    if together is None:
        together = device.startswith("cuda") or len(work) > 1
    if together and sum(len(of.pending) for of in work) > 1:
        try:
            _train_together(work, examples, objective, device)
        except (RuntimeError, MemoryError) as error:
            # The seeds of one candidate are too large together; perhaps each is not.
            if len(work) > 1 or not is_out_of_memory(error):
                raise
        torch.cuda.empty_cache()
    for of in work:
        try:
            of.go_on(examples, objective, device)
        except (EndedEarlyError, TrainingError) as error:
            of.ended = error
    return [of.ended for of in work]


def train_candidate(
    candidate: Candidate,
    recipe: FusionRecipe,
    data: SearchData,
    store: CandidateStore,
    *,
    objective: Objective,
    device: str = "cpu",
    together: bool | None = None,
) -> list[SeedResult]:
    """Trains one candidate that nothing ends before its time; returns its results in the order of the seeds.

    Raises:
        TrainingError: a seed diverged; those before it, and trained with it, are kept.
    """
    onlooker = _Results()
    (error,) = train_candidates(
        [candidate],
        [onlooker],
        recipe=recipe,
        data=data,
        stores=[store],
        objective=objective,
        device=device,
        together=together,
    )
    if error is not None:
        raise error
    return onlooker.results


class _Results:
    """Looks on, lets everything be, and remembers the seeds that are done."""

    def __init__(self) -> None:
        self.results: list[SeedResult] = []

    def on_seed(self, results: list[SeedResult], /) -> None:
        self.results = results

    def on_epoch(self, seed: int, epoch: EpochReport, /) -> None: ...


class _Work:
    """What there is to do of one candidate."""

    def __init__(self, recipe: FusionRecipe, store: CandidateStore, onlooker: Onlooker) -> None:
        self.recipe, self.onlooker = recipe, onlooker
        self._store = store
        self._known = {seed: result for seed in recipe.seeds if (result := store.result(seed)) is not None}
        self.ended: Exception | None = None

    @property
    def pending(self) -> list[int]:
        """Seeds that are not trained."""
        return [seed for seed in self.recipe.seeds if seed not in self._known]

    def keep(self, seed: int, result: FitResult, model: Fusion) -> None:
        """A seed is finished."""
        self._known[seed] = SeedResult.of(seed, result)
        self._store.save(self._known[seed], model.state_dict())

    def go_on(self, examples: SelectionView[FusionExamples], objective: Objective, device: str) -> None:
        """Trains what is pending seed by seed, unless it has been ended; tells of every seed."""
        results: list[SeedResult] = []
        for seed in self.recipe.seeds:
            if self.ended is not None:
                return
            if seed not in self._known:
                self.keep(seed, *_trained(seed, self.recipe, examples, objective, device, self.onlooker))
            results.append(self._known[seed])
            # Where all are trained there is nothing left to end.
            if self.pending or len(results) == len(self._known):
                self.onlooker.on_seed(results)


def _trained(
    seed: int,
    recipe: FusionRecipe,
    examples: SelectionView[FusionExamples],
    objective: Objective,
    device: str,
    onlooker: Onlooker,
) -> tuple[FitResult, Fusion]:
    model = new_model(recipe, examples.train, objective, seed)
    result = fit(
        model,
        examples.train,
        examples.validation,
        recipe.fit,
        seed=seed,
        loss=recipe.loss,
        objective=objective,
        device=device,
        scored_on=examples.scored_on,
        on_epoch=partial(onlooker.on_epoch, seed),
    )
    return result, model


def _train_together(
    work: Sequence[_Work], examples: SelectionView[FusionExamples], objective: Objective, device: str
) -> None:
    """One batched model of every pending seed; keeps those that are finished, and notes what ended a candidate."""
    _check_alike([of.recipe for of in work])
    places = [(of, seed) for of in work for seed in of.pending]
    models = [new_model(of.recipe, examples.train, objective, seed) for of, seed in places]

    def on_epoch(place: int, report: EpochReport) -> list[int]:
        of, seed = places[place]
        try:
            of.onlooker.on_epoch(seed, report)
        except EndedEarlyError as end:
            of.ended = end
            return [number for number, (other, _) in enumerate(places) if other is of]
        return []

    outcomes = fit_together(
        models,
        examples.train,
        examples.validation,
        [of.recipe.fit for of, _ in places],
        seeds=[seed for _, seed in places],
        losses=[of.recipe.loss for of, _ in places],
        objective=objective,
        device=device,
        on_epoch=on_epoch,
        scored_on=examples.scored_on,
    )
    for (of, seed), model, outcome in zip(places, models, outcomes, strict=True):
        if isinstance(outcome, FitResult):
            of.keep(seed, outcome, model)
        elif isinstance(outcome, TrainingError) and of.ended is None:
            of.ended = outcome


def _check_alike(recipes: Sequence[FusionRecipe]) -> None:
    """Refuses candidates whose models differ in more than their rows of a batch may. Weights tell only of shapes."""

    def shared(recipe: FusionRecipe) -> dict[str, Any]:
        settings = vars(recipe.model) | vars(recipe.fit) | vars(recipe.loss)
        return {name: value for name, value in settings.items() if name not in OWN_SETTINGS}

    first = shared(recipes[0])
    for recipe in recipes:
        differ = sorted(name for name, value in shared(recipe).items() if value != first.get(name))
        if differ:
            raise ConfigError(f"Candidates that differ in {', '.join(differ)} can't be trained together.")


def new_model(recipe: FusionRecipe, train: FusionExamples, objective: Objective, seed: int) -> Fusion:
    """The untrained fusion model of a seed, standardised by the clips that it is to be trained on."""
    on_cpu = (train.inputs.to("cpu"), train.labels.cpu())
    return build_fusion(
        recipe.model, dims=train.inputs.dims, num_outputs=objective.num_outputs, seed=seed, train=on_cpu
    )


def is_out_of_memory(error: BaseException) -> bool:
    """On a GPU (torch.OutOfMemoryError) or of the machine: torch has no type of its own for that."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)

"""All seeds at once, as on a GPU, of one candidate or several: the same results as one after another, kept alike."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from twominds.errors import ConfigError, TrainingError
from twominds.fusion.batch import FusionInputs
from twominds.fusion.simple import ConcatMLPConfig
from twominds.recipes.recipe import FusionRecipe
from twominds.recipes.space import Candidate
from twominds.records import Modality, View
from twominds.search import candidate as module
from twominds.search.candidate import CandidateStore, EndedEarlyError, SeedResult, train_candidate, train_candidates
from twominds.search.inputs import LabelledInputs, SearchData
from twominds.training.fit import EpochReport, FitConfig, FitResult
from twominds.training.fit_together import fit_together
from twominds.training.losses import FusionLoss
from twominds.training.objective import Objective
from twominds.training.selection import SelectionView

FACE, TEXT = Modality.FACE, Modality.TEXT
RECIPE = FusionRecipe(
    model=ConcatMLPConfig(hidden_dim=8, dropout=0.0),
    fit=FitConfig(epochs=5, batch_size=8, optimizer="adamw", learning_rate=1e-2),
    loss=FusionLoss(),
    views=(FACE, TEXT),
    seeds=(3, 7, 11),
)


def split(clips: int, seed: int) -> LabelledInputs:
    generator = torch.Generator().manual_seed(seed)
    tokens: dict[View, torch.Tensor] = {m: torch.randn(clips, 4, generator=generator) for m in (FACE, TEXT)}
    labels = (tokens[FACE][:, 0] + tokens[TEXT][:, 0] > 0).long()
    return LabelledInputs(
        inputs=FusionInputs(tokens=tokens, mask=torch.ones(clips, 2, dtype=torch.bool)), labels=labels
    )


TRAIN, VALIDATION = split(60, 0), split(30, 1)
DATA: SearchData = SelectionView(train=TRAIN, validation=VALIDATION, scored_on=(VALIDATION,), selected_on="validation")


class Noted:
    """An onlooker that remembers what it is told, and may end its candidate after an epoch of a seed."""

    def __init__(self, end_after: tuple[int, int] | None = None) -> None:
        self.seeds: list[list[int]] = []
        self.epochs: list[tuple[int, int]] = []
        self.end_after = end_after

    def on_seed(self, results: list[SeedResult], /) -> None:
        self.seeds.append([result.seed for result in results])

    def on_epoch(self, seed: int, epoch: EpochReport, /) -> None:
        self.epochs.append((seed, epoch.epoch))
        if (seed, epoch.epoch) == self.end_after:
            raise EndedEarlyError("median", "Enough.")


def trained_all(
    folder: Path, candidates: list[Candidate], onlookers: list[Noted], *, together: bool | None = None
) -> tuple[list[CandidateStore], list[Exception | None]]:
    stores = [CandidateStore(str(folder), candidate) for candidate in candidates]
    ends = train_candidates(
        candidates, onlookers, recipe=RECIPE, data=DATA, stores=stores, objective=Objective(), together=together
    )
    return stores, ends


def check_same(store: CandidateStore, truth: CandidateStore) -> None:
    """Results and models, but for rounding."""
    for seed in RECIPE.seeds:
        found, expected = store.result(seed), truth.result(seed)
        assert found is not None
        assert expected is not None
        assert replace(found, seconds=0, validation_loss=0, selection_loss=0) == replace(
            expected, seconds=0, validation_loss=0, selection_loss=0
        )
        assert found.validation_loss == pytest.approx(expected.validation_loss, abs=1e-4)
        weights, told = store.state(seed), truth.state(seed)
        assert weights.keys() == told.keys()
        for name, tensor in told.items():
            torch.testing.assert_close(weights[name], tensor, atol=1e-4, rtol=1e-3)


def trained(folder: Path, recipe: FusionRecipe = RECIPE, *, together: bool) -> CandidateStore:
    store = CandidateStore(str(folder), {})
    train_candidate({}, recipe, DATA, store, objective=Objective(), together=together)
    return store


def test_together_and_one_by_one_come_to_the_same(tmp_path: Path) -> None:
    check_same(trained(tmp_path / "batched", together=True), trained(tmp_path / "single", together=False))


def test_several_candidates_come_to_what_each_comes_to_alone(tmp_path: Path) -> None:
    candidates: list[Candidate] = [
        {"learning_rate": 1e-2, "label_smoothing": 0.0},
        {"learning_rate": 3e-3, "label_smoothing": 0.1, "weight_decay": 0.1, "scheduler": "plateau"},
    ]
    onlookers = [Noted(), Noted()]
    stores, ends = trained_all(tmp_path / "batched", candidates, onlookers)
    assert ends == [None, None]
    for candidate, store, onlooker in zip(candidates, stores, onlookers, strict=True):
        (alone,), _ = trained_all(tmp_path / "alone", [candidate], [Noted()], together=False)
        check_same(store, alone)
        assert onlooker.seeds == [[3, 7, 11]]
        assert onlooker.epochs == [(seed, epoch) for epoch in range(1, 6) for seed in RECIPE.seeds]
    assert stores[0].result(3) != stores[1].result(3)


def test_a_candidate_that_is_ended_ends_alone(tmp_path: Path) -> None:
    candidates: list[Candidate] = [{"learning_rate": 1e-2}, {"learning_rate": 3e-3}]
    ended, other = Noted(end_after=(7, 2)), Noted()
    stores, ends = trained_all(tmp_path / "batched", candidates, [ended, other])
    assert [type(end) for end in ends] == [EndedEarlyError, type(None)]
    assert ended.seeds == []
    assert max(epoch for _, epoch in ended.epochs) == 2
    assert [stores[0].result(seed) for seed in RECIPE.seeds] == [None] * 3
    (alone,), _ = trained_all(tmp_path / "alone", candidates[1:], [Noted()], together=False)
    check_same(stores[1], alone)


def test_candidates_of_other_shapes_are_not_trained_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dropout, optimizer"):
        trained_all(tmp_path, [{"dropout": 0.1}, {"optimizer": "sgd"}], [Noted(), Noted()])


def test_a_seed_that_is_finished_is_not_trained_again_with_the_others(tmp_path: Path) -> None:
    store = trained(tmp_path, replace(RECIPE, seeds=(7,)), together=True)
    before, noted = store.result(7), Noted()
    (store,), _ = trained_all(tmp_path, [{}], [noted], together=True)
    assert store.result(7) == before
    assert noted.seeds == [[3, 7, 11]]
    assert {seed for seed, _ in noted.epochs} == {3, 11}


@pytest.mark.parametrize("together", [False, True])
def test_who_looks_on_is_told_of_seeds_while_something_can_still_be_ended(tmp_path: Path, together: bool) -> None:
    first, again = Noted(), Noted()
    trained_all(tmp_path, [{}], [first], together=together)
    assert first.seeds == ([[3, 7, 11]] if together else [[3], [3, 7], [3, 7, 11]])
    trained_all(tmp_path, [{}], [again], together=together)
    assert again.seeds == [[3, 7, 11]], "all are in storage: no seed is left that could be spared"


def test_seeds_that_are_too_large_together_are_trained_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*args: Any, **options: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(module, "fit_together", too_large)
    check_same(trained(tmp_path / "large", together=True), trained(tmp_path / "single", together=False))
    with pytest.raises(torch.OutOfMemoryError):
        trained_all(tmp_path / "several", [{"learning_rate": 0.01}, {"learning_rate": 0.02}], [Noted(), Noted()])


def test_what_was_trained_beside_a_seed_that_diverges_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def second_diverges(*args: Any, **options: Any) -> list[FitResult | TrainingError | None]:
        first, _, third = fit_together(*args, **options)
        return [first, TrainingError("The training loss is nan (seed 7)."), third]

    monkeypatch.setattr(module, "fit_together", second_diverges)
    with pytest.raises(TrainingError, match="seed 7"):
        trained(tmp_path, together=True)
    store = CandidateStore(str(tmp_path), {})
    assert [store.result(seed) is not None for seed in RECIPE.seeds] == [True, False, True]


def test_data_goes_to_other_processes_as_arrays_that_are_read_in_place() -> None:
    buffers: list[pickle.PickleBuffer] = []
    payload = pickle.dumps(TRAIN, protocol=5, buffer_callback=buffers.append)
    numbers = sum(token.numel() * 4 for token in TRAIN.inputs.tokens.values()) + 60 * 2 + 60 * 8
    assert sum(buffer.raw().nbytes for buffer in buffers) == numbers, "something is copied into the stream"
    assert len(payload) < 2000
    again: LabelledInputs = pickle.loads(payload, buffers=buffers)
    assert torch.equal(again.labels, TRAIN.labels)
    assert torch.equal(again.inputs.tokens[FACE], TRAIN.inputs.tokens[FACE])
    assert again.inputs.tokens[FACE].data_ptr() == TRAIN.inputs.tokens[FACE].data_ptr()

"""All seeds of a candidate at once, as on a GPU: the same results as one after another, and the same that rest."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from twominds.errors import TrainingError
from twominds.fusion.batch import FusionInputs
from twominds.fusion.simple import ConcatMLPConfig
from twominds.pipelines.search import candidate as module
from twominds.pipelines.search.candidate import CandidateStore, LabelledInputs, SearchData, SeedResult, train_candidate
from twominds.recipes.recipe import FusionRecipe
from twominds.records import Modality
from twominds.training.fit import EpochReport, FitConfig, FitResult
from twominds.training.fit_seeds import fit_seeds
from twominds.training.losses import FusionLoss
from twominds.training.selection import SelectionView

FACE, TEXT = Modality.FACE, Modality.TEXT
RECIPE = FusionRecipe(
    model=ConcatMLPConfig(hidden_dim=8, dropout=0.0),
    fit=FitConfig(epochs=5, batch_size=8, optimizer="adamw", learning_rate=1e-2),
    loss=FusionLoss(),
    modalities=(FACE, TEXT),
    seeds=(3, 7, 11),
)


def split(clips: int, seed: int) -> LabelledInputs:
    generator = torch.Generator().manual_seed(seed)
    tokens = {m: torch.randn(clips, 4, generator=generator) for m in (FACE, TEXT)}
    labels = (tokens[FACE][:, 0] + tokens[TEXT][:, 0] > 0).long()
    return LabelledInputs(
        inputs=FusionInputs(tokens=tokens, mask=torch.ones(clips, 2, dtype=torch.bool)), labels=labels
    )


TRAIN, VALIDATION = split(60, 0), split(30, 1)
DATA: SearchData = SelectionView(train=TRAIN, validation=VALIDATION, scored_on=(VALIDATION,), selected_on="validation")


def trained(folder: Path, recipe: FusionRecipe = RECIPE, *, together: bool) -> CandidateStore:
    store = CandidateStore(str(folder), {})
    train_candidate({}, recipe, DATA, store, num_classes=2, together=together)
    return store


def test_together_and_one_by_one_come_to_the_same(tmp_path: Path) -> None:
    batched, single = trained(tmp_path / "batched", together=True), trained(tmp_path / "single", together=False)
    for seed in RECIPE.seeds:
        found, expected = batched.result(seed), single.result(seed)
        assert found is not None
        assert expected is not None
        assert replace(found, seconds=0, validation_loss=0, selection_loss=0) == replace(
            expected, seconds=0, validation_loss=0, selection_loss=0
        )
        assert found.validation_loss == pytest.approx(expected.validation_loss, abs=1e-4)
        weights, told = batched.state(seed), single.state(seed)
        assert weights.keys() == told.keys()
        for name, tensor in told.items():
            torch.testing.assert_close(weights[name], tensor, atol=1e-4, rtol=1e-3)


def test_a_seed_that_is_finished_is_not_trained_again_with_the_others(tmp_path: Path) -> None:
    store = trained(tmp_path, replace(RECIPE, seeds=(7,)), together=True)
    before = store.result(7)
    seen: list[int] = []

    def note(seed: int, epoch: EpochReport) -> None:
        seen.append(seed)

    results = train_candidate({}, RECIPE, DATA, store, num_classes=2, together=True, on_epoch=note)
    assert [result.seed for result in results] == [3, 7, 11]
    assert results[1] == before
    assert set(seen) == {3, 11}


@pytest.mark.parametrize("together", [False, True])
def test_who_looks_on_is_told_of_seeds_while_something_can_still_be_ended(tmp_path: Path, together: bool) -> None:
    told: list[list[int]] = []

    def tell(results: list[SeedResult]) -> None:
        told.append([result.seed for result in results])

    store = CandidateStore(str(tmp_path), {})
    train_candidate({}, RECIPE, DATA, store, num_classes=2, together=together, on_seed=tell)
    assert told == ([[3, 7, 11]] if together else [[3], [3, 7], [3, 7, 11]])
    told.clear()
    train_candidate({}, RECIPE, DATA, store, num_classes=2, together=together, on_seed=tell)
    assert told == [[3, 7, 11]], "all are in storage: no seed is left that could be spared"


def test_what_was_trained_beside_a_seed_that_diverges_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def second_diverges(*args: Any, **options: Any) -> list[FitResult | TrainingError]:
        first, _, third = fit_seeds(*args, **options)
        return [first, TrainingError("The training loss is nan (seed 7)."), third]

    monkeypatch.setattr(module, "fit_seeds", second_diverges)
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

"""The baseline of the search benchmark: the loop that one would write today.

Optuna's TPE draws the candidates, each is trained with five seeds one after the other by torch's own parts (loaders,
optimizers, schedulers), and a line of JSON is left after each. The model and the objective are twominds', so that both
sides train the same thing; nothing else of it takes part. Started again, it goes on after the last line.
"""

import argparse
import copy
import json
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
import torch.nn.functional as F
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from search_data import DIMS, read_split
from sklearn import metrics
from torch import Tensor, nn
from torch.optim import RMSprop
from torch.optim.adamw import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import build_fusion
from twominds.recipes.leya import leya
from twominds.recipes.recipe import FusionRecipe
from twominds.recipes.space import Choice, LogUniform, SearchSpace
from twominds.records import Split
from twominds.tasks import AH_VIDEO
from twominds.training.fit_config import FitConfig
from twominds.training.losses import balanced_class_weights
from twominds.training.objective import Objective

RANDOM_STARTS = 20
EVALUATION_BATCH_SIZE = 256

Batch = list[Tensor]
"""One tensor per modality, the mask of what is present, the labels."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One training at its best epoch."""

    validation_score: float
    test_mf1: float
    epochs: int
    seconds: float
    state: dict[str, Tensor]


def datasets(embeddings: Path) -> dict[Split, TensorDataset]:
    """The three splits in memory."""
    found: dict[Split, TensorDataset] = {}
    for split in (Split.TRAIN, Split.VALIDATION, Split.TEST):
        inputs, labels = read_split(embeddings, split)
        found[split] = TensorDataset(*inputs.tokens.values(), inputs.mask, labels)
    return found


def inputs_of(batch: Batch) -> FusionInputs:
    """What the model takes of a batch."""
    return FusionInputs(tokens=dict(zip(DIMS, batch[:-2], strict=True)), mask=batch[-2])


def make_optimizer(model: nn.Module, fit: FitConfig) -> torch.optim.Optimizer:
    """RMSprop or AdamW."""
    if fit.optimizer == "rmsprop":
        return RMSprop(model.parameters(), lr=fit.learning_rate, weight_decay=fit.weight_decay, momentum=fit.momentum)
    return AdamW(model.parameters(), lr=fit.learning_rate, weight_decay=fit.weight_decay)


def make_scheduler(optimizer: torch.optim.Optimizer, fit: FitConfig) -> CosineAnnealingLR | ReduceLROnPlateau:
    """Half a cosine over all epochs, or half the rate after more than two epochs without a lower validation loss."""
    if fit.scheduler == "cosine":
        return CosineAnnealingLR(optimizer, T_max=fit.epochs)
    return ReduceLROnPlateau(optimizer, factor=0.5, patience=2, threshold=0.0)


@torch.no_grad()
def evaluate(model: nn.Module, loader: "DataLoader[tuple[Tensor, ...]]") -> tuple[float, float]:
    """Macro F1 and cross entropy."""
    model.eval()
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    for batch in loader:
        logits.append(model(inputs_of(batch)).logits)
        labels.append(batch[-1])
    answers, truth = torch.cat(logits), torch.cat(labels)
    mf1: Any = metrics.f1_score(truth.numpy(), answers.argmax(dim=1).numpy(), average="macro")
    return float(mf1), float(F.cross_entropy(answers, truth))


def train(recipe: FusionRecipe, seed: int, data: dict[Split, TensorDataset]) -> Trained:
    """One model, until it has not become better for `patience` epochs."""
    started = time.perf_counter()
    torch.manual_seed(seed)
    fit = recipe.fit
    loader = DataLoader(data[Split.TRAIN], batch_size=fit.batch_size, shuffle=True)
    validation = DataLoader(data[Split.VALIDATION], batch_size=EVALUATION_BATCH_SIZE)
    test = DataLoader(data[Split.TEST], batch_size=EVALUATION_BATCH_SIZE)
    model = build_fusion(recipe.model, dims=DIMS, num_outputs=AH_VIDEO.num_outputs, seed=seed)
    class_weights = balanced_class_weights(data[Split.TRAIN].tensors[-1], AH_VIDEO.num_outputs)
    optimizer = make_optimizer(model, fit)
    scheduler = make_scheduler(optimizer, fit)
    best, best_epoch, best_test, best_state = (-1.0, 0.0), 0, 0.0, dict[str, Tensor]()
    epoch = 0
    for epoch in range(1, fit.epochs + 1):
        model.train()
        for batch in loader:
            optimizer.zero_grad()
            output = model(inputs_of(batch))
            loss = recipe.loss(
                output,
                batch[-1],
                class_weights=class_weights,
                label_smoothing=fit.label_smoothing,
                criterion=Objective().loss,
            )
            loss.backward()
            if fit.grad_clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), fit.grad_clip)
            optimizer.step()
        validation_score, validation_loss = evaluate(model, validation)
        test_mf1, _ = evaluate(model, test)
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(validation_loss)
        else:
            scheduler.step()
        if (validation_score, -validation_loss) > best:
            best, best_epoch, best_test = (validation_score, -validation_loss), epoch, test_mf1
            best_state = copy.deepcopy(model.state_dict())
        if epoch - best_epoch >= fit.patience:
            break
    return Trained(
        validation_score=best[0],
        test_mf1=best_test,
        epochs=epoch,
        seconds=time.perf_counter() - started,
        state=best_state,
    )


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The space in Optuna's words."""
    found: dict[str, BaseDistribution] = {}
    for name, dimension in space.items():
        if isinstance(dimension, Choice):
            choices: Any = dimension.values
            found[name] = CategoricalDistribution(choices)
        else:
            found[name] = FloatDistribution(dimension.low, dimension.high, log=isinstance(dimension, LogUniform))
    return found


def search(embeddings: Path, output: Path, where: list[str], *, trials: int, seed: int) -> None:
    """Tries candidates until there are `trials` of them in `output`/candidates.jsonl."""
    started = time.time()
    fusion = leya().fusion.searched_in(where)
    space = distributions(fusion.space)
    data = datasets(embeddings)
    output.mkdir(parents=True, exist_ok=True)
    lines = output / "candidates.jsonl"
    known: list[dict[str, Any]] = (
        [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # The same seed again would draw the same candidates again.
    sampler = optuna.samplers.TPESampler(n_startup_trials=RANDOM_STARTS, seed=seed + 1000 * len(known))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for line in known:
        study.add_trial(
            optuna.trial.create_trial(params=line["candidate"], distributions=space, value=line["mean_score"])
        )
    if not known:
        for point in fusion.first_points:
            study.enqueue_trial(dict(point))
    best = max((line["mean_score"] for line in known), default=-1.0)
    for number in range(len(known), trials):
        trial = study.ask(space)
        trained = {s: train(fusion.with_candidate(trial.params), s, data) for s in fusion.seeds}
        mean = statistics.fmean(model.validation_score for model in trained.values())
        study.tell(trial, mean)
        if mean > best:
            best = mean
            torch.save({s: model.state for s, model in trained.items()}, output / "best.pt")
        line = {
            "candidate": trial.params,
            "mean_score": mean,
            "best_mf1": best,
            "mf1": [model.validation_score for model in trained.values()],
            "test_mf1": [model.test_mf1 for model in trained.values()],
            "epochs": [model.epochs for model in trained.values()],
            "trained_s": sum(model.seconds for model in trained.values()),
            "seconds": time.time() - started,
            "over": time.time(),
        }
        with lines.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(
            f"candidate {number + 1}/{trials}: MF1 {mean:.3f}, best {best:.3f}, {line['trained_s']:.1f} s", flush=True
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Search the fusion without twominds' search.")
    parser.add_argument("--embeddings", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--space", nargs="*", default=[])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--sampler-seed", type=int, default=0)
    given = parser.parse_args()
    search(given.embeddings, given.output, given.space, trials=given.trials, seed=given.sampler_seed)

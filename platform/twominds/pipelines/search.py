"""The stability search with Ray Tune and HyperOpt: embeddings in, the five-seed ensemble out.

Every candidate is one trial that trains all seeds; its score is the mean validation MF1 over them (minus
`std_penalty` times their standard deviation). The test split is not read, unless the paper's protocol is asked for. An
interrupted search that is started again goes on: Tune restores its trials and the sampler, and finished seeds are in
storage (`candidate.py`).
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import torch
from ray import tune
from ray.tune import ResultGrid
from rich.table import Table

from twominds.artifacts import Card, fingerprint, to_json
from twominds.fusion.batch import InputKind, fusion_inputs
from twominds.pipelines import tables
from twominds.pipelines.about import About, absolute, read_about
from twominds.pipelines.candidate import CandidateStore, LabelledInputs, SearchData, SeedResult, train_candidate
from twominds.pipelines.cluster import cluster
from twominds.pipelines.labelled import labelled_rows, labels_fingerprint
from twominds.pipelines.summary import Summary
from twominds.pipelines.tuning import SCORE, Plan, SearchError, TuningConfig, candidate_of, run_trials, write_trials
from twominds.recipes.catalog import find_recipe
from twominds.recipes.recipe import FusionRecipe, Recipe
from twominds.recipes.space import Candidate
from twominds.records import Modality, Split
from twominds.scoring.decision import DecisionFit, fit_decision
from twominds.scoring.ensemble import EnsembleConfig, ensemble_logits, save_ensemble, seed_models
from twominds.training.selection import SelectionProtocol
from twominds.workspace import Workspace, job_command, require


@dataclass(frozen=True, kw_only=True)
class SearchConfig(TuningConfig):
    """Search the fusion whose five seeds are best on validation, and save them as the ensemble."""

    embeddings: str = field(default_factory=lambda: Workspace.default().embeddings)
    """Folder of `jobs/embed.py`."""
    encoders: str = field(default_factory=lambda: Workspace.default().encoders)
    """Folder of `jobs/train_encoders.py`; they travel in the ensemble."""
    output: str = field(default_factory=lambda: Workspace.default().search)
    """Folder for the state of the search and its trials; local or s3://."""
    ensemble: str = field(default_factory=lambda: Workspace.default().ensemble)
    """Folder for the winner: what `serve run` serves."""
    recipe: str = ""
    """The system; by default the one that the embeddings were made for."""
    trials: int = 0
    """Candidates, the recipe's own first; 0: as many as the recipe says."""
    sampler: Literal["hyperopt", "random"] = "hyperopt"
    """TPE, or random search as its control."""
    std_penalty: float = 0.0
    """The score is the mean MF1 minus this times the standard deviation over the seeds."""
    protocol: SelectionProtocol = "validation"
    """Which splits choose epochs and candidates. `validation+test` is the paper's way: whatever is made so says it."""
    inputs: InputKind | None = None
    """What of each embedding the fusion takes; by default the recipe's choice."""
    decision: DecisionFit = field(default_factory=DecisionFit)
    """What of the winner's decision is fitted on validation; a finished search can be run again with another."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A candidate with all its seeds."""

    candidate: Candidate
    results: tuple[SeedResult, ...]
    score: float

    @property
    def mean(self) -> float:
        """Mean MF1 on what selects: validation, but under the paper's protocol."""
        return statistics.fmean(result.selection_mf1 for result in self.results)

    @property
    def std(self) -> float:
        """Its population standard deviation over the seeds."""
        return statistics.pstdev(result.selection_mf1 for result in self.results)

    def row(self) -> dict[str, Any]:
        """Of the table of all trials."""
        return {
            **self.candidate,
            "score": self.score,
            "mean_mf1": self.mean,
            "std_mf1": self.std,
            **{f"mf1_seed_{result.seed}": result.selection_mf1 for result in self.results},
            "seconds": sum(result.seconds for result in self.results),
        }

    def rank(self) -> tuple[float, float]:
        """What the best candidate has the most of: score, and of equals (small splits have many) the lower loss."""
        return self.score, -statistics.fmean(result.selection_loss for result in self.results)


def search_fusion(config: SearchConfig) -> Summary:
    """Runs (or goes on with) the search; returns what it did.

    Raises:
        MissingInputError: embeddings or encoders are not there.
        SelectionError: a split that the protocol needs has no labelled clip.
        SearchError: no candidate finished.
    """
    require(config.embeddings, what="embeddings", made_by="python jobs/embed.py")
    require(config.encoders, what="encoders", made_by="python jobs/train_encoders.py")
    about = read_about(config.embeddings)
    recipe = find_recipe(config.recipe or about.recipe)
    fusion = replace(
        recipe.fusion, inputs=config.inputs or recipe.fusion.inputs, trials=config.trials or recipe.fusion.trials
    )
    data = read_search_data(config.embeddings, fusion, config.protocol)
    # A search is what it searches: the same settings on the same data go on, others start anew beside it.
    labels = labels_fingerprint(config.embeddings, config.protocol)
    identity = [about.fingerprint, labels, to_json(fusion), config.sampler, config.sampler_seed, config.protocol]
    # Absolute: a trial has a working folder of its own.
    run_uri = f"{absolute(config.output)}/{fingerprint(identity, config.random_starts, config.std_penalty)}"
    parameters = {
        "fusion": fusion,
        "data": data,
        "num_classes": recipe.task.num_classes,
        "run_uri": run_uri,
        "std_penalty": config.std_penalty,
        "device": config.device,
    }
    plan = Plan(space=fusion.space, first_points=fusion.first_points, sampler=config.sampler, trials=fusion.trials)
    with cluster(config.address) as cpus:
        grid = run_trials(_trainable, parameters, plan, config, seeds=len(fusion.seeds), run_uri=run_uri, cpus=cpus)
        trials = _finished(grid, fusion, run_uri, config.std_penalty)
        errored = len([result for result in grid if result.error])
    if not trials:
        raise SearchError(f"No candidate finished all {len(fusion.seeds)} seeds; see the errors in {run_uri}.")
    write_trials(run_uri, [trial.row() for trial in trials])
    best = max(trials, key=Trial.rank)
    card = _save(config, recipe, fusion, data, best, run_uri, about, len(trials))
    return _summary(config, recipe, trials, best, card, run_uri, errored)


def read_search_data(embeddings_uri: str, fusion: FusionRecipe, protocol: SelectionProtocol) -> SearchData:
    """Inputs of the fusion from a folder of embeddings, of the splits that the protocol may see.

    Raises:
        SelectionError: a split has no labelled clip.
    """
    columns = [f.name for m in fusion.modalities for f in tables.embedding_fields(m)]

    def inputs(rows: list[tables.Row], dims: Mapping[Modality, int] | None = None) -> LabelledInputs:
        clips = [{m: tables.embedding_from_row(row, m) for m in fusion.modalities} for row in rows]
        return LabelledInputs(
            inputs=fusion_inputs(clips, fusion.modalities, fusion.inputs, dims),
            labels=torch.tensor([row["label"] for row in rows]),
        )

    rows = labelled_rows(embeddings_uri, columns, protocol)
    dims = inputs(rows.train).inputs.dims
    return rows.map(lambda split: inputs(split, dims))


def _trainable(
    settings: dict[str, Any],
    *,
    fusion: FusionRecipe,
    data: SearchData,
    num_classes: int,
    run_uri: str,
    std_penalty: float,
    device: str,
) -> None:
    """Runs in a trial."""
    torch.set_num_threads(1)
    candidate = candidate_of(settings, fusion.space)

    def on_seed(results: list[SeedResult]) -> None:
        values = [result.selection_mf1 for result in results]
        tune.report(
            {
                SCORE: statistics.fmean(values) - std_penalty * statistics.pstdev(values),
                "mean_mf1": statistics.fmean(values),
                "std_mf1": statistics.pstdev(values),
                "seeds_done": len(results),
            }
        )

    store = CandidateStore(run_uri, candidate)
    train_candidate(candidate, fusion, data, store, num_classes=num_classes, device=device, on_seed=on_seed)


def _finished(grid: ResultGrid, fusion: FusionRecipe, run_uri: str, std_penalty: float) -> list[Trial]:
    """Trials with every seed done: means over different numbers of seeds can't be compared."""
    trials: dict[str, Trial] = {}
    for result in grid:
        candidate = cast("Candidate", result.config)
        store = CandidateStore(run_uri, candidate)
        found = [store.result(seed) for seed in fusion.seeds]
        results = tuple(seed_result for seed_result in found if seed_result is not None)
        if len(results) == len(fusion.seeds):
            values = [r.selection_mf1 for r in results]
            score = statistics.fmean(values) - std_penalty * statistics.pstdev(values)
            trials[result.path] = Trial(candidate=candidate, results=results, score=score)
    return list(trials.values())


def _save(
    config: SearchConfig,
    recipe: Recipe,
    fusion: FusionRecipe,
    data: SearchData,
    best: Trial,
    run_uri: str,
    about: About,
    searched: int,
) -> Card:
    chosen = fusion.with_candidate(best.candidate)
    store = CandidateStore(run_uri, best.candidate)
    states = {seed: store.state(seed) for seed in fusion.seeds}
    inputs, dims = data.validation.inputs, data.train.inputs.dims
    logits = ensemble_logits(seed_models(states, chosen.model, dims, recipe.task.num_classes), inputs)
    ensemble = EnsembleConfig(
        fusion=chosen.model,
        inputs=fusion.inputs,
        modalities=fusion.modalities,
        media=about.media,
        decision=fit_decision(config.decision, logits, data.validation.labels.numpy()),
    )
    validation_mf1 = {str(r.seed): r.validation_mf1 for r in best.results}
    card = Card(
        kind="ensemble",
        task=recipe.task,
        recipe=recipe.name,
        config={},
        data={
            "embeddings": about.fingerprint,
            "clips": {
                str(Split.TRAIN): len(data.train.labels),
                str(Split.VALIDATION): len(data.validation.labels),
            },
        },
        metrics={
            "validation_mf1_mean": statistics.fmean(validation_mf1.values()),
            "validation_mf1_std": statistics.pstdev(validation_mf1.values()),
            "validation_mf1": validation_mf1,
            "selection_mf1_mean": best.mean,
            "candidate": best.candidate,
            "candidates_searched": searched,
            "decision_fit": to_json(config.decision),
        },
        selected_on=data.selected_on,
    )
    encoders = {modality: f"{config.encoders}/{modality}" for modality in fusion.modalities}
    return save_ensemble(config.ensemble, states, ensemble, dims=dims, encoders=encoders, card=card)


def _summary(
    config: SearchConfig, recipe: Recipe, trials: list[Trial], best: Trial, card: Card, run_uri: str, errored: int
) -> Summary:
    table = Table("rank", "MF1", "candidate")
    for rank, trial in enumerate(sorted(trials, key=Trial.rank, reverse=True)[:5], start=1):
        shown = [
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in trial.candidate.items()
            if name in ("hidden_dim", "num_layers", "dropout", "optimizer", "learning_rate")
        ]
        table.add_row(str(rank), f"{trial.mean:.3f} +- {trial.std:.3f}", ", ".join(shown))
    summary = Summary(title=f"Stability search of {recipe.name}", where=config.ensemble, tables=[table])
    summary.add("candidates with all seeds", f"{len(trials)} of {config.trials or recipe.fusion.trials}")
    summary.add("candidates that failed", errored)
    summary.add(f"best on {card.selected_on}", f"MF1 {best.mean:.3f} +- {best.std:.3f} over {len(best.results)} seeds")
    if config.protocol != "validation":
        summary.add("selected_on", card.selected_on)
    summary.add("every trial", f"{run_uri}/trials.parquet")
    if config.decision != DecisionFit():
        summary.add("decision", ", ".join(f"{k} {v:.3g}" for k, v in card.config["decision"].items()))
    summary.add("ensemble", f"{card.artifact_id} ({card.weights} weights)")
    summary.next_step = job_command("evaluate", ensemble=config.ensemble, embeddings=config.embeddings)
    return summary

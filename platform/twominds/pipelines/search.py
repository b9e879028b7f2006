"""The stability search with Ray Tune and HyperOpt: embeddings in, the five-seed ensemble out.

Every candidate is one trial that trains all seeds; its score is the mean validation MF1 over them (minus
`std_penalty` times their standard deviation). The test split is not read, unless the paper's protocol is asked for. An
interrupted search that is started again goes on: Tune restores its trials and the sampler, and finished seeds are in
storage (`candidate.py`).
"""

import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from ray import tune
from ray.tune import FailureConfig, ResultGrid, RunConfig, TuneConfig, Tuner
from ray.tune.search import BasicVariantGenerator, Searcher
from ray.tune.search.hyperopt import HyperOptSearch
from rich.table import Table
from upath import UPath

from twominds.artifacts import Card, fingerprint, to_json
from twominds.errors import TwomindsError
from twominds.fusion.batch import InputKind, fusion_inputs
from twominds.pipelines import tables
from twominds.pipelines.about import About, read_about
from twominds.pipelines.candidate import CandidateStore, LabelledInputs, SearchData, SeedResult, train_candidate
from twominds.pipelines.cluster import cluster
from twominds.pipelines.labelled import labelled_rows, labels_fingerprint
from twominds.pipelines.progress import SearchProgress
from twominds.pipelines.storage import storage_of
from twominds.pipelines.summary import Summary
from twominds.recipes.catalog import find_recipe
from twominds.recipes.recipe import FusionRecipe, Recipe
from twominds.recipes.space import Candidate, Choice, Dimension, LogUniform, check_candidate
from twominds.records import Modality, Split
from twominds.scoring.decision import DecisionFit, fit_decision
from twominds.scoring.ensemble import EnsembleConfig, ensemble_logits, save_ensemble, seed_models
from twominds.training.selection import SelectionProtocol
from twominds.workspace import Workspace, job_command, require

SCORE = "score"


class SearchError(TwomindsError):
    """No candidate of a search finished all its seeds."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
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
    random_starts: int = 20
    """Candidates that are drawn at random before TPE begins."""
    sampler: Literal["hyperopt", "random"] = "hyperopt"
    """TPE, or random search as its control."""
    sampler_seed: int = 0
    """Seed of the sampler."""
    std_penalty: float = 0.0
    """The score is the mean MF1 minus this times the standard deviation over the seeds."""
    protocol: SelectionProtocol = "validation"
    """Which splits choose epochs and candidates. `validation+test` is the paper's way: whatever is made so says it."""
    inputs: InputKind | None = None
    """What of each embedding the fusion takes; by default the recipe's choice."""
    decision: DecisionFit = field(default_factory=DecisionFit)
    """What of the winner's decision is fitted on validation; a finished search can be run again with another."""
    concurrency: int = 0
    """Candidates at a time; 0: one per CPU."""
    gpus_per_trial: float = 0.0
    """GPU share of each trial."""
    max_failures: int = 2
    """How often a trial that dies is started again."""
    address: str | None = None
    """A running Ray cluster; by default the one that the job was submitted to, else one started here."""


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
    run_uri = f"{config.output}/{fingerprint(identity, config.random_starts, config.std_penalty)}"
    with cluster(config.address) as cpus:
        grid = _tune(config, recipe, fusion, data, run_uri, cpus)
        trials = _finished(grid, fusion, run_uri, config.std_penalty)
        errored = len([result for result in grid if result.error])
    if not trials:
        raise SearchError(f"No candidate finished all {len(fusion.seeds)} seeds; see the errors in {run_uri}.")
    _write_trials(run_uri, trials)
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
    candidate: dict[str, Any],
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
    check_candidate(candidate, fusion.space)

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


def _tune(
    config: SearchConfig, recipe: Recipe, fusion: FusionRecipe, data: SearchData, run_uri: str, cpus: int
) -> ResultGrid:
    # Seconds between snapshots of the search: what a killed driver can lose of the sampler's memory.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "2")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's own banner; `SearchProgress` prints what a person reads
    parameters = {
        "fusion": fusion,
        "data": data,
        "num_classes": recipe.task.num_classes,
        "run_uri": run_uri,
        "std_penalty": config.std_penalty,
        "device": "cuda" if config.gpus_per_trial else "cpu",
    }
    with_data = cast("Any", tune.with_parameters(_trainable, **parameters))
    resources = {"cpu": 1.0, **({"gpu": config.gpus_per_trial} if config.gpus_per_trial else {})}
    trainable = cast("Any", tune.with_resources(with_data, resources))
    filesystem, path = storage_of(f"{run_uri}/tune")
    if can_resume(f"{run_uri}/tune"):
        return Tuner.restore(path, trainable=trainable, storage_filesystem=filesystem, resume_unfinished=True).fit()
    progress = SearchProgress(trials=fusion.trials, seeds=len(fusion.seeds), run_uri=run_uri)
    tuner = Tuner(
        trainable,
        param_space=tune_space(fusion),
        tune_config=TuneConfig(
            metric=SCORE,
            mode="max",
            num_samples=fusion.trials,
            search_alg=_sampler(config, fusion),
            max_concurrent_trials=config.concurrency or cpus,
        ),
        run_config=RunConfig(
            name="tune",
            storage_path=storage_of(run_uri)[1],
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=config.max_failures),
            callbacks=[progress],
            verbose=0,
        ),
    )
    return tuner.fit()


def can_resume(tune_uri: str) -> bool:
    """Whether a search can go on from here: Tune also wants a snapshot, not only its description of the search."""
    folder = UPath(tune_uri)
    return folder.exists() and (folder / "tuner.pkl").exists() and any(folder.glob("experiment_state-*.json"))


def _sampler(config: SearchConfig, fusion: FusionRecipe) -> Searcher | BasicVariantGenerator:
    points = [dict(point) for point in fusion.first_points][: fusion.trials]
    for point in points:
        check_candidate(point, fusion.space)
    if config.sampler == "random":
        return BasicVariantGenerator(points_to_evaluate=points, random_state=config.sampler_seed)
    return HyperOptSearch(
        points_to_evaluate=points, n_initial_points=config.random_starts, random_state_seed=config.sampler_seed
    )


def tune_space(fusion: FusionRecipe) -> dict[str, Any]:
    """The search space in Ray Tune's words."""
    return {name: _domain(dimension) for name, dimension in fusion.space.items()}


def _domain(dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        return tune.choice(list(dimension.values))
    if isinstance(dimension, LogUniform):
        return tune.loguniform(dimension.low, dimension.high)
    return tune.uniform(dimension.low, dimension.high)


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


def _write_trials(run_uri: str, trials: list[Trial]) -> None:
    rows = [
        {
            **trial.candidate,
            "score": trial.score,
            "mean_mf1": trial.mean,
            "std_mf1": trial.std,
            **{f"mf1_seed_{r.seed}": r.selection_mf1 for r in trial.results},
            "seconds": sum(r.seconds for r in trial.results),
        }
        for trial in trials
    ]
    with (UPath(run_uri) / "trials.parquet").open("wb") as file:
        pq.write_table(pa.Table.from_pylist(rows), cast("Any", file))


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

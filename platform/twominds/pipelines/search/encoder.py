"""The search of one view's encoder (LEYA, section 4.2): features in, the best candidate's encoder out.

Every candidate is one trial that trains the encoder once, with the recipe's seed, on features that are there; settings
of the features themselves (frames, layers of a frozen backbone) are not searched. What a candidate comes to is an
artifact in storage: its card says how good it is and stays, its tensors until it is beaten. So an interrupted search
goes on, and trains nothing twice. The test split is not read, unless the paper's protocol is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rich.table import Table

from twominds import artifacts, model_card
from twominds.artifacts import Card, fingerprint, to_json
from twominds.backbones import BackboneStore
from twominds.encoders.artifact import save_encoder
from twominds.pipelines.cluster import cluster
from twominds.pipelines.search.tuning import SearchError, run_trials, write_trials
from twominds.pipelines.train_view import (
    EncoderClips,
    check_inputs,
    data_fingerprint,
    encoder_card,
    read_examples,
    trained_encoder,
)
from twominds.recipes.catalog import find_recipe
from twominds.recipes.recipe import Recipe
from twominds.recipes.space import Candidate, Sampler
from twominds.records import View
from twominds.reports.summary import Summary
from twominds.results.about import absolute, read_about
from twominds.search.candidate import SeedResult
from twominds.search.config import TuningConfig
from twominds.search.outcomes import Outcome
from twominds.search.plan import Plan, trials_left
from twominds.search.store import SearchStore
from twominds.search.trial import Rules, Watch
from twominds.storage import require_writable
from twominds.training.selection import SelectionProtocol
from twominds.workspace import Workspace, job_command, require


@dataclass(frozen=True, kw_only=True)
class EncoderSearchConfig(TuningConfig):
    """Search the settings of one view's encoder for the best on validation, and save that encoder."""

    view: View
    """Whose encoder; the recipe must have a space for it."""
    features: str = field(default_factory=lambda: Workspace.default().features)
    """Folder of `jobs/preprocess.py`."""
    models: str = field(default_factory=lambda: Workspace.default().models)
    """The bundle of pre-trained weights."""
    search: str = field(default_factory=lambda: Workspace.default().search)
    """Folder for the state of the search and its trials; local or s3://."""
    output: str = field(default_factory=lambda: Workspace.default().encoders)
    """Folder for the winner, in place of the view's encoder there, as of `jobs/train_encoders.py`."""
    recipe: str = ""
    """The system; by default the one that the features were made for."""
    trials: int = 0
    """Candidates, the recipe's own first; 0: as many as the recipe says."""
    sampler: Sampler | None = None
    """TPE, random search or every point of the space; by default the recipe's choice."""
    protocol: SelectionProtocol = "validation"
    """Which splits choose epochs and candidates. `validation+test` is the paper's way: whatever is made so says it."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A candidate that was trained."""

    outcome: Outcome
    folder: str
    """Its artifact, without tensors where it was beaten."""
    card: Card


def search_encoder(config: EncoderSearchConfig) -> Summary:
    """Runs (or goes on with) the search; returns what it did.

    Raises:
        MissingInputError: there are no features, or no labelled clips of a split among them.
        BackboneError: the bundle lacks a backbone.
        ConfigError: the recipe has no space for the view, the settings name one that is none, or it has no grid.
        SearchError: no candidate could be trained.
    """
    require(config.features, what="features", made_by="python jobs/preprocess.py")
    require(config.models, what="bundle of weights", made_by="python jobs/make_debug_models.py")
    require_writable(config.search)
    require_writable(config.output)
    # From the root on: a trial has a working folder of its own.
    features, store, view = absolute(config.features), BackboneStore(uri=absolute(config.models)), config.view
    recipe = find_recipe(config.recipe or read_about(features).recipe).with_encoder_search(view, config.space)
    search = recipe.encoder_search(view)
    search = replace(search, trials=config.trials or search.trials, sampler=config.sampler or search.sampler)
    plan = Plan(
        space=search.space,
        first_points=(recipe.encoder_candidate(view),),
        sampler=search.sampler,
        trials=search.trials,
    ).of_what_there_is()
    plan.points()  # refuses what is wrong with it before a cluster is started
    check_inputs(features, recipe, view, store, config.protocol)
    # A search is what it searches: the same settings on the same data go on, others start anew beside it.
    identity = [to_json(recipe.encoders[view]), to_json(recipe.encoder_fits[view]), recipe.encoder_seed]
    identity += [to_json(replace(search, trials=0)), config.sampler_seed, config.random_starts, config.protocol]
    identity += sorted(config.space)
    data = data_fingerprint(features, view, config.protocol)
    run_uri = f"{absolute(config.search)}/{view}-{fingerprint(identity, data)}"
    rules, trials_store = Rules(seeds=(recipe.encoder_seed,)), SearchStore(run_uri)
    parameters = {
        "recipe": recipe,
        "view": view,
        "clips": read_examples(features, view, config.protocol, recipe.task.output),
        "bundle": store,
        "features": features,
        "run_uri": run_uri,
        "device": config.device,
    }
    if trials_left(plan, trials_store):
        with cluster(config.address) as cpus:
            run_trials(_train, parameters, plan, config, rules, trials_store, cpus=cpus)
    outcomes = trials_store.outcomes()
    finished = [outcome for outcome in outcomes if outcome.status == "finished"]
    trials = [_trial(outcome, trials_store) for outcome in sorted(finished, key=rules.rank, reverse=True)]
    if not trials:
        reasons = {outcome.reason for outcome in outcomes} | {incident.cause for incident in trials_store.incidents()}
        raise SearchError(f"None of the candidates could be trained: {' '.join(sorted(reasons))} See {run_uri}.")
    write_trials(run_uri, [_row(trial) for trial in trials])
    best = trials[0]
    card = replace(best.card, metrics={**best.card.metrics, "candidates_searched": len(trials)})
    model_card.save(f"{config.output}/{view}", artifacts.load_tensors(best.folder), card)
    return _summary(config, recipe, trials, tried=len(outcomes), run_uri=run_uri)


def _train(
    candidates: Sequence[Candidate],
    watches: Sequence[Watch],
    *,
    recipe: Recipe,
    view: View,
    clips: EncoderClips,
    bundle: BackboneStore,
    features: str,
    run_uri: str,
    device: str,
) -> list[None]:
    """Runs in a trial: trains a candidate (here they come alone), and keeps it in its folder."""
    (candidate,), (watch,) = candidates, watches
    chosen = recipe.with_encoder_candidate(view, candidate)
    encoder, result = trained_encoder(chosen, view, clips, bundle, device=device)
    card = encoder_card(chosen, view, clips, bundle, result, features)
    metrics = {
        **card.metrics,
        "selection_score": result.selection_score,
        "selection_loss": result.selection_loss,
        "candidate": chosen.encoder_candidate(view),
    }
    folder = str(SearchStore(run_uri).candidate(candidate).folder)
    save_encoder(folder, encoder, chosen.encoders, replace(card, metrics=metrics))
    watch.on_seed([SeedResult.of(recipe.encoder_seed, result)])
    return [None]


def _trial(outcome: Outcome, store: SearchStore) -> Trial:
    folder = str(store.candidate(outcome.candidate).folder)
    return Trial(outcome=outcome, folder=folder, card=artifacts.read_card(folder))


def _row(trial: Trial) -> dict[str, Any]:
    """A trial's row in the table of all trials."""
    metrics = trial.card.metrics
    measured = ("selection_score", "selection_loss", "validation_score", "best_epoch")
    return {**trial.outcome.candidate, **{name: metrics[name] for name in measured}}


def _summary(config: EncoderSearchConfig, recipe: Recipe, trials: list[Trial], *, tried: int, run_uri: str) -> Summary:
    """What is printed; `trials` come the best first."""
    table = Table("rank", recipe.task.score_name, "loss", "candidate")
    for rank, trial in enumerate(trials[:5], start=1):
        shown = [
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in trial.outcome.candidate.items()
        ]
        metrics = trial.card.metrics
        score, loss = metrics["selection_score"], metrics["selection_loss"]
        table.add_row(str(rank), f"{score:.3f}", f"{loss:.3f}", ", ".join(shown))
    best = trials[0].card
    where = f"{config.output}/{config.view}"
    summary = Summary(title=f"Search of the {config.view} encoder of {recipe.name}", where=where, tables=[table])
    summary.add("candidates trained", f"{len(trials)} of {tried}")
    summary.add(f"best on {best.selected_on}", f"{best.task.score_name} {best.metrics['selection_score']:.3f}")
    if config.protocol != "validation":
        summary.add("selected_on", best.selected_on)
    summary.add("every trial", f"{run_uri}/trials.parquet")
    summary.add("weights", best.weights)
    summary.next_step = job_command("embed", features=config.features, encoders=config.output)
    return summary

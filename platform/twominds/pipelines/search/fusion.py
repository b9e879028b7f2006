"""The stability search with Ray Tune and HyperOpt: embeddings in, the five-seed ensemble out.

Every candidate is one trial that trains all seeds; its score is the mean validation score over them (minus
`std_penalty` times their standard deviation). One that can't win any more is ended before its last seed
(`training/stopping.py`); only those with all seeds can be the winner. The test split is not read, unless the paper's
protocol is asked for. An interrupted search that is started again goes on (`search/store.py`).
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from twominds.artifacts import Card, from_json, to_json
from twominds.errors import ConfigError
from twominds.pipelines.cluster import cluster, share_of_node
from twominds.pipelines.search.tuning import SearchError, run_trials, write_trials
from twominds.recipes.recipe import Recipe
from twominds.reports.search.report import trials_rows, write_search_report
from twominds.reports.search.terminal import best_table
from twominds.reports.summary import Summary
from twominds.scoring.fit_decision import DecisionFit
from twominds.scoring.members import EnsembleConfig
from twominds.search.blend import blend
from twominds.search.config import SearchConfig
from twominds.search.estimate import estimate
from twominds.search.inputs import SearchData
from twominds.search.outcomes import SearchResults
from twominds.search.plan import trials_left
from twominds.search.setup import Search, prepare, recipe_of, results_of
from twominds.search.trial import train_fusion
from twominds.search.winner import WinnerConfig, save_winner
from twominds.storage import require_writable
from twominds.workspace import job_command


def search_fusion(config: SearchConfig) -> Summary:
    """Runs (or goes on with) the search; returns what it did.

    Raises:
        MissingInputError: embeddings or encoders are not there.
        SelectionError: a split that the protocol needs has no labelled clip.
        ConfigError: a first candidate is outside of the space, or there is a search and it is not to be gone on with.
        SearchError: no candidate finished, or storage is full or away.
    """
    winner = WinnerConfig(
        ensemble=config.ensemble, encoders=config.encoders, winner=config.winner, decision=config.decision
    )
    recipe = recipe_of(config)
    if recipe.blend is not None:
        return _blended(config, recipe)
    search = prepare(config)
    if config.dry_run:
        return _estimated(search, config)
    if config.report_only:
        return _reported(search)
    if not config.resume and search.store.description():
        raise ConfigError(f"There is a search of this at {search.store.uri}. Leave out --no-resume, or choose another.")
    require_writable(search.store.uri)
    require_writable(config.ensemble)
    with _kept_at(search.store.uri):
        left, before = trials_left(search.plan, search.store), len(search.store.outcomes())
    # Of a search that is over, another decision is fitted: no cluster is waited for.
    with cluster(config.address) if left else nullcontext(0) as cpus, _kept_at(search.store.uri):
        results = _run(search, config, cpus)
    best = results.finished[0]
    with _kept_at(config.ensemble):
        card = save_winner(
            winner,
            best,
            search.store.candidate(best.candidate),
            search.recipe,
            search.fusion,
            search.data,
            search.about,
            searched=len(results.outcomes),
            device=config.device,
            on_validation=search.on_validation,
        )
    return _summary(config, search, results, card, before)


@contextmanager
def _kept_at(uri: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise SearchError(
            f"Nothing can be kept at {uri}: {error}. What is trained is not lost: make room there, or see to the "
            "connection, and run the same command again."
        ) from error


def _blended(config: SearchConfig, recipe: Recipe) -> Summary:
    """Nothing is trained: what the encoders say is weighed, and the ensemble saved."""
    if config.dry_run or config.report_only:
        raise ConfigError(f"{recipe.name} blends what its encoders say: there is no search to plan or to report.")
    require_writable(config.ensemble)
    with _kept_at(config.ensemble):
        card = blend(config, recipe)
    summary = Summary(title=f"Blend of {recipe.name}", where=config.ensemble)
    summary.add("validation", f"{card.task.score_name} {card.metrics['validation_score']:.3f}")
    for member in from_json(EnsembleConfig, card.config).members:
        weights = member.weight if isinstance(member.weight, tuple) else (member.weight,)
        summary.add(f"weight of {member.name}", ", ".join(f"{weight:.2f}" for weight in weights))
    summary.add("decision", ", ".join(_in_words(step) for step in card.config["decision"]["steps"]) or "none")
    summary.add("ensemble", f"{card.artifact_id} ({card.weights} weights)")
    summary.next_step = job_command("evaluate", ensemble=config.ensemble, embeddings=config.embeddings)
    return summary


def _run(search: Search, config: SearchConfig, cpus: int) -> SearchResults:
    """Everything that writes to the search's folder. Without CPUs nothing is left to train."""
    if cpus:
        share = share_of_node(config.cpus_per_trial, config.gpus_per_trial)
    else:
        share = search.store.description().get("node_share", 1.0)
    search.store.describe(planned=search.plan.trials, node_share=share, config=to_json(config))
    parameters = {
        "recipe": search.fusion,
        "data": search.data,
        "run_uri": search.store.uri,
        "objective": search.recipe.objective,
        "device": config.device,
    }
    run_trials(train_fusion, parameters, search.plan, config, search.rules, search.store, cpus=cpus)
    results = results_of(search)
    _write(results, search)
    if not results.finished:
        raise SearchError(_nothing_finished(results, search))
    return results


def _estimated(search: Search, config: SearchConfig) -> Summary:
    """What a start would do."""
    over, begun = search.store.outcomes(), search.store.unfinished()
    left = max(0, search.plan.trials - len(over))
    summary = Summary(title=f"Plan of a stability search of {search.recipe.name}", where=search.store.uri)
    clips = ", ".join(f"{len(split.labels)} {name}" for name, split in _splits(search.data).items())
    summary.add("clips", clips)
    summary.add("space", f"{len(search.plan.space)} settings: {', '.join(search.plan.space)}")
    if search.given:
        summary.add("space as given", " ".join(search.given))
    summary.add("candidates", f"{search.plan.trials}, {len(over)} are over, {len(begun)} begun, {left} left")
    drawn = f"{config.sampler}, the first {config.random_starts} at random"
    summary.add("drawn by", "nobody: these are all" if search.plan.sampler == "grid" else drawn)
    summary.add("trainings", f"{len(search.rules.seeds)} seeds of each: {', '.join(map(str, search.rules.seeds))}")
    summary.add("ended early", _ends(config))
    found = estimate(search.fusion, search.data, over, left, objective=search.recipe.objective)
    summary.add("training", f"{found.low_h:.2f} to {found.high_h:.2f} hours of one {_place(config)} ({found.basis})")
    summary.next_step = "the same without --dry-run"
    return summary


def _ends(config: SearchConfig) -> str:
    rules = list[str]()
    if config.stopping.risk and (config.gpus_per_trial or config.candidates_per_trial > 1):
        rules.append("none for being out of reach: that is asked between seeds, and these train at once")
    elif config.stopping.risk:
        rules.append(f"who is out of the best one's reach (risk {config.stopping.risk:g})")
    if config.stopping.median_after:
        rules.append(f"who is below the median of the others after {config.stopping.median_after} epochs or more")
    return ", ".join(rules) or "none"


def _splits(data: SearchData) -> dict[str, Any]:
    splits = {"training": data.train, "validation": data.validation}
    return splits | ({"test (selects!)": data.scored_on[1]} if len(data.scored_on) > 1 else {})


def _place(config: SearchConfig) -> str:
    return f"{config.gpus_per_trial:g} GPU" if config.gpus_per_trial else f"process of {config.cpus_per_trial:g} CPU"


def _reported(search: Search) -> Summary:
    """The report of what there is."""
    results = results_of(search)
    if not results.outcomes:
        raise SearchError(f"No candidate of this search is over yet: there is nothing to report at {search.store.uri}.")
    _write(results, search)
    summary = Summary(title=f"Report of the search of {search.recipe.name}", where=f"{search.store.uri}/report")
    _count(summary, results)
    return summary


def _write(results: SearchResults, search: Search) -> None:
    write_trials(search.store.uri, trials_rows(results))
    write_search_report(results, f"{search.store.uri}/report")


def _nothing_finished(results: SearchResults, search: Search) -> str:
    reasons = {outcome.reason for outcome in results.outcomes if outcome.status == "failed"}
    causes = [*sorted(reasons), *(incident.cause for incident in results.incidents[-1:])]
    return (
        f"No candidate finished all {len(search.rules.seeds)} seeds. {' '.join(causes)} What there is rests in "
        f"{search.store.uri}; the same command goes on with it."
    )


def _count(summary: Summary, results: SearchResults) -> None:
    by_status = {status: sum(o.status == status for o in results.outcomes) for status in ("ended", "failed")}
    summary.add("candidates with all seeds", f"{len(results.finished)} of {results.planned}")
    summary.add("ended before their last seed", by_status["ended"])
    summary.add("candidates that failed", by_status["failed"])
    if left := results.planned - len(results.outcomes):
        summary.add("candidates still to try", f"{left}; the same command goes on with them")
    if results.incidents:
        summary.add("incidents survived", f"{len(results.incidents)}, the last: {results.incidents[-1].cause}")


def _summary(config: SearchConfig, search: Search, results: SearchResults, card: Card, before: int) -> Summary:
    best = results.finished[0]
    summary = Summary(
        title=f"Stability search of {search.recipe.name}",
        where=config.ensemble,
        tables=[best_table(results.finished, search.rules)],
    )
    _count(summary, results)
    summary.add("there from before", f"{before} candidates")
    summary.add(
        f"best on {card.selected_on}",
        f"{card.task.score_name} {best.mean:.3f} +- {best.std:.3f} over {len(best.results)} seeds",
    )
    if config.protocol != "validation":
        summary.add("selected_on", card.selected_on)
    summary.add("every trial", f"{search.store.uri}/trials.parquet")
    summary.add("report", f"{search.store.uri}/report/report.html")
    if config.decision != DecisionFit():
        summary.add("decision", ", ".join(_in_words(step) for step in card.config["decision"]["steps"]))
    summary.add("ensemble", f"{card.artifact_id} ({card.weights} weights)")
    summary.next_step = job_command("evaluate", ensemble=config.ensemble, embeddings=config.embeddings)
    return summary


def _in_words(step: Mapping[str, Any]) -> str:
    """A step of the decision and its settings."""
    settings = (f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in step.items() if k != "kind")
    return f"{step['kind']}: {' '.join(settings)}"

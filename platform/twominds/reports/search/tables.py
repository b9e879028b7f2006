"""The tables of a search's report, as people read them.

Scores are in percent with two decimals, as papers print it. Candidates go by their number, in the order they were over.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from twominds.recipes.space import Choice, Dimension, LogUniform, Value
from twominds.reports.search.costs import Costs, node_hours
from twominds.reports.study.tables import NONE, percent
from twominds.search.outcomes import Outcome, SearchResults, Status

BEST = 10
"""Candidates that are shown seed by seed."""

MOST_VALUES = 16
"""Values of a choice that are listed."""

STATUS_NAMES: dict[Status, str] = {"finished": "finished", "ended": "ended early", "failed": "failed"}
RULE_NAMES = {"reach": "out of reach", "median": "below the median", "": "other"}

NOT_ENDED = "all, had none been ended early (estimate)"

Cells = tuple[list[str], list[list[str]]]
"""Header and rows."""


def number_of(outcome: Outcome, results: SearchResults) -> int:
    """The candidate's number in the order of the search, from 1."""
    return results.outcomes.index(outcome) + 1


def best_so_far(results: SearchResults) -> list[float | None]:
    """After each candidate, the best score of those with every seed; None before the first."""
    scores: list[float | None] = []
    for outcome in results.outcomes:
        known = [score for score in scores[-1:] if score is not None]
        own = [outcome.score(results.std_penalty)] if outcome.status == "finished" else []
        scores.append(max([*known, *own], default=None))
    return scores


def facts(results: SearchResults, costs: Costs) -> list[tuple[str, str]]:
    """What the search came to, in a few lines: terms and what they are."""
    counts = [f"{costs.spent[status].candidates} {name}" for status, name in STATUS_NAMES.items()]
    found = [
        ("What was searched", results.description),
        ("Candidates", f"{', '.join(counts)}; {results.planned} planned"),
    ]
    if finished := results.finished:
        best = finished[0]
        of_seeds = f"{len(best.results)} seed{'' if len(best.results) == 1 else 's'} on {results.selected_on}"
        found.append(
            (
                f"Best mean {results.score_name}",
                f"{mean_std(best)} over {of_seeds} (candidate {number_of(best, results)})",
            )
        )
        if results.std_penalty:
            penalty = f"mean − {results.std_penalty:g} × SD"
            found.append(("Its score", f"{percent(best.score(results.std_penalty))} ({penalty})"))
    saved = f"; ending candidates early saved about {hours(costs.node_hours_saved)} more" if costs.seeds_saved else ""
    found.append(("Cost", f"{hours(costs.node_hours)} node-hours{saved}"))
    return found


def mean_std(outcome: Outcome) -> str:
    """Mean and standard deviation over its seeds, as text; one seed has no spread."""
    mean = percent(outcome.mean)
    return f"{mean} ± {percent(outcome.std)}" if len(outcome.results) > 1 else mean


def hours(number: float) -> str:
    """With as many digits as bear meaning."""
    return f"{number:.3g}" if number < 1 else f"{number:,.1f}"


def setting_cells(results: SearchResults) -> Cells:
    """The best candidate's settings, and where they were looked for."""
    best = results.finished[0].candidate if results.finished else {}
    rows = [
        [name, value_text(best[name]) if name in best else NONE, _range(dimension)]
        for name, dimension in results.space.items()
    ]
    return ["Setting", "Best", "Searched"], rows


def value_text(value: Value, digits: int = 4) -> str:
    """A setting's value: floats of a sampler have more digits than anyone needs. 8e-5, 0.25, 1500."""
    if not isinstance(value, float):
        return str(value)
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:.0f}"


def ranking_cells(results: SearchResults) -> Cells:
    """The best candidates, seed by seed."""
    header = ["Rank", "Candidate", f"Mean {results.score_name} ± SD", *(f"Seed {seed}" for seed in results.seeds)]
    rows = [
        [
            *(str(rank), str(number_of(outcome, results)), mean_std(outcome)),
            *(percent(result.selection_score) for result in outcome.results),
            ", ".join(str(result.best_epoch) for result in outcome.results),
            hours(node_hours(outcome.trained_s, results.node_share)),
            *([percent(outcome.score(results.std_penalty))] if results.std_penalty else []),
        ]
        for rank, outcome in enumerate(results.finished[:BEST], start=1)
    ]
    return [*header, "Best epochs", "Node-hours", *(["Score"] if results.std_penalty else [])], rows


def ending_cells(costs: Costs) -> Cells:
    """What was ended after how many seeds, by which rule."""
    rows = [
        [
            *(str(ending.seeds_done), RULE_NAMES[ending.rule], str(ending.candidates), str(ending.seeds_saved)),
            hours(ending.node_hours_saved) + (f" ({ending.unknown} unknown)" if ending.unknown else ""),
        ]
        for ending in costs.endings
    ]
    if len(rows) > 1:
        candidates = sum(ending.candidates for ending in costs.endings)
        rows.append(["all", "", str(candidates), str(costs.seeds_saved), hours(costs.node_hours_saved)])
    return ["Seeds done", "Rule", "Candidates", "Seeds saved", "Node-hours saved (estimate)"], rows


def cost_cells(costs: Costs) -> Cells:
    """Node-hours by status, and what they would have been."""
    rows = [
        [STATUS_NAMES[status], str(spent.candidates), str(spent.seeds), hours(spent.node_hours)]
        for status, spent in costs.spent.items()
    ]
    candidates, seeds = (sum(int(row[column]) for row in rows) for column in (1, 2))
    rows.append(["all", str(candidates), str(seeds), hours(costs.node_hours)])
    if costs.seeds_saved:
        without = hours(costs.node_hours + costs.node_hours_saved)
        rows.append([NOT_ENDED, str(candidates), f"{seeds + costs.seeds_saved}", without])
    return ["Candidates that", "Number", "Seeds done", "Node-hours"], rows


def failure_cells(results: SearchResults) -> Cells:
    """Why candidates failed, the most frequent reason first."""
    reasons = Counter(outcome.reason or "unknown" for outcome in results.outcomes if outcome.status == "failed")
    return ["Candidates", "Reason"], [[str(count), reason] for reason, count in _by_count(reasons)]


def incident_cells(results: SearchResults) -> Cells:
    """What went wrong and was survived, the most frequent first."""
    causes = Counter(incident.cause for incident in results.incidents)
    rows: list[list[str]] = []
    for cause, count in _by_count(causes):
        at = [incident.at for incident in results.incidents if incident.cause == cause]
        rows.append([str(count), cause, _utc(min(at)), _utc(max(at))])
    return ["Times", "What happened", "First (UTC)", "Last (UTC)"], rows


def _by_count(counter: Counter[str]) -> Iterable[tuple[str, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d %H:%M")


def _range(dimension: Dimension) -> str:
    if isinstance(dimension, Choice):
        texts = [value_text(value) for value in dimension.values]
        return ", ".join(texts) if len(texts) <= MOST_VALUES else f"{texts[0]} … {texts[-1]} ({len(texts)} values)"
    scale = ", logarithmic" if isinstance(dimension, LogUniform) else ""
    return f"{value_text(dimension.low)} to {value_text(dimension.high)}{scale}"

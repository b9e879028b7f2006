"""The report of a search: a page to look at, and everything as JSON.

report.html    figures and tables, in one file that loads nothing from anywhere
results.json   every number, MF1 in [0, 1]
"""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from upath import UPath

from twominds.reports.page import render
from twominds.reports.search.costs import search_costs
from twominds.reports.search.protocol import banners, protocol
from twominds.reports.search.tables import (
    best_so_far,
    cost_cells,
    ending_cells,
    facts,
    failure_cells,
    incident_cells,
    number_of,
    ranking_cells,
    setting_cells,
)
from twominds.search.outcomes import Outcome, SearchResults
from twominds.storage import write_whole

if TYPE_CHECKING:
    from twominds.reports.charts import Plot

FILES = ("results.json", "report.html")


def write_search_report(results: SearchResults, uri: str) -> None:
    """Writes the report of a search, whole or as far as it got.

    Args:
        results: What became of every candidate that is over.
        uri: Folder, local or s3://.
    """
    from twominds.reports.search.plots import draw_search  # brings matplotlib with it

    texts = (_json(results), _page(results, draw_search(results)))
    for name, text in zip(FILES, texts, strict=True):
        write_whole(UPath(uri) / name, text.encode())


def trials_rows(results: SearchResults) -> list[dict[str, Any]]:
    """A flat row per candidate that is over, all with the same columns; what is not known is None.

    Only a candidate with every seed has a `score`; means and deviations are over the seeds that are done. Settings that
    are tuples are text, as Ray Tune has them.
    """
    names = dict.fromkeys([*results.space, *(name for outcome in results.outcomes for name in outcome.candidate)])
    return [_row(outcome, [*names], results) for outcome in results.outcomes]


def _row(outcome: Outcome, names: Sequence[str], results: SearchResults) -> dict[str, Any]:
    settings = {name: outcome.candidate.get(name) for name in names}
    by_seed = {result.seed: result.selection_score for result in outcome.results}
    done = bool(outcome.results)
    return {
        **{name: str(value) if isinstance(value, tuple) else value for name, value in settings.items()},
        "status": outcome.status,
        "rule": outcome.rule,
        "reason": outcome.reason,
        "score": outcome.score(results.std_penalty) if outcome.status == "finished" else None,
        "mean_score": outcome.mean if done else None,
        "std_score": outcome.std if done else None,
        "seeds_done": len(outcome.results),
        **{f"score_seed_{seed}": by_seed.get(seed) for seed in results.seeds},
        "best_epoch": statistics.fmean(result.best_epoch for result in outcome.results) if done else None,
        "seconds": outcome.trained_s,
        "began": outcome.began,
        "over": outcome.over,
    }


def _page(results: SearchResults, plots: "Sequence[Plot]") -> str:
    costs = search_costs(results)
    return render(
        "search/report.html.j2",
        results=results,
        banners=banners(results),
        facts=facts(results, costs),
        settings=setting_cells(results),
        plots={plot.name: plot for plot in plots},
        ranking=ranking_cells(results),
        endings=ending_cells(costs),
        costs=cost_cells(costs),
        failures=failure_cells(results),
        incidents=incident_cells(results),
        protocol=protocol(results),
    )


def _json(results: SearchResults) -> str:
    costs, finished = search_costs(results), results.finished
    of_costs = {
        "node_hours": costs.node_hours,
        "node_hours_saved": costs.node_hours_saved,
        "seeds_saved": costs.seeds_saved,
        "ended_of_unknown_cost": costs.unknown,
    }
    whole = {
        "recipe": results.recipe,
        "description": results.description,
        "banners": banners(results),
        "protocol": protocol(results),
        "selected_on": results.selected_on,
        "weights": results.weights,
        "seeds": results.seeds,
        "sampler": results.sampler,
        "std_penalty": results.std_penalty,
        "planned": results.planned,
        "complete": len(results.outcomes) >= results.planned,
        "node_share": results.node_share,
        "space": {
            name: {"kind": type(dimension).__name__, **asdict(dimension)} for name, dimension in results.space.items()
        },
        "best": number_of(finished[0], results) if finished else None,
        "ranking": [number_of(outcome, results) for outcome in finished],
        "best_so_far": best_so_far(results),
        "candidates": [
            {"number": number, **asdict(outcome), "trial": row}
            for number, (outcome, row) in enumerate(zip(results.outcomes, trials_rows(results), strict=True), start=1)
        ],
        "costs": {**asdict(costs), **of_costs},
        "incidents": [asdict(incident) for incident in results.incidents],
    }
    return json.dumps(_finite(whole), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """The same with null for what is no finite number: a loss may be infinite, JSON has no word for it."""
    if isinstance(value, dict):
        return {str(name): _finite(part) for name, part in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in cast("Sequence[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value

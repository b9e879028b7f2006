"""The figures of a search's report, as SVG: the same results give the same bytes."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from twominds.reports.charts import STYLE, WIDTH_IN, Plot, chart, finish, legend, plot_of
from twominds.reports.search.costs import STATUSES, Costs, search_costs
from twominds.reports.search.effects import draw_effects
from twominds.reports.search.parallel import draw_parallel
from twominds.reports.search.scales import BEST_COLOR, FINISHED_COLOR, mark_lower, score_name, show_scores
from twominds.reports.search.tables import (
    BEST,
    RULE_NAMES,
    STATUS_NAMES,
    best_so_far,
    hours,
    mean_std,
    number_of,
)
from twominds.search.outcomes import Outcome, SearchResults, Status

STATUS_COLORS: dict[Status, str] = {"finished": FINISHED_COLOR, "ended": "#e69f00", "failed": "#000000"}
RULE_COLORS = {"reach": "#e69f00", "median": "#56b4e9", "": "#999999"}


def draw_search(results: SearchResults) -> list[Plot]:
    """Every figure that the results have something for, in the order of the report."""
    with mpl.rc_context(STYLE):
        return [plot for draw in _FIGURES for plot in draw(results)]


def _best_so_far(results: SearchResults) -> list[Plot]:
    outcomes, penalty = results.outcomes, results.std_penalty
    if not outcomes:
        return []
    figure = Figure(figsize=(WIDTH_IN, 3.8))
    axes = figure.subplots()
    finished = [(i, 100 * o.score(penalty)) for i, o in enumerate(outcomes, 1) if o.status == "finished"]
    ended = {i: _so_far(o, penalty) for i, o in enumerate(outcomes, 1) if o.status == "ended"}
    line = [(i, 100 * score) for i, score in enumerate(best_so_far(results), 1) if score is not None]
    _candidates(axes, results, finished, ended)
    if line:
        whole = [*line, (len(outcomes) + 0.5, line[-1][1])]
        axes.step(*_xy(whole), where="post", color=BEST_COLOR, linewidth=1.8, label="best so far")
    axes.set_xlim(0.5, len(outcomes) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color="#dddddd")
    axes.set_xlabel("candidates, in the order they were over")
    axes.set_ylabel(score_name(results))
    legend(figure, axes, columns=2)
    steps = [next(group) for _, group in groupby(line, key=lambda point: point[1])]
    told = ", ".join(f"{score:.2f} from candidate {i:g}" for i, score in steps) or "no candidate has all its seeds"
    alt = f"Best score so far, in percent, over {len(outcomes)} candidates: {told}; {len(ended)} were ended early."
    caption = (
        "The line is the best candidate with every seed so far. Open triangles: candidates that were ended early, at "
        "their score over the seeds that they had (without one, at the best of the seed that was broken off): with "
        "fewer seeds they are not comparable with the others, even where they are above the line, and can't win."
    )
    return [plot_of("best-so-far", "Best so far", alt, caption, figure)]


def _candidates(
    axes: Axes, results: SearchResults, finished: Sequence[tuple[float, float]], ended: Mapping[int, float | None]
) -> None:
    shown = [(float(i), 100 * score) for i, score in ended.items() if score is not None]
    nothing = [i for i, score in ended.items() if score is None]
    failed = [i for i, outcome in enumerate(results.outcomes, 1) if outcome.status == "failed"]
    low = show_scores(axes, [score for _, score in [*finished, *shown]]) if finished or shown else 0.0
    size, color = 26 if len(results.outcomes) <= 80 else 13, STATUS_COLORS["ended"]
    if finished:
        axes.scatter(*_xy(finished), s=size, color=FINISHED_COLOR, linewidths=0, zorder=3, label="all seeds done")
    if shown:
        label = "ended early: not comparable"
        axes.scatter(*_xy(shown), s=size, marker="v", facecolors="white", edgecolors=color, zorder=3, label=label)
    mark_lower(axes, [x for x, y in finished if y < low], FINISHED_COLOR, size, "lower than is shown")
    mark_lower(axes, [x for x, y in shown if y < low], color, size, "lower than is shown, ended early")
    edge = axes.get_xaxis_transform()
    for at, marker, name, face in ((nothing, "1", "ended without a score", color), (failed, "x", "failed", "black")):
        if at:
            axes.scatter(at, [0.03] * len(at), s=size, marker=marker, color=face, transform=edge, zorder=3, label=name)
    if not (finished or shown):
        axes.set_yticks([])


def _so_far(outcome: Outcome, penalty: float) -> float | None:
    return outcome.score(penalty) if outcome.results else outcome.unfinished_score


def _xy(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _seeds(results: SearchResults) -> list[Plot]:
    """None where there is one seed: it has no spread."""
    best = results.finished[:BEST]
    if not best or len(results.seeds) < 2:
        return []
    figure, axes = chart(len(best), 0.32)
    for row, outcome in enumerate(best):
        color = FINISHED_COLOR if row else BEST_COLOR
        scores = [100 * score for score in outcome.scores]
        axes.scatter(scores, [row] * len(scores), s=26, color=color, alpha=0.75, linewidths=0)
        axes.scatter([100 * outcome.mean], [row], s=150, marker="|", color="black", linewidths=1.5, zorder=3)
    axes.grid(axis="y", color="#eeeeee")
    finish(axes, [f"{i}. (candidate {number_of(o, results)})" for i, o in enumerate(best, 1)], "MF1 (%)")
    told = "; ".join(f"candidate {number_of(outcome, results)} {mean_std(outcome)}" for outcome in best)
    alt = f"Macro F1 in percent, mean and standard deviation over {len(results.seeds)} seeds: {told}."
    caption = (
        "Each dot is one seed (the table below names them), the upright line their mean. Where the dots of "
        "neighbours overlap, their order is a matter of luck."
    )
    return [plot_of("seeds", f"Seeds of the {_best(len(best))}", alt, caption, figure)]


def _best(number: int) -> str:
    return "best candidate" if number == 1 else f"{number} best candidates"


def _ended(results: SearchResults) -> list[Plot]:
    endings = search_costs(results).endings
    if not endings:
        return []
    figure = Figure(figsize=(WIDTH_IN, 2.9))
    axes = figure.subplots()
    counts = {(ending.seeds_done, ending.rule): ending.candidates for ending in endings}
    steps = range(max(len(results.seeds), 1 + max(ending.seeds_done for ending in endings)))
    bottom = [0 for _ in steps]
    for rule in (rule for rule in RULE_NAMES if any(ending.rule == rule for ending in endings)):
        heights = [counts.get((done, rule), 0) for done in steps]
        axes.bar(steps, heights, bottom=bottom, width=0.6, color=RULE_COLORS[rule], label=RULE_NAMES[rule])
        _count_bars(axes, heights, bottom)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set_xticks(steps)
    axes.set_xlim(-0.6, len(steps) - 0.4)
    axes.set_ylim(0, 1.08 * max(bottom))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color="#dddddd")
    axes.set_xlabel(f"seeds done, of {len(results.seeds)}")
    axes.set_ylabel("candidates")
    legend(figure, axes)
    told = "; ".join(f"{e.candidates} after {e.seeds_done} ({RULE_NAMES[e.rule]})" for e in endings)
    alt = f"Candidates that were ended early, by the seeds that they had: {told}."
    caption = "After how many whole seeds candidates were ended early, and by which rule."
    return [plot_of("ended", "When candidates were ended", alt, caption, figure)]


def _count_bars(axes: Axes, heights: Sequence[int], bottom: Sequence[int]) -> None:
    for at, (height, low) in enumerate(zip(heights, bottom, strict=True)):
        if height:
            axes.text(at, low + height / 2, str(height), ha="center", va="center", fontsize=8)


def _cost(results: SearchResults) -> list[Plot]:
    costs = search_costs(results)
    if not costs.node_hours:
        return []
    bars = ["as it was", "had none been\nended early"] if costs.seeds_saved else ["as it was"]
    figure, axes = chart(len(bars), 0.55)
    start = 0.0
    for status in STATUSES:
        width = costs.spent[status].node_hours
        if width:
            color, name = STATUS_COLORS[status], STATUS_NAMES[status]
            axes.barh(range(len(bars)), width, left=start, height=0.6, color=color, label=name)
        start += width
    if costs.seeds_saved:
        color = STATUS_COLORS["ended"]
        saved = costs.node_hours_saved
        axes.barh(
            1, saved, left=start, height=0.6, color="white", edgecolor=color, hatch="////", label="saved (estimate)"
        )
    for row, total in enumerate([costs.node_hours, costs.node_hours + costs.node_hours_saved][: len(bars)]):
        axes.annotate(hours(total), (total, row), (4, 0), textcoords="offset points", va="center", fontsize=8.5)
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    finish(axes, bars, "node-hours")
    legend(figure, axes)
    told = ", ".join(f"{STATUS_NAMES[status]} {hours(costs.spent[status].node_hours)}" for status in STATUSES)
    alt = f"Node-hours of candidates: {told}; estimated to be saved by ending early: {hours(costs.node_hours_saved)}."
    return [plot_of("cost", "Node-hours", alt, _cost_caption(costs), figure)]


def _cost_caption(costs: Costs) -> str:
    caption = "Node-hours of training, by what became of the candidates."
    if costs.seeds_saved:
        caption += " Hatched: what the missing seeds of those ended early would have taken, which is an estimate."
    if costs.unknown:
        caption += f" It leaves out {costs.unknown} of which too little was trained to tell."
    return caption


_FIGURES: tuple[Callable[[SearchResults], list[Plot]], ...] = (
    *(_best_so_far, draw_parallel, draw_effects),
    *(_seeds, _ended, _cost),
)

"""How a search's numbers were made, in words, and what to beware of."""

from collections import Counter

from twominds.search.outcomes import SearchResults

SAMPLERS = {
    "hyperopt": "TPE (HyperOpt), which draws near what was good so far",
    "random": "random search",
    "grid": "nobody: they are every point of the grid",
}


def banners(results: SearchResults) -> list[str]:
    """What a reader must know before any number."""
    texts = list[str]()
    if results.weights == "debug":
        texts.append(
            "Debug weights: the embeddings rest on seeded random backbones. These numbers say nothing about the "
            "system, and its best settings may be others."
        )
    if results.selected_on == "validation+test":
        texts.append(
            "Selected on validation+test: the test labels chose epochs and candidates. These scores are optimistic, "
            "and so are all later test scores of the winner."
        )
    over = len(results.outcomes)
    if over < results.planned:
        texts.append(f"Not complete: {over} of {results.planned} candidates are over. The best may still change.")
    if not results.finished:
        texts.append("No winner: no candidate has all its seeds.")
    if results.incidents:
        texts.append(f"Incidents: {_times(len(results.incidents))} something went wrong, and the search went on.")
    return texts


def protocol(results: SearchResults) -> list[str]:
    """How the numbers were made, in words."""
    seeds = ", ".join(str(seed) for seed in results.seeds)
    penalty = results.std_penalty
    given = [f"Where the search looked was given in place of the recipe's: {', '.join(results.given)}."]
    return [
        *(given if results.given else []),
        f"Every candidate is trained with the same seeds ({seeds}). Each training scores the {results.score_name} of "
        f"its best epoch on {_where(results)}. The candidate's score is their mean"
        f"{f', minus {penalty:g} times their standard deviation' if penalty else ''}. Standard deviations are the "
        "population's, over the seeds.",
        "Only a candidate with every seed can win; of equal scores the one with the lower loss does. The mean of fewer "
        "seeds is never compared with that of all: some seeds are kinder than others. What was ended early is no "
        "rival, whatever its mean so far.",
        *_rules(results),
        f"Candidates are drawn by {SAMPLERS.get(results.sampler, results.sampler)}. To a sampler that learns, one that "
        "was ended early counts with its score so far plus what the remaining seeds added to the finished candidates "
        "on average; that never makes a winner. One that failed counts as an error, not as a bad result.",
        _selected(results),
        "A node-hour is one hour of a whole node; while it trains, a candidate takes "
        f"{100 * results.node_share:g} % of one (as the last start asked). Only training counts, broken-off seeds "
        "included; loading, waiting and what was lost in incidents do not. Savings are estimates: a missing seed is "
        "taken to last as long as the candidate's finished ones did on average, or, where it has none, as long as its "
        "own epochs times the median number of epochs of finished candidates' seeds; what a broken-off seed took is "
        "subtracted.",
    ]


def _where(results: SearchResults) -> str:
    return "validation" if results.selected_on == "validation" else "validation and on test, in the mean"


def _rules(results: SearchResults) -> list[str]:
    ended = Counter(outcome.rule for outcome in results.outcomes if outcome.status == "ended")
    texts = list[str]()
    if ended["reach"]:
        texts.append(
            f"Ended as out of reach ({ended['reach']}): after each seed a candidate is compared with the best finished "
            "one so far on the seeds that it has. A prediction bound says how much better it may yet do with the seeds "
            "that are missing, given how much such differences vary from seed to seed; where even the bound stays "
            "below the best, it is ended. For a candidate that would have won, the probability that this ends it all "
            f"the same is at most {results.stopping.risk:g}; all its looks share it."
        )
    if ended["median"]:
        texts.append(
            f"Ended as below the median ({ended['median']}): after some epochs of a seed, its best score so far is "
            "compared with that of the other candidates at the same epoch of the same seed; below their median it is "
            "ended. That ends half of the candidates and more, slow starters too: there is no bound on its risk."
        )
    return texts or ["No rule ended a candidate."]


def _selected(results: SearchResults) -> str:
    if results.selected_on == "validation":
        return (
            "Validation selected the epochs and the winner; no test label was read. The best of many candidates is "
            "lucky in part: its validation score is optimistic, and the test split says how much."
        )
    return (
        "Validation and test selected the epochs and the winner, as the paper's public code does: no labelled split "
        "is left that could say how it does on new people."
    )


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"

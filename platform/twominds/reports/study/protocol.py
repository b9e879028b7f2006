"""How a study's numbers were made, in words, and what to beware of."""

from collections.abc import Sequence

from twominds.records import Split
from twominds.reports.study.results import StudyResults
from twominds.reports.study.scores import StudyScores
from twominds.tasks import Classes
from twominds.training.bootstrap import RESAMPLES, SEED

CROSS_FITTED = "Validation, chosen on other people [95 % CI]"
"""Head of the column with scores of rows whose weights, smoothing and thresholds were chosen on others."""
AT_HALF = "With the threshold 0.5"
"""Head of the column with scores of rows whose threshold was chosen, without that."""


def banners(scores: StudyScores) -> list[str]:
    """What a reader must know before any number."""
    results, texts = scores.results, list[str]()
    if branded := [row.recipe for row in results.rows if row.selected_on == "validation+test"]:
        texts.append(
            f"Selected on validation+test: the test labels chose {_named(branded, results)}. "
            "Such test scores are optimistic, and no estimate of how a system does on new people."
        )
    if debug := [row.recipe for row in results.rows if row.weights == "debug"]:
        texts.append(
            f"Debug weights: seeded random backbones are behind {_named(debug, results)}. "
            "These numbers say nothing about the paper's system."
        )
    if results.failures:
        texts.append(
            f"Quarantine: {results.failures} clips could not be processed. Those with a label count all the same: "
            f"every row has the training {_constant(results)} for them."
        )
    notes: dict[str, list[str]] = {}
    for row in results.rows:
        if row.note:
            notes.setdefault(row.note, []).append(row.recipe)
    texts += [f"Not whole: {', '.join(recipes)}. {note}" for note, recipes in notes.items()]
    other = scores.comparison and scores.comparison.other
    if other and other.selected_on != scores.headline.row.selected_on:
        texts.append(
            f"The comparison is uneven: {other.name} was selected on {other.selected_on}, {results.headline} on "
            f"{scores.headline.row.selected_on}."
        )
    return texts


def protocol(scores: StudyScores) -> list[str]:
    """How the numbers were made, in words."""
    results = scores.results
    ways = dict.fromkeys(row.selected_on for row in results.rows if row.views)
    chosen = {way: [row.recipe for row in results.rows if row.views and row.selected_on == way] for way in ways}
    texts = [
        f"Data: {len(results.train.clips)} training clips; {sizes(scores)}. All labelled {_units(results)} of a split "
        f"count; one without a score, because {_it(results)} could not be processed or has none of a row's modalities, "
        f"gets the training {_constant(results)}. Clips in quarantine: {results.failures}.",
        f"{_METRICS[results.task.metric]} A row of several single models shows the mean of their scores, a row of an "
        f"ensemble the score of their mean {'probability' if _of_classes(results) else 'answer'}.",
        *(
            f"Epochs and configurations were selected on {way}: {_named(recipes, results)}."
            for way, recipes in chosen.items()
        ),
    ]
    if after := [row.recipe for row in results.rows if row.chosen_after]:
        crossed, halved = any(row.cross_fitted for row in results.rows), any(score.at_half for score in scores.rows)
        texts.append(
            f"What follows the models (weights of a blend, smoothing, thresholds) was chosen on validation, too: "
            f"{_named(after, results)}."
            + (f" The column {CROSS_FITTED!r} chooses it on some people and tries it on others, in parts." * crossed)
            + (f" The column {AT_HALF!r} has what the same probabilities give without that choice." * halved)
        )
    if set(ways) == {"validation"}:
        texts.append(
            "Test is only reported: its labels chose nothing. Validation chose, so its scores are optimistic, "
            "and its intervals do not show that."
        )
    texts += [
        f"95 % CI: percentile bootstrap. People, not clips, are drawn with replacement ({RESAMPLES:,} resamples, seed "
        f"{SEED}; a clip of nobody known counts as a person of its own); every row is scored on the same resamples. "
        "It shows how the choice of people matters, not that of the training seed: for that see the seeds' spread "
        "(population standard deviation).",
        _comparison(scores),
    ]
    if scores.comparison is not None:
        texts.append(
            f"Comparison with {scores.comparison.other.name}, from the report at {scores.comparison.other.place}: both "
            "on the clips that both reports have, and on the same resamples of people."
        )
    if any(not row.views for row in results.rows):
        asked = any(row.recipe == "question only" for row in results.rows)
        also = ", and for every question its training majority" if asked else ""
        texts.append(f"Baselines see no video: the training {_constant(results)}{also}.")
    return [*texts, *dict.fromkeys(row.published.how for row in results.rows if row.published and row.published.how)]


def sizes(scores: StudyScores) -> str:
    """How many labelled clips there are of how many people."""
    points, per_frame = scores.results.points, scores.task.per_frame
    frames = {s: f" ({len(points[s]):,} labelled frames)" if per_frame else "" for s in scores.splits}
    return ", ".join(
        f"{len(points[s].clips)} {split_name(s)} clips{frames[s]} of {scores.people[s]} people" for s in scores.splits
    )


_NOWHERE = "a class that is neither true nor predicted counts as 0."
_METRICS = {
    "macro_f1": f"Macro F1 is the unweighted mean of the classes' F1; {_NOWHERE}",
    "weighted_f1": f"Weighted F1 is the mean of the classes' F1 by how often each is true; {_NOWHERE}",
    "positive_f1": "F1 is that of the last class.",
    "accuracy": "Accuracy is the share of right answers.",
    "pearson": "The score is the mean over the outputs of Pearson's correlation; that with a constant counts as 0.",
    "ccc": "The score is the mean over the outputs of Lin's concordance; that with a constant counts as 0.",
}


def _of_classes(results: StudyResults) -> bool:
    return isinstance(results.task.output, Classes)


def _constant(results: StudyResults) -> str:
    """The answer to what has no score."""
    return "majority" if _of_classes(results) else "mean"


def _units(results: StudyResults) -> str:
    return "frames" if results.task.per_frame else "clips"


def _it(results: StudyResults) -> str:
    return "its clip" if results.task.per_frame else "it"


def _comparison(scores: StudyScores) -> str:
    if scores.best_unimodal is None or Split.TEST not in scores.splits:
        return "Rows are not compared: that takes a unimodal row, a validation split that chooses it, and a test split."
    return (
        f"Difference: paired bootstrap on test over {scores.best_unimodal}, the unimodal row that is best on "
        "validation; two-sided p values, not adjusted for the number of rows."
    )


def _named(recipes: Sequence[str], results: StudyResults) -> str:
    return "every row" if len(recipes) == sum(bool(row.views) for row in results.rows) else ", ".join(recipes)


def split_name(split: Split) -> str:
    """In words: validation, test."""
    return split.name.lower()

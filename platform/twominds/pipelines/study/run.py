"""A study: all rows of a results table from the videos to the report, each part made once for all rows that share it.

    recipes ─▶ parts (features, encoders, embeddings) ─▶ fusions over all seeds ─▶ answers ─▶ report

A row by itself is a study of one. What is there is found by content hash, so a study that was interrupted goes on, and
one that was changed makes only what changed. Test labels are read when every model is saved, to report.
"""

import shlex
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from upath import UPath

from twominds import artifacts
from twominds.corpus.manifest import read_corpus
from twominds.errors import ConfigError, TrainingError
from twominds.model_card import publish
from twominds.pipelines.cluster import cluster, warn_of_missing_gpus
from twominds.pipelines.study.parts import PartsMaker, StudyConfig
from twominds.pipelines.study.rows import cross_fitted_answers, models_of, save_whole, served, train_rows
from twominds.recipes.catalog import find_study
from twominds.recipes.recipe import Recipe
from twominds.records import Clip, Score, Split
from twominds.reports.study.answers import answers_of, baselines, mean_score, scored
from twominds.reports.study.comparison import OtherReport
from twominds.reports.study.points import LabelledPoints
from twominds.reports.study.report import write_report
from twominds.reports.study.results import Answers, RowResult, StudyResults, what_is_lost
from twominds.reports.study.rows import (
    ClipEmbeddings,
    RowModels,
    answers,
    labelled,
    labelled_points,
    read_embeddings,
)
from twominds.reports.study.scores import measured
from twominds.reports.submission import submission
from twominds.reports.summary import Summary
from twominds.results import score_rows
from twominds.results.about import absolute
from twominds.scoring.ensemble import Ensemble
from twominds.storage import require_writable, write_whole
from twominds.tasks import Task
from twominds.training.selection import LabelledSplits, visible_splits
from twominds.workspace import require

REPORTED = (Split.VALIDATION, Split.TEST)


def run_study(
    name: str,
    config: StudyConfig,
    output: str,
    *,
    push_to: str = "",
    other: OtherReport | None = None,
    address: str | None = None,
) -> Summary:
    """Makes what is missing of a study and writes its report.

    Args:
        name: A study or a recipe, or several, separated by commas.
        config: Places and settings.
        output: Folder for the report; local or s3://.
        push_to: Folder for the headline model as a hub repository; "": none.
        other: A report to compare the headline with.
        address: A running Ray cluster.

    Raises:
        ConfigError: there is no such study or recipe.
        MissingInputError: the corpus or the bundle is not there.
        SelectionError: the training or the validation split has no labelled clip.
        BackboneError: the bundle lacks a backbone.
        TrainingError: not one row could be made; of a row by itself the report says so.
    """
    recipes = [*{recipe.name: recipe for part in name.split(",") for recipe in find_study(part)}.values()]
    if len({recipe.task.name for recipe in recipes}) > 1:
        asked = ", ".join(dict.fromkeys(f"{recipe.name} of {recipe.task.name}" for recipe in recipes))
        raise ConfigError(f"The rows of a table answer one question, but there are {asked}.")
    # Absolute: the processes of a cluster that was started elsewhere have other working folders.
    output = absolute(output)
    config = replace(
        config, corpus=absolute(config.corpus), models=absolute(config.models), folder=absolute(config.folder)
    )
    require(config.corpus, what="corpus", made_by="python jobs/make_corpus.py")
    require(config.models, what="bundle of weights", made_by="python jobs/make_debug_models.py")
    require_writable(config.folder)
    require_writable(output)
    console = Console()
    with cluster(address):
        warn_of_missing_gpus(config.use_gpu or config.gpus_per_fusion or config.resources.model_gpus)
        maker = PartsMaker(config, console)
        made = maker.make(recipes)
        unique, unmade = made.unique, made.unmade
        seen = read_embeddings(unique, visible_splits(config.protocol))
        whole = [recipe for recipe in recipes if recipe.name not in unmade]
        models = models_of(whole, made, seen, config.folder, config.protocol)
        with _progress(console, "models", len({row.uri for row in models.values()})) as on_done:
            lost = train_rows(list(models.values()), seen, config.gpus_per_fusion, on_done)
    unmade |= {name: lost[row.uri].reason for name, row in models.items() if row.uri in lost}
    if len(unmade) == len(recipes):
        raise TrainingError(f"No row of {name} could be made. {' '.join(dict.fromkeys(unmade.values()))}")
    # Who they are, what they were asked and their labels: as the corpus has it now.
    read = read_corpus(config.corpus, purpose=config.purpose, task=recipes[0].task)
    corpus = {clip.clip_id: clip for clip in read.clips}
    found = (item for item in read_embeddings(unique) if item.clip.clip_id in corpus)
    clips = [replace(item, clip=corpus[item.clip.clip_id]) for item in found]
    failures = [failure for failure in maker.quarantined(unique) if failure.clip_id in corpus]
    place = f"{output}/headline"
    results = _results(name, recipes, models, unmade, clips, console, len(failures), place)
    summary = write_report(results, output, other)
    summary.failures, summary.notes = failures, read.notes
    summary.add("headline", f"{results.headline}, best on {config.protocol}: saved whole at {place}")
    headline = models[results.headline]
    _submit(served(headline, headline.recipe), read.clips, Ensemble.load(place), output, summary)
    if push_to:
        publish(place, push_to, test_metrics=measured(results))
        summary.add("pushed", f"{push_to}, as a hub repository")
    places = f"--ensemble {shlex.quote(place)} --models {shlex.quote(config.models)}"
    summary.next_step = f"python jobs/score.py --videos FOLDER --output {shlex.quote(output)}/scores {places}"
    return summary


def _results(
    name: str,
    recipes: Sequence[Recipe],
    models: Mapping[str, RowModels],
    unmade: Mapping[str, str],
    clips: Sequence[ClipEmbeddings],
    console: Console,
    failures: int,
    place: str,
) -> StudyResults:
    """Every row's answers, and those of the headline as it is saved at `place`; from here on nothing is trained."""
    task = recipes[0].task
    every = {split: found for split in (Split.TRAIN, *REPORTED) if (found := labelled(clips, split))}
    splits = {split: every[split] for split in REPORTED if split in every}
    points = {split: labelled_points(found, task) for split, found in every.items()}
    train, reported = points[Split.TRAIN], {split: points[split] for split in splits}
    prior = train.prior(task)
    rows: list[RowResult] = []
    with _progress(console, "rows", len(recipes)) as on_done:
        for recipe in recipes:
            reason = unmade.get(recipe.name)
            if reason is None:
                rows.append(_row(recipe, models[recipe.name], splits, reported, prior))
            else:
                rows.append(_row_of(recipe, reason))
            on_done()
    headline = _headline([row for row in rows if row.answers], points, task)
    recipe = next(recipe for recipe in recipes if recipe.name == headline)
    best = served(models[headline], recipe)
    save_whole(best, recipe, place)
    saved = Ensemble.load(place)
    scores = {split: scored(saved, best.inputs_of(found)) for split, found in splits.items()}
    return StudyResults(
        study=name,
        task=task,
        points=reported,
        train=train,
        prior=prior,
        rows=(*baselines(train, reported, task), *rows),
        headline=headline,
        headline_is="the one that is best on what selects",
        served={split: answers_of(found, reported[split], prior, task) for split, found in scores.items()},
        scores=scores,
        failures=failures,
    )


def _row(
    recipe: Recipe,
    row: RowModels,
    splits: Mapping[Split, list[ClipEmbeddings]],
    points: Mapping[Split, LabelledPoints],
    prior: Sequence[float],
) -> RowResult:
    card = artifacts.read_card(row.uri)
    report = LabelledSplits(splits)
    clips = {split: report.for_report(split, artifact_id=card.artifact_id) for split in splits}
    hidden = recipe.views if len(recipe.views) > 1 else ()
    return replace(
        _row_of(recipe, what_is_lost(card)),
        answers={split: answers(row, recipe, found, points[split], prior) for split, found in clips.items()},
        without={
            view: {
                split: mean_score(answers(row, recipe, found, points[split], prior, view), points[split], recipe.task)
                for split, found in clips.items()
            }
            for view in hidden
        },
        cross_fitted=_cross_fitted(recipe, row, clips, points, prior),
        seeds=card.seeds,
        parameters=_parameters(row, recipe),
        selected_on=row.protocol,
        weights=card.weights,
        artifact_id=card.artifact_id,
        artifact=row.uri,
    )


def _cross_fitted(
    recipe: Recipe,
    row: RowModels,
    clips: Mapping[Split, list[ClipEmbeddings]],
    points: Mapping[Split, LabelledPoints],
    prior: Sequence[float],
) -> Answers | None:
    """Validation's answers with all that is chosen chosen on other people; None where test tells, or nobody can."""
    seen = clips.get(Split.VALIDATION)
    if not recipe.grids or Split.TEST in clips or not seen or len(set(points[Split.VALIDATION].people)) < 2:
        return None
    return cross_fitted_answers(row, recipe, seen, points[Split.VALIDATION], prior)


def _row_of(recipe: Recipe, note: str) -> RowResult:
    """A row of which there is nothing but its recipe."""
    return RowResult(
        recipe=recipe.name,
        description=recipe.description,
        views=recipe.views,
        reports=recipe.reports,
        answers={},
        note=note,
        published=recipe.published,
        chosen_after=bool(recipe.grids),
    )


def _parameters(row: RowModels, recipe: Recipe) -> int:
    """That were trained in one model: the encoders' where nothing fuses them (0 for trees), else one seed's fusion."""
    if recipe.joint is not None:
        run = next(iter(row.runs.values()), row)
        return _of_encoders(run) + sum(p.numel() for p in next(iter(run.ensemble.models.values())).parameters())
    if recipe.reports == "encoder" or recipe.blend is not None:
        return _of_encoders(row)
    return sum(p.numel() for p in next(iter(row.ensemble.models.values())).parameters())


def _of_encoders(row: RowModels) -> int:
    return sum(int(part.card.architecture.get("parameters", 0)) for part in row.parts)


def _headline(rows: Sequence[RowResult], splits: Mapping[Split, LabelledPoints], task: Task) -> str:
    """The row with the best mean score on the splits that its protocol selects on; of equals the first."""
    view = LabelledSplits({split: (split, found) for split, found in splits.items()})

    def merit(row: RowResult) -> float:
        return view.for_selection(row.selected_on).selection_score(
            lambda found: mean_score(row.answers[found[0]], found[1], task)
        )

    return max(rows, key=merit).recipe


def _submit(row: RowModels, corpus: Sequence[Clip], ensemble: Ensemble, output: str, summary: Summary) -> None:
    """What the headline says of the challenge's clips, which have no label; every one of them has a line."""
    ids = [c.clip_id for c in corpus if c.split == Split.PRIVATE or (c.split is None and c.labels is None)]
    if not ids:
        return
    own = [item for item in read_embeddings(row.parts) if item.clip.clip_id in set(ids)]
    scores = [score for score in ensemble.score(row.inputs_of(own)) if isinstance(score, Score)]
    scored = {score.clip_id: score_rows.score_to_row(score) for score in scores}
    write_whole(UPath(output) / "submission.csv", submission(sorted(ids), scored, ensemble.card).encode())
    summary.add("submission", f"{output}/submission.csv, {len(ids)} clips")
    if guessed := len(ids) - len(scored):
        summary.add("beware", f"{guessed} of them could not be scored: they have the training split's shares")


@contextmanager
def _progress(console: Console, what: str, total: int) -> Generator[Callable[[], None]]:
    """A bar on a terminal; elsewhere a line for each step."""
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    done = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)

        def on_done() -> None:
            nonlocal done
            done += 1
            bar.advance(task)
            if not console.is_terminal:
                console.print(f"{what} {done}/{total}", highlight=False)

        yield on_done

"""From the parts of a study to its rows: fusions trained over all seeds.

Every row, also one encoder by itself, becomes an ensemble artifact, so that all are scored (and can be served) the same
way. Rows that differ only in what they report of a fusion share it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from string import ascii_lowercase
from typing import Any, cast

import numpy as np
import ray
import torch
from torch import Tensor

from twominds.artifacts import Card, fingerprint, to_json
from twominds.encoders.artifact import save_renamed
from twominds.errors import SelectionError, TrainingError
from twominds.fusion.simple import ClassWeightedConfig
from twominds.media.reader import MediaConfig
from twominds.pipelines.study.parts import Made, Unmade
from twominds.recipes.recipe import Recipe
from twominds.records import Split, View
from twominds.reports.study.points import LabelledPoints, constant
from twominds.reports.study.results import SEEDS_LOST, Answers
from twominds.reports.study.rows import ClipEmbeddings, RowModels, StudyPart, StudyRun, labelled, labelled_points
from twominds.results.about import read_about
from twominds.results.labelled import clip_counts, labels_json
from twominds.scoring.ensemble import save_ensemble
from twominds.scoring.members import EnsembleConfig, seed_name, view_state
from twominds.scoring.post_processing import cross_fitted
from twominds.scoring.scorer import encoder_uri
from twominds.search.assembly import Assembly, assemble, chosen_on, combined, said_clips
from twominds.search.blend import save_blend
from twominds.search.candidate import CandidateStore, SeedResult, train_candidate
from twominds.search.inputs import LabelledClips, LabelledInputs, SearchData, labelled_inputs
from twominds.tasks import Classes
from twominds.training.selection import LabelledSplits, SelectionProtocol, visible_splits


def models_of(
    recipes: Sequence[Recipe], made: Made, clips: Sequence[ClipEmbeddings], folder: str, protocol: SelectionProtocol
) -> dict[str, RowModels]:
    """What is to be trained for each recipe, by its name; the same place for the same training."""
    seen = [(split, item) for split in visible_splits(protocol) for item in labelled(clips, split)]
    found: dict[str, RowModels] = {}
    for recipe in recipes:
        if recipe.joint is not None:
            found[recipe.name] = _trained_jointly(recipe, made.runs[recipe.name], folder, protocol)
            continue
        parts = (made.parts[recipe.name, view] for view in recipe.views)
        own = tuple(part for part in parts if isinstance(part, StudyPart))
        row = RowModels(recipe=recipe, parts=own, uri="", protocol=protocol)
        labels = [[item.clip.clip_id, split, labels_json(item.clip), row.processed(item)] for split, item in seen]
        fusion = recipe.fusion
        settings = [to_json(fusion.model), to_json(fusion.fit), to_json(fusion.loss), fusion.inputs, fusion.seeds]
        identity = [
            "encoder" if recipe.reports == "encoder" else settings,
            [[part.view, part.card.artifact_id] for part in own],
            [labels, protocol],
        ]
        if recipe.blend is not None or recipe.grids or recipe.judge is not None:
            identity += [to_json(recipe.blend), to_json(recipe.grids), to_json(recipe.decision)]
        found[recipe.name] = replace(row, uri=f"{folder}/fusions/{fingerprint(identity)}")
    return found


def _trained_jointly(
    recipe: Recipe, runs: Sequence[StudyRun | Unmade], folder: str, protocol: SelectionProtocol
) -> RowModels:
    """The models of a system that is trained already: those of its one training, or of all of them together."""
    systems = [other.name for other in (recipe, *recipe.also)]
    letters = dict(zip(systems, ascii_lowercase if len(systems) > 1 else ("",), strict=False))
    by_name: dict[str, RowModels] = {}
    lost: dict[str, str] = {}
    for own, run in zip(recipe.runs, runs, strict=True):
        if isinstance(run, Unmade):
            lost[str(own.encoder_seed)] = run.reason
        else:  # which may be another recipe's, that is trained alike
            models = RowModels(recipe=own, parts=run.parts, uri=run.ensemble, protocol=protocol)
            by_name[f"{letters[own.name]}{own.encoder_seed}"] = models
    if len(runs) == 1:
        return replace(next(iter(by_name.values())), recipe=recipe)
    parts = (replace(part, name=f"{part.view}.{name}") for name, run in by_name.items() for part in run.parts)
    made_of = {name: [run.uri, run.ensemble.card.artifact_id] for name, run in by_name.items()}
    identity = [to_json(recipe.grids), to_json(recipe.decision), recipe.reports, made_of, lost]
    uri = f"{folder}/fusions/{fingerprint(identity)}"
    return RowModels(recipe=recipe, parts=tuple(parts), uri=uri, protocol=protocol, runs=by_name, lost=lost)


def train_rows(
    rows: Sequence[RowModels], clips: Sequence[ClipEmbeddings], gpus: float, on_done: Callable[[], None]
) -> dict[str, Unmade]:
    """Trains what is missing, each seed of a fusion in a task of the cluster; `on_done` after each of `rows`' models.

    A seed that comes to nothing leaves its row to the others, whose card says so.

    Returns:
        By the place of their models, the rows of which no seed came to anything.

    Raises:
        SelectionError: a split has no labelled clip.
    """
    train = cast("Any", ray.remote(num_cpus=1, num_gpus=gpus, max_retries=2)(_train_seed))
    device = "cuda" if gpus else "cpu"
    tasks: dict[Any, tuple[RowModels, int]] = {}
    outcomes: dict[str, dict[int, SeedResult | Unmade]] = {}
    unmade: dict[str, Unmade] = {}
    for row in {row.uri: row for row in rows}.values():
        if row.card() is not None:
            on_done()
        elif row.runs:
            _save_runs(row, clips)
            on_done()
        elif row.recipe.reports == "encoder":
            _save_encoder_alone(row)
            on_done()
        elif row.recipe.blend is not None:
            try:
                _save_blend(row, clips)
            except SelectionError as error:  # other rows can do without it
                unmade[row.uri] = Unmade(reason=str(error))
            on_done()
        else:
            data = ray.put(selection_data(row, clips))
            seeds = row.recipe.fusion.seeds
            tasks |= {train.remote(row.recipe, seed, data, row.uri, device): (row, seed) for seed in seeds}
    while tasks:
        done = cast("Any", ray).wait(list(tasks), num_returns=1)[0][0]
        row, seed = tasks.pop(done)
        of_seeds = outcomes.setdefault(row.uri, {})
        of_seeds[seed] = cast("SeedResult | Unmade", cast("Any", ray).get(done))
        if len(of_seeds) == len(row.recipe.fusion.seeds):
            results = [found for s in row.recipe.fusion.seeds if isinstance(found := of_seeds[s], SeedResult)]
            lost = {s: found.reason for s, found in of_seeds.items() if isinstance(found, Unmade)}
            if results:
                _save_fusion(row, clips, results, lost)
            else:
                unmade[row.uri] = Unmade(reason=" ".join(dict.fromkeys(lost.values())))
            on_done()
    return unmade


def selection_data(row: RowModels, clips: Sequence[ClipEmbeddings]) -> SearchData:
    """What the fusion may be trained and chosen on.

    Raises:
        SelectionError: a split has no labelled clip.
    """
    splits: dict[Split, LabelledInputs] = {}
    dims: dict[View, int] | None = None
    for split in visible_splits(row.protocol):
        if found := labelled(clips, split):
            fusion = row.recipe.fusion
            labels = [item.clip.labels for item in found if item.clip.labels is not None]
            splits[split] = labelled_inputs(row.inputs_of(found), labels, fusion, row.recipe.task.output, dims)
            dims = splits[split].inputs.dims
    return LabelledSplits(splits).for_selection(row.protocol)


def _train_seed(recipe: Recipe, seed: int, data: SearchData, uri: str, device: str) -> SeedResult | Unmade:
    """Runs in a task; a seed that is finished is in storage."""
    torch.set_num_threads(1)
    fusion, store = replace(recipe.fusion, seeds=(seed,)), CandidateStore(uri, {})
    try:
        return train_candidate({}, fusion, data, store, objective=recipe.objective, device=device)[0]
    except TrainingError as error:
        return Unmade(reason=str(error))


def _save_fusion(
    row: RowModels, clips: Sequence[ClipEmbeddings], results: Sequence[SeedResult], lost: Mapping[int, str]
) -> None:
    store = CandidateStore(row.uri, {})
    data = selection_data(row, clips)
    states = {result.seed: store.state(result.seed) for result in results}
    made = assemble(row.recipe, states, data.train.inputs.dims, _media(row))
    if row.recipe.grids:
        validation = labelled_clips(row, labelled(clips, Split.VALIDATION))
        made = chosen_on(made, row.recipe, said_clips(made, row.recipe, validation))
    scores = [result.validation_score for result in results]
    metrics = {
        "validation_score_mean": float(np.mean(scores)),
        "validation_score_std": float(np.std(scores)),
        "validation_score": {str(result.seed): result.validation_score for result in results},
        **({SEEDS_LOST: {str(seed): reason for seed, reason in lost.items()}} if lost else {}),
    }
    card = _card(row, metrics, clip_counts(row.recipe.task, data.train.labels, data.validation.labels))
    _save(row, made.states, made.config, made.dims, card)
    store.folder.fs.rm(store.folder.path, recursive=True)  # all of it is in the artifact now


def _save_runs(row: RowModels, clips: Sequence[ClipEmbeddings]) -> None:
    """The mean of a system's trainings, each of which is there."""
    made = _assembly(row, row.recipe)
    if row.recipe.grids and row.recipe.reports != "single":  # of single ones each has chosen for itself
        validation = labelled_clips(row, labelled(clips, Split.VALIDATION))
        made = chosen_on(made, row.recipe, said_clips(made, row.recipe, validation))
    cards = {name: run.ensemble.card for name, run in row.runs.items()}
    scores = {name: card.metrics["validation_score_mean"] for name, card in cards.items()}
    metrics = {
        "validation_score_mean": float(np.mean([*scores.values()])),
        "validation_score_std": float(np.std([*scores.values()])),
        "validation_score": scores,
        **({SEEDS_LOST: dict(row.lost)} if row.lost else {}),
    }
    data = next(iter(cards.values())).data
    counts = {name: data[name] for name in ("clips", "points", "train_labels", "train_means") if name in data}
    _save(row, made.states, made.config, made.dims, _card(row, metrics, counts))


def _assembly(row: RowModels, recipe: Recipe) -> Assembly:
    """The row's models before anything is chosen from the recipe's grids."""
    if row.runs:
        return combined({name: run.ensemble for name, run in row.runs.items()}, recipe.decision)
    ensemble = row.ensemble
    by_seed = {seed: ensemble.models[seed_name(seed)].state_dict() for seed in ensemble.card.seeds}
    return assemble(recipe, by_seed, ensemble.dims, ensemble.config.media)


def _save_blend(row: RowModels, clips: Sequence[ClipEmbeddings]) -> None:
    """What the row's encoders say, averaged by weights."""
    save_blend(
        row.uri,
        row.recipe,
        {part.view: part.encoder for part in row.parts},
        media=_media(row),
        train=torch.from_numpy(labelled_points(labelled(clips, Split.TRAIN), row.recipe.task).truth),
        validation=labelled_clips(row, labelled(clips, Split.VALIDATION)),
        data={},
        selected_on=row.protocol,
        whole=False,
    )


def cross_fitted_answers(
    row: RowModels,
    recipe: Recipe,
    clips: Sequence[ClipEmbeddings],
    points: LabelledPoints,
    prior: Sequence[float],
) -> Answers:
    """What the row says of labelled clips where weights, radii and thresholds were chosen on other people's.

    Args:
        row: The models; they are not trained anew.
        recipe: The row's recipe, which has grids.
        clips: The labelled clips of the validation split.
        points: What is known of them.
        prior: What training says without a look: of a clip that nobody sees its constant is the answer.

    Raises:
        SelectionError: there is one person alone.
    """
    made, of_classes = _assembly(row, recipe), isinstance(recipe.task.output, Classes)
    seen = said_clips(made, recipe, labelled_clips(row, clips))
    people = [item.clip.participant_id or item.clip.clip_id for item in clips]
    metric = recipe.objective.metric
    found = cross_fitted(seen, people, made.post_processing, recipe.grids, metric, of_classes=of_classes)
    guess = constant(prior, recipe.task)
    each = [
        np.broadcast_to(guess, (len(clip.places), *guess.shape)) if said is None else said
        for clip, said in zip(seen, found, strict=True)
    ]
    answered = np.concatenate([np.full(len(c.places), s is not None) for c, s in zip(seen, found, strict=True)])
    assert len(answered) == len(points)
    return Answers(predictions=np.concatenate(each)[None], probabilities=None, answered=answered)


def labelled_clips(row: RowModels, clips: Sequence[ClipEmbeddings]) -> LabelledClips:
    """Labelled clips as the row's views see them, and what is known of them."""
    labels = [item.clip.labels for item in clips if item.clip.labels is not None]
    return LabelledClips(embeddings=row.inputs_of(clips), labels=labels)


def _save_encoder_alone(row: RowModels) -> None:
    """One encoder as an ensemble of one: a class-weighted sum over one view is that view's logits."""
    (part,) = row.parts
    dims, model = {part.view: row.recipe.task.num_outputs}, ClassWeightedConfig()
    config = EnsembleConfig(fusion=model, inputs="logits", views=(part.view,), media=_media(row))
    state = view_state(part.view, row.recipe.task.num_outputs)
    of_encoder = {
        name: part.card.data[name]
        for name in ("clips", "points", "train_labels", "train_means")
        if name in part.card.data
    }
    card = _card(row, part.card.metrics, of_encoder)
    _save(row, {seed_name(row.recipe.encoder_seed): state}, config, dims, card)


def _card(row: RowModels, metrics: Mapping[str, Any], counts: Mapping[str, Any]) -> Card:
    return Card(
        kind="ensemble",
        task=row.recipe.task,
        recipe=row.recipe.name,
        config={},
        data={**counts, "encoders": {str(part.view): part.card.artifact_id for part in row.parts}},
        metrics=dict(metrics),
        selected_on=row.protocol,
    )


def _save(
    row: RowModels,
    states: Mapping[str, Mapping[str, Tensor]],
    config: EnsembleConfig,
    dims: Mapping[View, int],
    card: Card,
) -> None:
    encoders = {part.called: part.encoder for part in row.parts}
    save_ensemble(row.uri, states, config, dims=dims, encoders=encoders, card=card, whole=False)


def _media(row: RowModels) -> MediaConfig:
    """How the clips were read; the same for all parts of a recipe."""
    return read_about(row.parts[0].features).media


def served(row: RowModels, recipe: Recipe) -> RowModels:
    """What of a row is saved whole: all, or of a system that was trained jointly several times the best training."""
    if not row.runs or recipe.reports != "single":
        return row
    return max(row.runs.values(), key=lambda run: run.ensemble.card.metrics["validation_score_mean"])


def save_whole(row: RowModels, recipe: Recipe, uri: str) -> Card:
    """The row's models with their encoders, ready to be served; of a single model the seed that is best on validation.

    Args:
        row: The trained models.
        recipe: Whose row it is: it may share the models with another.
        uri: Folder for the ensemble with its encoders.
    """
    row = served(row, recipe)
    single = recipe.reports == "single" and recipe.joint is None
    ensemble = row.ensemble
    card, seeds = replace(ensemble.card, recipe=recipe.name), ensemble.card.seeds
    if single:
        by_seed: dict[str, float] = card.metrics["validation_score"]
        seeds = (max(seeds, key=lambda seed: by_seed[str(seed)]),)
        card = replace(card, metrics={"validation_score": by_seed[str(seeds[0])]})
    chosen = {seed_name(seed) for seed in seeds} if single else {*ensemble.models}
    states = {name: model.state_dict() for name, model in ensemble.models.items() if name in chosen}
    encoders = {part.called: part.encoder for part in row.parts}
    for part in row.parts:
        if part.name:  # the same view of several trainings
            encoders[part.name] = encoder_uri(uri, part.name)
            save_renamed(part.encoder, encoders[part.name], part.name)
    whole = not row.runs
    return save_ensemble(uri, states, ensemble.config, dims=ensemble.dims, encoders=encoders, card=card, whole=whole)

"""What a search is of, from its settings: data, recipe, rules, and the folder where it rests."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from twominds import artifacts
from twominds.artifacts import Weights, fingerprint, to_json
from twominds.errors import ConfigError, MissingInputError
from twominds.recipes.catalog import find_recipe
from twominds.recipes.recipe import FusionRecipe, Recipe
from twominds.records import View
from twominds.results import tables
from twominds.results.about import About, absolute, read_about
from twominds.results.labelled import labelled_rows, labels_fingerprint
from twominds.search.config import SearchConfig
from twominds.search.inputs import LabelledClips, LabelledInputs, SearchData, labelled_inputs
from twominds.search.outcomes import SearchResults
from twominds.search.plan import Plan
from twominds.search.store import SearchStore
from twominds.search.trial import Rules
from twominds.tasks import Classes, Intensities
from twominds.training.fit_together import OWN_SETTINGS
from twominds.training.selection import SelectionProtocol
from twominds.workspace import require


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched, with what, and where it rests."""

    recipe: Recipe
    fusion: FusionRecipe
    data: SearchData
    about: About
    rules: Rules
    plan: Plan
    given: tuple[str, ...]
    """Dimensions that are not the recipe's."""
    store: SearchStore
    on_validation: LabelledClips | None
    """What the recipe's grids are chosen on; None: it has none."""
    weights: Weights
    """`debug` where an encoder rests on random backbones."""


def recipe_of(config: SearchConfig) -> Recipe:
    """The system whose fusion is made: the one that is named, or that the embeddings were made for.

    Raises:
        MissingInputError: embeddings or encoders are not there, or the embeddings are of other views.
        ConfigError: there is no such system.
    """
    require(config.embeddings, what="embeddings", made_by="python jobs/embed.py")
    require(config.encoders, what="encoders", made_by="python jobs/train_encoders.py")
    about = read_about(config.embeddings)
    recipe = find_recipe(config.recipe or about.recipe)
    if about.parts and (missing := [view for view in recipe.views if view not in about.parts]):
        raise MissingInputError(
            f"{config.embeddings} holds no embeddings of {', '.join(missing)}, which {recipe.name} takes, but of "
            f"{', '.join(about.parts)}: make them by `python jobs/embed.py`, or name another recipe."
        )
    return recipe


def prepare(config: SearchConfig) -> Search:
    """Reads what is to be searched.

    Raises:
        MissingInputError: embeddings or encoders are not there.
        SelectionError: a split that the protocol needs has no labelled clip.
        ArtifactError: an encoder is not there.
        ConfigError: a first candidate is outside of the space, the settings name a space that is none, or the recipe
            trains its fusion jointly with its encoders.
    """
    recipe, about = recipe_of(config), read_about(config.embeddings)
    if recipe.blend is not None:
        raise ConfigError(f"{recipe.name} blends what its encoders say: there is nothing to search.")
    if recipe.joint is not None:
        raise ConfigError(
            f"The fusion of {recipe.name} was trained jointly with its encoders, by jobs/train_encoders.py, which "
            "saved the ensemble: there is nothing to search."
        )
    fusion = replace(
        recipe.fusion.searched_in(config.space),
        inputs=config.inputs or recipe.fusion.inputs,
        trials=config.trials or recipe.fusion.trials,
        seeds=config.seeds or recipe.fusion.seeds,
    )
    plan = Plan(
        space=fusion.space,
        first_points=fusion.first_points,
        sampler=config.sampler,
        trials=fusion.trials,
        per_trial=config.candidates_per_trial,
        shared=tuple(name for name in fusion.space if name not in OWN_SETTINGS),
    ).of_what_there_is()
    plan.points()  # refuses what is wrong with it before a cluster is started
    cards = [artifacts.read_card(f"{config.encoders}/{view}") for view in recipe.views]
    # A search is what it searches: the same settings on the same data go on, others start anew beside it.
    labels = labels_fingerprint(config.embeddings, config.protocol)
    identity = [about.fingerprint, labels, to_json(replace(fusion, trials=0)), config.sampler, config.sampler_seed]
    identity += [config.random_starts, config.protocol, config.std_penalty, to_json(config.stopping)]
    identity += recipe.objective.chosen
    identity += sorted(config.space)  # in JSON a range is one, logarithmic or not
    return Search(
        recipe=recipe,
        fusion=fusion,
        data=read_search_data(config.embeddings, fusion, config.protocol, recipe.task.output),
        about=about,
        rules=Rules(
            seeds=fusion.seeds,
            std_penalty=config.std_penalty,
            stopping=config.stopping,
            score_name=recipe.task.score_name,
        ),
        plan=plan,
        given=config.space,
        # Absolute: a trial has a working folder of its own.
        store=SearchStore(f"{absolute(config.output)}/{fingerprint(*identity)}"),
        on_validation=read_validation(config.embeddings, recipe) if recipe.grids else None,
        weights="debug" if any(card.weights == "debug" for card in cards) else "published",
    )


def read_search_data(
    embeddings_uri: str, fusion: FusionRecipe, protocol: SelectionProtocol, output: Classes | Intensities
) -> SearchData:
    """Inputs of the fusion from a folder of embeddings, of the splits that the protocol may see.

    Raises:
        SelectionError: a split has no labelled clip.
    """
    columns = [f.name for f in tables.embedding_fields(*fusion.views)]

    def inputs(rows: list[tables.Row], dims: Mapping[View, int] | None = None) -> LabelledInputs:
        clips = [{view: tables.embedding_from_row(row, view) for view in fusion.views} for row in rows]
        labels = [said for row in rows if (said := tables.labels_from_row(row)) is not None]
        return labelled_inputs(clips, labels, fusion, output, dims)

    rows = labelled_rows(embeddings_uri, columns, protocol)
    dims = inputs(rows.train).inputs.dims
    return rows.map(lambda split: inputs(split, dims))


def read_validation(embeddings_uri: str, recipe: Recipe) -> LabelledClips:
    """The labelled validation clips of a folder of embeddings, as all views of the recipe see them.

    Raises:
        SelectionError: there is none.
    """
    columns = [f.name for f in tables.embedding_fields(*recipe.views)]
    rows = labelled_rows(embeddings_uri, columns, "validation").validation
    return LabelledClips(
        embeddings=[{view: tables.embedding_from_row(row, view) for view in recipe.views} for row in rows],
        labels=[said for row in rows if (said := tables.labels_from_row(row)) is not None],
    )


def results_of(search: Search) -> SearchResults:
    """The search as far as it got."""
    made = search.store.description()
    return SearchResults(
        recipe=search.recipe.name,
        description=search.recipe.description,
        score_name=search.recipe.task.score_name,
        space=search.fusion.space,
        given=search.given,
        seeds=search.fusion.seeds,
        sampler=search.plan.sampler,
        std_penalty=search.rules.std_penalty,
        stopping=search.rules.stopping,
        selected_on=search.data.selected_on,
        weights=search.weights,
        planned=search.plan.trials,
        outcomes=tuple(search.store.outcomes()),
        incidents=tuple(search.store.incidents()),
        node_share=made.get("node_share", 1.0),
    )

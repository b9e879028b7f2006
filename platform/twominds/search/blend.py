"""A blend as an ensemble: what the views' encoders say, averaged by weights; nothing is trained (HSEmotion)."""

from collections.abc import Mapping

from torch import Tensor

from twominds import artifacts
from twominds.artifacts import Card
from twominds.errors import ConfigError
from twominds.recipes.recipe import Recipe
from twominds.records import View
from twominds.results import tables
from twominds.results.about import read_about
from twominds.results.labelled import clip_counts, labelled_rows
from twominds.scoring.ensemble import save_ensemble
from twominds.scoring.fit_decision import DecisionFit
from twominds.search.assembly import Assembly, assemble, validation_score
from twominds.search.config import SearchConfig
from twominds.search.setup import read_validation
from twominds.training.examples import Targets
from twominds.training.selection import SelectionProtocol


def blend(config: SearchConfig, recipe: Recipe) -> Card:
    """Saves the blend of a folder of embeddings; returns its card.

    Raises:
        ConfigError: the command asks for what only a search has, such as other seeds or a fitted decision.
        SelectionError: a split has no labelled clip, or no validation clip has an answer.
        ArtifactError: an encoder is not there.
    """
    if config.winner != "reuse" or config.decision != DecisionFit() or config.seeds or config.space or config.inputs:
        raise ConfigError(
            f"{recipe.name} blends what its encoders say, and its own grids say what is chosen: there are no seeds, no "
            "space, no inputs, no refit and no other decision to give."
        )
    about = read_about(config.embeddings)
    validation = read_validation(config.embeddings, recipe)
    known = labelled_rows(config.embeddings, [tables.POINTS], "validation").map(lambda rows: _known(rows, recipe))
    made = assemble(recipe, {}, {}, about.media, validation)
    encoders = {view: f"{config.encoders}/{view}" for view in recipe.views}
    by_test = any(artifacts.read_card(uri).selected_on == "validation+test" for uri in encoders.values())
    return save_blend(
        config.ensemble,
        made,
        recipe,
        encoders,
        data={
            "embeddings": about.fingerprint,
            **clip_counts(recipe.task, known.train, known.validation),
        },
        score=validation_score(made, recipe, validation, recipe.objective.constant(known.train)),
        selected_on="validation+test" if by_test else "validation",
    )


def _known(rows: list[tables.Row], recipe: Recipe) -> Tensor:
    """Labels of the known points of some clips, [N] or [N, K], clip after clip."""
    labels = [said for row in rows if (said := tables.labels_from_row(row)) is not None]
    return Targets.of(labels, [tables.points_from_row(row) for row in rows], recipe.task.output).values


def save_blend(
    uri: str,
    made: Assembly,
    recipe: Recipe,
    encoders: Mapping[View, str],
    *,
    data: Mapping[str, object],
    score: float,
    selected_on: SelectionProtocol = "validation",
    whole: bool = True,
) -> Card:
    """Writes the ensemble; returns its card.

    Args:
        uri: Where to.
        made: Its members, weights and decision.
        recipe: Whose.
        encoders: Where the encoder of each view is.
        data: What the card says of the data.
        score: Its validation score.
        selected_on: What chose the epochs of its encoders; weights and steps are chosen on validation alone.
        whole: See `save_ensemble`.
    """
    card = Card(
        kind="ensemble",
        task=recipe.task,
        recipe=recipe.name,
        config={},
        data=dict(data),
        metrics={"validation_score": score},
        selected_on=selected_on,
    )
    return save_ensemble(uri, made.states, made.config, dims=made.dims, encoders=encoders, card=card, whole=whole)

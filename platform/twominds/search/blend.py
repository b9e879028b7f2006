"""A blend as an ensemble: what the views' encoders say, averaged by weights; nothing is trained (HSEmotion)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from twominds import artifacts
from twominds.artifacts import Card
from twominds.errors import ConfigError
from twominds.media.reader import MediaConfig
from twominds.recipes.recipe import Recipe
from twominds.records import View
from twominds.results import tables
from twominds.results.about import read_about
from twominds.results.labelled import clip_counts, labelled_rows
from twominds.scoring.ensemble import save_ensemble
from twominds.scoring.fit_decision import DecisionFit
from twominds.search.assembly import assemble, chosen_on, said_clips, validation_score
from twominds.search.config import SearchConfig
from twominds.search.inputs import LabelledClips
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
    train = labelled_rows(config.embeddings, [tables.POINTS], "validation").train
    encoders = {view: f"{config.encoders}/{view}" for view in recipe.views}
    by_test = any(artifacts.read_card(uri).selected_on == "validation+test" for uri in encoders.values())
    return save_blend(
        config.ensemble,
        recipe,
        encoders,
        media=about.media,
        train=_known(train, recipe),
        validation=read_validation(config.embeddings, recipe),
        data={"embeddings": about.fingerprint},
        selected_on="validation+test" if by_test else "validation",
    )


def _known(rows: list[tables.Row], recipe: Recipe) -> Tensor:
    """Labels of the known points of some clips, [N] or [N, K], clip after clip."""
    labels = [said for row in rows if (said := tables.labels_from_row(row)) is not None]
    return Targets.of(labels, [tables.points_from_row(row) for row in rows], recipe.task.output).values


def save_blend(
    uri: str,
    recipe: Recipe,
    encoders: Mapping[View, str],
    *,
    media: MediaConfig,
    train: Tensor,
    validation: LabelledClips,
    data: Mapping[str, Any],
    selected_on: SelectionProtocol,
    whole: bool = True,
) -> Card:
    """Chooses what the recipe's grids leave open and writes the ensemble; returns its card.

    Args:
        uri: Folder for the ensemble.
        recipe: A recipe with a stage `BlendViews`.
        encoders: Where the encoder of each view is.
        media: How the clips were read.
        train: Labels of the known training points, [N] or [N, K].
        validation: What weights and steps are chosen on.
        data: What the card says of the data beside the labels.
        selected_on: What chose the epochs of its encoders; weights and steps are chosen on validation alone.
        whole: Whether the encoders are saved with it (`save_ensemble`).

    Raises:
        SelectionError: no validation clip has an answer.
    """
    made = assemble(recipe, {}, {}, media)
    said = said_clips(made, recipe, validation)
    made = chosen_on(made, recipe, said)
    known = torch.from_numpy(np.concatenate([clip.truth for clip in said]))
    card = Card(
        kind="ensemble",
        task=recipe.task,
        recipe=recipe.name,
        config={},
        data={**data, **clip_counts(recipe.task, train, known)},
        metrics={"validation_score": validation_score(made, recipe, said, recipe.objective.constant(train))},
        selected_on=selected_on,
    )
    return save_ensemble(uri, made.states, made.config, dims=made.dims, encoders=encoders, card=card, whole=whole)

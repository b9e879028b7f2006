"""The best candidate of a search as an artifact: its five models, reused or fitted again, and their encoders."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from twominds.artifacts import Card, to_json
from twominds.errors import ConfigError
from twominds.fusion.batch import FusionInputs
from twominds.recipes.recipe import FusionRecipe, Recipe
from twominds.records import Split
from twominds.results.about import About
from twominds.results.labelled import clip_counts
from twominds.scoring.ensemble import save_ensemble
from twominds.scoring.fit_decision import DecisionFit, fit_decision
from twominds.scoring.members import Member, ensemble_logits, member_models, seed_name
from twominds.search.assembly import assemble, chosen_on, said_clips
from twominds.search.candidate import CandidateStore, new_model
from twominds.search.inputs import LabelledClips, LabelledInputs, SearchData
from twominds.search.outcomes import Outcome
from twominds.training.examples import FusionExamples
from twominds.training.fit import EpochReport, fit
from twominds.training.objective import Objective

Winner = Literal["reuse", "refit"]
"""The models that the search chose; or new ones, trained as long on training and validation clips together."""


@dataclass(frozen=True, kw_only=True)
class WinnerConfig:
    """What is saved, and where."""

    ensemble: str
    encoders: str
    """Folder of `jobs/train_encoders.py`; they travel in the ensemble."""
    winner: Winner = "reuse"
    decision: DecisionFit

    def __post_init__(self) -> None:
        """Raise ConfigError where the decision would be fitted on clips that the models were trained on."""
        if self.winner == "refit" and self.decision != DecisionFit():
            raise ConfigError(
                "A decision is fitted on validation clips, on which `--winner refit` trains: choose one of the two."
            )


def save_winner(
    config: WinnerConfig,
    best: Outcome,
    store: CandidateStore,
    recipe: Recipe,
    fusion: FusionRecipe,
    data: SearchData,
    about: About,
    *,
    searched: int,
    device: str = "cpu",
    on_validation: LabelledClips | None = None,
) -> Card:
    """Saves the ensemble; returns its card.

    Args:
        config: What is saved, and where.
        best: The winner, with all its seeds.
        store: Where the winner's models are.
        recipe: The system that was searched.
        fusion: What was searched.
        data: What it was trained and selected on.
        about: What made the embeddings.
        searched: Candidates that were tried.
        device: Where to refit.
        on_validation: What the recipe's grids are chosen on; not needed where it has none.
    """
    chosen = fusion.with_candidate(best.candidate)
    dims = data.train.inputs.dims
    by_seed = {seed: store.state(seed) for seed in fusion.seeds}
    recipe = replace(recipe, fusion=chosen)
    made = assemble(recipe, by_seed, dims, about.media)
    if on_validation is not None:
        made = chosen_on(made, recipe, said_clips(made, recipe, on_validation))
    states = dict(made.states)
    if config.winner == "refit":  # what was chosen on validation stays
        epochs = {result.seed: result.best_epoch for result in best.results}
        states |= refit(chosen, data, epochs, recipe.objective, device)
    validation = FusionExamples(data.validation.inputs, data.validation.labels)  # those that can be scored
    seeds = [Member(name=seed_name(seed), fusion=chosen.model, views=fusion.views) for seed in fusion.seeds]
    models = member_models(states, seeds, made.dims, recipe.task.num_outputs)
    logits, labels = ensemble_logits(models, validation.inputs), validation.labels.numpy()
    decision = fit_decision(config.decision, logits, labels, made.config.decision, recipe.objective.metric)
    ensemble = replace(made.config, decision=decision)
    validation_score = {str(result.seed): result.validation_score for result in best.results}
    card = Card(
        kind="ensemble",
        task=recipe.task,
        recipe=recipe.name,
        config={},
        data={
            "embeddings": about.fingerprint,
            **clip_counts(recipe.task, data.train.labels, data.validation.labels),
        },
        metrics={
            "validation_score_mean": statistics.fmean(validation_score.values()),
            "validation_score_std": statistics.pstdev(validation_score.values()),
            "validation_score": validation_score,
            "selection_score_mean": best.mean,
            "candidate": best.candidate,
            "candidates_searched": searched,
            "decision_fit": to_json(config.decision),
            # Then the scores above are those of the models that the search chose, not of these.
            **({"refit_on": [str(Split.TRAIN), str(Split.VALIDATION)]} if config.winner == "refit" else {}),
        },
        selected_on=data.selected_on,
    )
    encoders = {view: f"{config.encoders}/{view}" for view in recipe.views}
    return save_ensemble(config.ensemble, states, ensemble, dims=made.dims, encoders=encoders, card=card)


class _EnoughError(Exception):
    """The epoch that the search found best is reached."""


def refit(
    recipe: FusionRecipe, data: SearchData, epochs: Mapping[int, int], objective: Objective, device: str = "cpu"
) -> dict[str, dict[str, Tensor]]:
    """Trains each seed anew on training and validation clips together, for as long as was best without the latter.

    Nothing is chosen by what the new models say, so it needs no third split; what they are worth only test can tell. A
    plateau schedule sees the loss of validation clips that are trained on, and lowers the rate later.

    Returns:
        The state dict of each seed, by the name of its member.
    """
    both = FusionExamples(*_together(data.train, data.validation), device)
    validation = FusionExamples(data.validation.inputs, data.validation.labels, device)
    states: dict[str, dict[str, Tensor]] = {}
    for seed, last in epochs.items():
        model = new_model(recipe, both, objective, seed)

        def stop(report: EpochReport, last: int = last) -> None:
            if report.epoch == last:
                raise _EnoughError

        settings = replace(recipe.fit, patience=recipe.fit.epochs)  # the schedule stays that of all epochs
        try:
            fit(
                model,
                both,
                validation,
                settings,
                seed=seed,
                loss=recipe.loss,
                objective=objective,
                device=device,
                on_epoch=stop,
            )
        except _EnoughError:
            states[seed_name(seed)] = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return states


def _together(one: LabelledInputs, other: LabelledInputs) -> tuple[FusionInputs, Tensor]:
    tokens = {m: torch.cat([one.inputs.tokens[m], other.inputs.tokens[m]]) for m in one.inputs.tokens}
    mask = torch.cat([one.inputs.mask, other.inputs.mask])
    return FusionInputs(tokens=tokens, mask=mask), torch.cat([one.labels, other.labels])

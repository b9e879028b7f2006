"""From trained models to an ensemble: its members, what each counts, and the decision, as a recipe says.

Weights and steps for which the recipe has grids are chosen here, on validation clips alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from twominds.artifacts import Card
from twominds.fusion.model import module_name
from twominds.media.reader import MediaConfig
from twominds.recipes.recipe import Recipe
from twominds.records import Embedding, View
from twominds.scoring.decision import Decision
from twominds.scoring.ensemble import Ensemble
from twominds.scoring.members import EnsembleConfig, Member, member_models, seed_name, seeds_of, view_member, view_state
from twominds.scoring.post_processing import PostProcessing, SaidClip, fit_post_processing
from twominds.search.inputs import LabelledClips
from twominds.tasks import Classes
from twominds.training.examples import Targets

State = Mapping[str, Tensor]

_STANDS_IN = 1e-6
"""Least weight of a fusion beside views' own heads, so that it answers where those views are absent, as in training."""


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """All that `save_ensemble` needs but the card."""

    config: EnsembleConfig
    states: Mapping[str, State]
    """The tensors of each member, by its name."""
    dims: Mapping[View, int]
    """Length of each view's token."""

    def ensemble(self, recipe: Recipe) -> Ensemble:
        """The same, at work."""
        card = Card(
            kind="ensemble",
            task=recipe.task,
            recipe=recipe.name,
            config={},
            data={},
            selected_on="validation",
            seeds=seeds_of(self.states),
        )
        members = self.config.members_of(card.seeds)
        models = member_models(self.states, members, self.dims, recipe.task.num_outputs)
        return Ensemble(models, self.config, self.dims, card)

    @property
    def post_processing(self) -> PostProcessing:
        """What follows the models, of an ensemble that names its members."""
        members = self.config.members
        return PostProcessing(
            names=tuple(member.name for member in members),
            weights=tuple(member.weight for member in members),
            decision=self.config.decision,
        )


def assemble(recipe: Recipe, by_seed: Mapping[int, State], dims: Mapping[View, int], media: MediaConfig) -> Assembly:
    """The ensemble that a recipe makes of its trained models, before anything is chosen from its grids.

    Args:
        recipe: Whose stages say whether the models of the seeds are its members, or the views themselves.
        by_seed: The fusion models; none of a blend.
        dims: Length of each view's token.
        media: How the clips were read.
    """
    fusion, judge = recipe.fusion, recipe.judge
    config = EnsembleConfig(
        fusion=fusion.model, inputs=fusion.inputs, views=fusion.views, media=media, decision=recipe.decision
    )
    heads: Mapping[View, float] = recipe.joint.blend if recipe.joint is not None else {}
    if recipe.blend is None and judge is None and not recipe.grids and not heads:
        states = {seed_name(seed): state for seed, state in by_seed.items()}
        return Assembly(config=config, states=states, dims=dims)
    members, states, dims = list[Member](), dict[str, State](), dict(dims)
    if recipe.blend is None:
        for seed, state in by_seed.items():
            weight = max(1 - sum(heads.values()), _STANDS_IN) / len(by_seed)
            members.append(Member(name=seed_name(seed), views=fusion.views, weight=weight))
            states[seed_name(seed)] = state
        members += [view_member(view, weight) for view, weight in heads.items()]
    else:
        for view in fusion.views:
            weight = recipe.blend.weights.get(view, 0.0 if recipe.blend.weights else 1 / len(fusion.views))
            members.append(view_member(view, weight))
    if judge is not None and judge not in {member.name for member in members}:
        members.append(view_member(judge, 0.0))
    for member in members:
        if member.inputs == "logits":
            dims.setdefault(member.name, recipe.task.num_outputs)
            states[member.name] = view_state(member.name, recipe.task.num_outputs)
    config = replace(config, views=recipe.views, members=tuple(members))
    return Assembly(config=config, states=states, dims=dims)


def chosen_on(made: Assembly, recipe: Recipe, clips: Sequence[SaidClip]) -> Assembly:
    """The same with the weights and steps that are best on validation clips; as it is where the recipe has no grids.

    Raises:
        SelectionError: no clip has an answer.
    """
    if not recipe.grids:
        return made
    of_classes = isinstance(recipe.task.output, Classes)
    found = fit_post_processing(
        clips, made.post_processing, recipe.grids, recipe.objective.metric, of_classes=of_classes
    )
    blended = recipe.joint is not None and recipe.joint.blend
    least = {seed_name(seed): _STANDS_IN for seed in recipe.fusion.seeds} if blended else {}
    weighed = zip(made.config.members, found.weights, strict=True)
    members = tuple(replace(member, weight=weight or least.get(member.name, 0.0)) for member, weight in weighed)
    return replace(made, config=replace(made.config, members=members, decision=found.decision))


def said_clips(made: Assembly, recipe: Recipe, clips: LabelledClips) -> list[SaidClip]:
    """What the members say of each clip; see `said_of`."""
    points_s = [next((e.points_s for e in of.values() if e.points_s is not None), None) for of in clips.embeddings]
    return said_of(made, recipe, clips.embeddings, Targets.of(clips.labels, points_s, recipe.task.output))


def said_of(
    made: Assembly, recipe: Recipe, clips: Sequence[Mapping[View, Embedding]], targets: Targets
) -> list[SaidClip]:
    """What the members say of each clip, one after another: their tokens may be long, and their points many.

    Args:
        made: The ensemble's members, and how they are joined.
        recipe: The recipe that they were trained by.
        clips: Embeddings of each by view.
        targets: What is known of the clips' points; of a clip it may be nothing.
    """
    ensemble = made.ensemble(recipe)
    found: list[SaidClip] = []
    for place, embeddings in enumerate(clips):
        own = targets.select(targets.owners == place)
        found.append(
            SaidClip(
                by_member=ensemble.probabilities([embeddings]),
                points_s=next((e.points_s for e in embeddings.values() if e.points_s is not None), None),
                places=own.points.numpy(),
                truth=own.values.numpy(),
            )
        )
    return found


def combined(ensembles: Mapping[str, Ensemble], decision: Decision) -> Assembly:
    """Several ensembles as one, in whose mean each counts the same.

    Args:
        ensembles: By what each is called; its views and members get that name, too (`face` of `42`: `face.42`).
        decision: The steps after the members, in the place of each ensemble's own.
    """
    members, states, dims = list[Member](), dict[str, State](), dict[View, int]()
    for name, ensemble in ensembles.items():
        names = {view: f"{view}.{name}" for view in ensemble.config.views}
        total = sum(np.max(member.weight) for member in ensemble.members) * len(ensembles)
        for member in ensemble.members:
            own, weight = f"{name}.{member.name}", np.asarray(member.weight) / total
            renamed = replace(
                member,
                name=own,
                views=tuple(names[view] for view in member.views),
                weight=float(weight) if weight.ndim == 0 else tuple(weight.tolist()),
            )
            members.append(renamed)
            states[own] = renamed_state(ensemble.models[member.name].state_dict(), names)
        dims |= {names.get(view, view): size for view, size in ensemble.dims.items()}
    first = next(iter(ensembles.values())).config
    views = tuple(f"{view}.{name}" for name, ensemble in ensembles.items() for view in ensemble.config.views)
    config = replace(first, views=views, decision=decision, members=tuple(members))
    return Assembly(config=config, states=states, dims=dims)


def renamed_state(state: State, names: Mapping[View, View]) -> State:
    """A model's tensors under the names that they have where its views have others."""
    parts = {module_name(view): module_name(other) for view, other in names.items()}
    return {".".join(parts.get(part, part) for part in name.split(".")): tensor for name, tensor in state.items()}


def validation_score(
    made: Assembly, recipe: Recipe, clips: Sequence[SaidClip], constant: npt.NDArray[np.generic]
) -> float:
    """The metric over all labelled points of an ensemble that names its members.

    A clip of which nothing is said gets the constant answer of training (the majority [], or the means [K]).
    """
    truths: list[npt.NDArray[np.generic]] = []
    answers: list[npt.NDArray[np.generic]] = []
    for said in clips:
        found = made.post_processing.answers(said, of_classes=isinstance(recipe.task.output, Classes))
        truths.append(said.truth)
        answers.append(np.broadcast_to(constant, (len(said.places), *constant.shape)) if found is None else found)
    return recipe.objective.metric(np.concatenate(truths), np.concatenate(answers))

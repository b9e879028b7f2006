"""ConflictAwareAH's fusion (section 3.4) over the encoders of another system: what conflict features are worth there.

The settings are ours, as is the search: the paper trained its fusion with encoders of its own, once. `conflict` is one
of the dimensions, so the stability search says over several seeds whether the differences help.
"""

from dataclasses import replace

from twominds.fusion.conflict import ConflictFusionConfig
from twominds.recipes.recipe import Recipe
from twominds.recipes.space import Candidate, Choice, LogUniform, SearchSpace, Uniform
from twominds.training.losses import FusionLoss

SOURCE = "ConflictAwareAH (arXiv 2603.15818)"

SPACE: SearchSpace = {
    "conflict": Choice(values=(True, False)),
    "form": Choice(values=("tokens", "feed_forward")),
    "hidden_dim": Choice(values=(32, 64, 128)),
    "head_dim": Choice(values=(32, 64, 128)),
    "dropout": Choice(values=(0.2, 0.3, 0.4, 0.5)),
    "learning_rate": LogUniform(low=8e-5, high=1e-3),
    "weight_decay": LogUniform(low=1e-4, high=2e-3),
    "label_smoothing": Uniform(low=0.0, high=0.1),
}
"""Where the search of a fusion over other encoders looks."""


def over_encoders(base: Recipe, name: str) -> Recipe:
    """Another system with conflict-aware fusion in place of its own: same encoders, inputs, seeds and training.

    Args:
        base: The system.
        name: Of the recipe.
    """
    own = base.fusion.model
    model = ConflictFusionConfig(
        hidden_dim=64,
        head_dim=64,
        num_heads=4,
        dropout=0.4,
        standardize=own.standardize,
        pca_components=own.pca_components,
    )
    settings = vars(model) | vars(base.fusion.fit)
    point: Candidate = {dimension: settings[dimension] for dimension in SPACE}
    fusion = replace(
        base.fusion,
        model=model,
        loss=FusionLoss(prototype_weight=0.0),
        space=SPACE,
        first_points=(point, {**point, "conflict": False}),
    )
    return replace(
        base,
        name=name,
        description=f"{base.name} with conflict-aware fusion",
        source=f"{SOURCE}, section 3.4, over other encoders (ours)",
        fusion=fusion,
        published=None,
    )

"""What both sides of the search benchmark search: `leya`'s fusion, with models that two cores train in seconds.

The whole space goes up to 512 dimensions, six layers and feed-forward layers eight times as wide: minutes per seed on
two cores, and a baseline of forty candidates would take most of a day.
"""

from dataclasses import replace

from twominds.recipes.leya import PAPER_CANDIDATE, SPACE, leya
from twominds.recipes.recipe import Recipe
from twominds.recipes.space import Candidate, Choice, SearchSpace

SMALL_SPACE: SearchSpace = {
    **SPACE,
    "hidden_dim": Choice(values=(64, 128)),
    "num_layers": Choice(values=(1, 2)),
    "num_heads": Choice(values=(2, 4, 8)),
    "feedforward_factor": Choice(values=(2, 4)),
}
"""In the order of `SPACE`; all but the size of the model is as there."""

FIRST_POINT: Candidate = {**PAPER_CANDIDATE, "num_layers": 2, "feedforward_factor": 4}
"""The paper's candidate, brought into the small space."""


def benchmark_recipe() -> Recipe:
    """`leya`, searched in the small space. It keeps its name: what the search saves is looked up by it."""
    recipe = leya()
    return replace(recipe, fusion=replace(recipe.fusion, space=SMALL_SPACE, first_points=(FIRST_POINT,)))


def uniform_recipe() -> Recipe:
    """The same, with candidates that all take as long: one small model, and as many epochs whatever comes of them."""
    recipe = benchmark_recipe()
    space: SearchSpace = {"learning_rate": SPACE["learning_rate"], "num_layers": Choice(values=(1,))}
    fit = replace(recipe.fusion.fit, epochs=8, patience=8)
    return replace(recipe, fusion=replace(recipe.fusion, space=space, fit=fit, first_points=()))

"""The recipes by name."""

from collections.abc import Callable

from twominds.errors import ConfigError
from twominds.recipes.leya import leya, leya_demo, pooled
from twominds.recipes.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    "leya": leya,
    "leya-pooled": lambda: pooled(leya()),
    "leya/demo": leya_demo,
    "leya/demo-pooled": lambda: pooled(leya_demo()),
}


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if name not in RECIPES:
        raise ConfigError(f"There is no recipe {name!r}; there are: {', '.join(RECIPES)}.")
    return RECIPES[name]()

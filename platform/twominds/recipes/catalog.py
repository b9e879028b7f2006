"""The recipes by name, and studies: several of them that make one table."""

from collections.abc import Callable, Iterable
from functools import partial

from twominds.errors import ConfigError
from twominds.recipes import hsemotion_ah_frame, hsemotion_ah_video, hsemotion_emi, hsemotion_expr, simple
from twominds.recipes.conflict_aware import conflict_aware, conflict_aware_demo, over_encoders, top_layers
from twominds.recipes.hsemotion import WAYS, Way, recipe_name
from twominds.recipes.leya import leya, leya_demo, over_pooled_features
from twominds.recipes.leya_alternatives import ALTERNATIVES, alternative
from twominds.recipes.leya_table import POOLED_ROWS, ROWS, table_row
from twominds.recipes.recipe import Recipe

Builder = Callable[[], Recipe]

SYSTEMS: dict[str, Builder] = {
    "leya": leya,
    "leya-pooled": lambda: over_pooled_features(leya()),
    "leya/demo": leya_demo,
    "leya/demo-pooled": lambda: over_pooled_features(leya_demo()),
    "conflict-aware": conflict_aware,
    "conflict-aware/top-2": top_layers,
    "conflict-aware/demo": conflict_aware_demo,
    **{
        name: partial(over_encoders, builder(), name)
        for name, builder in {
            "conflict-aware/leya": leya,
            "conflict-aware/leya-pooled": lambda: over_pooled_features(leya()),
            "conflict-aware/demo/leya": leya_demo,
            "conflict-aware/demo/leya-pooled": lambda: over_pooled_features(leya_demo()),
        }.items()
    },
    "simple/ah-frame": simple.ah_frame,
    "simple/expression": simple.expression,
    "simple/joint": simple.joint,
    "simple/mimicry": simple.mimicry,
}
"""Whole systems; the other recipes are derived from them."""


def _rows(system: str, numbers: Iterable[int]) -> dict[str, Builder]:
    return {f"{system}/{number:02}": partial(_row, system, number) for number in numbers}


def _row(system: str, number: int) -> Recipe:
    return table_row(SYSTEMS[system](), number)


def _alternatives(system: str) -> dict[str, Builder]:
    return {f"{system}/{name}": partial(_alternative, system, name) for name in ALTERNATIVES}


def _alternative(system: str, name: str) -> Recipe:
    return alternative(SYSTEMS[system](), name)


def _hsemotion(table: str, way: Way) -> dict[str, dict[str, Builder]]:
    """The study of one of HSEmotion's tables."""
    rows, build = _HSEMOTION[table]
    return {recipe_name(table, "all", way): {recipe_name(table, row, way): partial(build, row, way) for row in rows}}


_HSEMOTION: dict[str, tuple[Iterable[str], Callable[[str, Way], Recipe]]] = {
    "expr": (hsemotion_expr.ROWS, hsemotion_expr.expression_row),
    "emi": (hsemotion_emi.ROWS, hsemotion_emi.emi_row),
    "ah-video": (hsemotion_ah_video.ROWS, hsemotion_ah_video.video_row),
    "ah-frame": (hsemotion_ah_frame.ROWS, hsemotion_ah_frame.frame_row),
}
"""Its tables: names of the rows, and what builds one."""

_MEMBERS: dict[str, dict[str, Builder]] = {
    "leya/all": _rows("leya", ROWS),
    "leya/alternatives": _alternatives("leya"),
    "leya-pooled/all": _rows("leya-pooled", POOLED_ROWS),
    "leya/demo/all": _rows("leya/demo", ROWS),
    "leya/demo/alternatives": _alternatives("leya/demo"),
    "leya/demo-pooled/all": _rows("leya/demo-pooled", POOLED_ROWS),
    **{study: rows for way in WAYS for table in _HSEMOTION for study, rows in _hsemotion(table, way).items()},
}

STUDIES: dict[str, tuple[str, ...]] = {name: tuple(members) for name, members in _MEMBERS.items()}
"""Names of the recipes of each study, in the order of its table."""

RECIPES: dict[str, Builder] = SYSTEMS | {
    name: build for members in _MEMBERS.values() for name, build in members.items()
}


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        ConfigError: there is none; the message says which there are.
    """
    if name in STUDIES:
        raise ConfigError(
            f"{name} is a study of {len(STUDIES[name])} recipes; give one of them, such as {STUDIES[name][0]}."
        )
    if name not in RECIPES:
        raise ConfigError(f"There is no recipe {name!r}; {_WHAT_THERE_IS}")
    return RECIPES[name]()


def find_study(name: str) -> tuple[Recipe, ...]:
    """The recipes of the study called `name`, or the one recipe of that name.

    Raises:
        ConfigError: there is neither; the message says what there is.
    """
    if name not in STUDIES and name not in RECIPES:
        raise ConfigError(f"There is no study and no recipe {name!r}; {_WHAT_THERE_IS}")
    return tuple(RECIPES[member]() for member in STUDIES.get(name, (name,)))


def _listed(names: Iterable[str]) -> str:
    """Without those on debug models, which go by the same names."""
    return ", ".join(name for name in names if "demo" not in name and not name.startswith("hsemotion/"))


_WHAT_THERE_IS = (
    f"there are the systems {_listed(SYSTEMS)}, rows of tables (leya/01 to leya/24, hsemotion/emi/hubert-mean), "
    f"alternatives (as leya/fusion-concat), the studies {_listed(STUDIES)} and "
    f"hsemotion/TABLE/all ({', '.join(_HSEMOTION)}), most also on debug models (as leya/demo/all)."
)

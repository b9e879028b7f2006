"""The recipes by name, and studies: several of them that make one table."""

from collections.abc import Callable, Iterable
from functools import partial

from twominds.errors import ConfigError
from twominds.recipes import hsemotion_ah_frame, hsemotion_ah_video, hsemotion_emi, hsemotion_expr, simple
from twominds.recipes.conflict_aware import (
    conflict_aware,
    conflict_aware_demo,
    over_encoders,
    top_layers,
    top_layers_demo,
)
from twominds.recipes.conflict_aware_table import ROWS as CONFLICT_AWARE_ROWS
from twominds.recipes.conflict_aware_table import table_row as conflict_aware_row
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
    "conflict-aware/demo/top-1": top_layers_demo,
    "simple/ah-frame": simple.ah_frame,
    "simple/expression": simple.expression,
    "simple/joint": simple.joint,
    "simple/mimicry": simple.mimicry,
    "simple/words": simple.words,
    "simple/demo/words": simple.words_demo,
}
"""Whole systems; the other recipes are derived from them."""


def _rows(system: str, numbers: Iterable[int]) -> dict[str, Builder]:
    return {f"{system}/{number:02}": partial(_row, system, number) for number in numbers}


def _row(system: str, number: int) -> Recipe:
    return table_row(SYSTEMS[system](), number)


def _conflict_aware(prefix: str, top: Builder, frozen: Builder) -> dict[str, Builder]:
    return {f"{prefix}/{row}": partial(conflict_aware_row, row, top, frozen, prefix) for row in CONFLICT_AWARE_ROWS}


def _over_leya(prefix: str, base: Builder) -> dict[str, Builder]:
    bases = {"leya": base, "leya-pooled": lambda: over_pooled_features(base())}
    return {
        f"{prefix}/{name}{ending}": partial(_over, f"{prefix}/{name}{ending}", of, conflict)
        for name, of in bases.items()
        for ending, conflict in {"": True, "-no-conflict": False}.items()
    }


def _over(name: str, base: Builder, conflict: bool) -> Recipe:
    return over_encoders(base(), name, conflict=conflict)


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
    "conflict-aware/over-leya": _over_leya("conflict-aware", leya),
    "conflict-aware/demo/over-leya": _over_leya("conflict-aware/demo", leya_demo),
    "conflict-aware/all": _conflict_aware("conflict-aware", top_layers, conflict_aware),
    "conflict-aware/demo/all": _conflict_aware("conflict-aware/demo", top_layers_demo, conflict_aware_demo),
    **{study: rows for way in WAYS for table in _HSEMOTION for study, rows in _hsemotion(table, way).items()},
}

STUDIES: dict[str, tuple[str, ...]] = {name: tuple(members) for name, members in _MEMBERS.items()} | {
    f"{demo}all": (
        f"simple/{demo}words",
        *(f"hsemotion/{demo}ah-video/{row}" for row in ("mfn-features", "hubert", "roberta")),
        *(f"conflict-aware/{demo}{row}" for row in ("frozen", "single", "ensemble")),
        "leya/demo" if demo else "leya",
    )
    for demo in ("", "demo/")
}
"""Names of the recipes of each study, in the order of its table; `all` is one table across the systems."""

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
    f"there are systems ({_listed(SYSTEMS)}), rows of tables (leya/01 to leya/24), "
    f"alternatives (leya/fusion-concat), studies ({_listed(STUDIES)}, "
    f"hsemotion/TABLE/all of {', '.join(_HSEMOTION)}), most also on debug models (leya/demo/all)."
)

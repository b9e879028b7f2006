"""Where a search looks as words of a command line, in place of what its recipe says: `num_layers=1,2`."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from twominds.errors import ConfigError
from twominds.recipes.space import Candidate, Choice, Dimension, LogUniform, SearchSpace, Uniform, Value

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_COMMA = re.compile(r",(?![^\[]*\])")
"""None within brackets: `hidden_dims=[64],[64,64]` are two values."""


def change_space(
    space: SearchSpace, words: Sequence[str], configs: Sequence["DataclassInstance"]
) -> tuple[SearchSpace, Candidate]:
    """Puts some dimensions in the place of a recipe's, or beside them.

    Args:
        space: Where the recipe looks.
        words: `name=value,value` chooses among values; `name=low..high` is a range, logarithmic where the recipe's is
            or as `name=log:low..high`; `name=value` is no dimension any more.
        configs: The configs that have these settings.

    Returns:
        The space, and the settings that have one value.

    Raises:
        ConfigError: a word is none of these, names no setting, or one that another names; or nothing is left to search.
    """
    kinds: dict[str, Any] = {name: kind for config in configs for name, kind in get_type_hints(type(config)).items()}
    given: dict[str, Dimension] = {}
    for word in words:
        name, _, text = word.partition("=")
        if not text:
            raise ConfigError(f"A space is given as num_layers=1,2 or learning_rate=1e-4..1e-3, not as {word!r}.")
        if name not in kinds:
            like = get_close_matches(name, kinds, n=1)
            raise ConfigError(f"There is no setting {name!r} to search{f'; is it {like[0]}?' if like else '.'}")
        if name in given:
            raise ConfigError(f"{name} is given twice: name all its values at once, as in {name}=1,2.")
        given[name] = _dimension(name, text, kinds[name], space.get(name))
    changed = {**space, **given}
    fixed = {name: of.values[0] for name, of in changed.items() if isinstance(of, Choice) and len(of.values) == 1}
    if len(fixed) == len(changed):
        raise ConfigError("Each setting has one value only: there is nothing to search.")
    return {name: dimension for name, dimension in changed.items() if name not in fixed}, fixed


def _dimension(name: str, text: str, kind: Any, own: Dimension | None) -> Dimension:
    from_text, is_range, to_text = text.removeprefix("log:").partition("..")
    if not is_range:
        return Choice(values=tuple(dict.fromkeys(_value(name, part, kind) for part in _COMMA.split(text))))
    if float not in (kind, *get_args(kind)):
        raise ConfigError(f"{name} has no range: name its values, with a comma between them.")
    low, high = (float(str(_value(name, end, kind))) for end in (from_text, to_text))
    if low >= high:
        raise ConfigError(f"{name}={text} is no range: it has to go up.")
    if not (text.startswith("log:") or isinstance(own, LogUniform)):
        return Uniform(low=low, high=high)
    if low <= 0:
        raise ConfigError(f"{name}={text}: a logarithmic range begins above 0.")
    return LogUniform(low=low, high=high)


def _value(name: str, text: str, kind: Any) -> Value:
    adapter: TypeAdapter[Value] = TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False))
    try:
        return adapter.validate_json(text) if text.startswith("[") else adapter.validate_strings(text)
    except ValidationError as error:
        raise ConfigError(f"{name}={text}: {error.errors()[0]['msg']}.") from error

"""Search spaces: flat, and independent of the library that samples from them.

The keys are field names of the configs they change (`apply` finds which), so a space has no second vocabulary.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, TypeVar

import numpy as np

from twominds.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Value = str | int | float | bool | tuple[int, ...]
ConfigT = TypeVar("ConfigT", bound="DataclassInstance")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of the given values."""

    values: tuple[Value, ...]

    def contains(self, value: Value) -> bool:
        """Whether `value` is one of them."""
        return value in self.values

    def nearest(self, value: Value) -> Value:
        """The nearest number among the values; the first value where nothing is near."""
        if value in self.values:
            return value
        numbers = [other for other in self.values if _is_number(other)]
        if not (numbers and _is_number(value)):
            return self.values[0]
        return min(numbers, key=lambda number: abs(number - value))

    def draw(self, rng: np.random.Generator) -> Value:
        """One of them at random."""
        return self.values[int(rng.integers(len(self.values)))]


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """A number between `low` and `high`."""

    low: float
    high: float

    def contains(self, value: Value) -> bool:
        """Whether `value` is in the range."""
        return _is_number(value) and self.low <= value <= self.high

    def nearest(self, value: Value) -> Value:
        """The nearest number of the range."""
        return min(max(value, self.low), self.high) if _is_number(value) else self.low

    def draw(self, rng: np.random.Generator) -> Value:
        """A number of the range at random."""
        return float(rng.uniform(self.low, self.high))


class LogUniform(Uniform):
    """A positive number whose logarithm is uniform."""

    def draw(self, rng: np.random.Generator) -> Value:
        """A number of the range at random."""
        return math.exp(rng.uniform(math.log(self.low), math.log(self.high)))


def _is_number(value: Value) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


Dimension = Choice | Uniform | LogUniform
SearchSpace = Mapping[str, Dimension]
Candidate = dict[str, Value]
Sampler = Literal["hyperopt", "random", "grid"]
"""TPE, random search, or every point of a space of choices."""
CHECKED = 1000
"""Candidates that are drawn to check a space: two values of ten each meet in ten of them."""


def check_candidate(candidate: Mapping[str, Value], space: SearchSpace) -> None:
    """Refuses a point outside of the space (samplers accept one silently).

    Raises:
        ConfigError: names the key and its value.
    """
    for name, dimension in space.items():
        if name not in candidate:
            raise ConfigError(f"The candidate has no value for {name}.")
        if not dimension.contains(candidate[name]):
            raise ConfigError(f"{name}={candidate[name]!r} is outside of the search space {dimension}.")


def draw(space: SearchSpace, rng: np.random.Generator) -> Candidate:
    """A point of the space at random."""
    return {name: dimension.draw(rng) for name, dimension in space.items()}


def brought_into(space: SearchSpace, settings: Mapping[str, Value]) -> Candidate:
    """The point of the space that is nearest to settings of which some are outside of it."""
    return {name: dimension.nearest(settings[name]) for name, dimension in space.items()}


def check_space(space: SearchSpace, build: Callable[[Candidate], object]) -> None:
    """Refuses a space with candidates that nothing can be built of, as far as many draws show one.

    Raises:
        ConfigError: what `build` says of such a candidate.
    """
    rng = np.random.default_rng(0)
    for _ in range(CHECKED):
        build(draw(space, rng))


def settings_of(candidate: Mapping[str, Value]) -> dict[str, str | int | float | bool]:
    """A candidate in the words of samplers, which know no tuples: these go as text (`candidate_of` takes it back)."""
    return {name: as_setting(value) for name, value in candidate.items()}


def as_setting(value: Value) -> str | int | float | bool:
    """One value in the words of samplers."""
    return str(value) if isinstance(value, tuple) else value


def candidate_of(settings: Mapping[str, Any], space: SearchSpace) -> Candidate:
    """A candidate from what a sampler draws.

    Raises:
        ConfigError: it is outside of the space.
    """
    candidate = dict(settings)
    for name, dimension in space.items():
        if isinstance(dimension, Choice):
            tuples = {str(value): value for value in dimension.values if isinstance(value, tuple)}
            candidate[name] = tuples.get(settings[name], settings[name])
    check_candidate(candidate, space)
    return candidate


CANDIDATES = "candidates"


def candidates_of(settings: Mapping[str, Any], space: SearchSpace) -> list[Candidate]:
    """The candidates of one trial from what a sampler draws for it: one, or several under `CANDIDATES`.

    Raises:
        ConfigError: one is outside of the space.
    """
    return [candidate_of(one, space) for one in settings.get(CANDIDATES, [settings])]


def size(space: SearchSpace) -> float:
    """How many candidates there are; infinity where a setting is a range."""
    return math.prod(len(d.values) if isinstance(d, Choice) else math.inf for d in space.values())


def grid(space: SearchSpace) -> list[Candidate]:
    """Every point of the space; the setting that is named last changes fastest.

    Raises:
        ConfigError: a setting is not one of a few values.
    """
    choices = {name: dimension.values for name, dimension in space.items() if isinstance(dimension, Choice)}
    if ranges := space.keys() - choices.keys():
        raise ConfigError(f"There is no grid over {', '.join(sorted(ranges))}: these are ranges. Sample from them.")
    return [dict(zip(choices, point, strict=True)) for point in product(*choices.values())]


def apply(candidate: Mapping[str, Any], config: ConfigT) -> tuple[ConfigT, set[str]]:
    """The config with every one of its fields that the candidate names replaced, and the names that were."""
    named = {f.name for f in fields(config)} & candidate.keys()
    return replace(config, **{name: candidate[name] for name in named}), named

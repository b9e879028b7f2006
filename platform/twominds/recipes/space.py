"""Search spaces: flat, scalar, and independent of the library that samples from them.

The keys are field names of the configs they change (`apply` finds which), so a space has no second vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from twominds.errors import ConfigError

Value = str | int | float | bool
ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of the given values."""

    values: tuple[Value, ...]

    def contains(self, value: Value) -> bool:
        """Whether `value` is one of them."""
        return value in self.values


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """A number between `low` and `high`; in steps of `step` when it is given."""

    low: float
    high: float
    step: float | None = None

    def contains(self, value: Value) -> bool:
        """Whether `value` is in the range (and, to rounding, on the grid)."""
        if isinstance(value, str) or not self.low <= value <= self.high:
            return False
        return self.step is None or abs((value - self.low) / self.step - round((value - self.low) / self.step)) < 1e-6


@dataclass(frozen=True, kw_only=True)
class LogUniform:
    """A positive number whose logarithm is uniform."""

    low: float
    high: float

    def contains(self, value: Value) -> bool:
        """Whether `value` is in the range."""
        return not isinstance(value, str) and self.low <= value <= self.high


Dimension = Choice | Uniform | LogUniform
SearchSpace = Mapping[str, Dimension]
Candidate = dict[str, Value]


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


def apply(candidate: Mapping[str, Any], configs: Sequence[ConfigT]) -> list[ConfigT]:
    """The configs with every field that the candidate names replaced.

    Raises:
        ConfigError: a key that no config has as a field, or that two have.
    """
    owners = {name: [c for c in configs if name in {f.name for f in fields(c)}] for name in candidate}  # type: ignore[arg-type]
    for name, found in owners.items():
        if len(found) != 1:
            raise ConfigError(f"The search parameter {name} must be a field of exactly one config, not {len(found)}.")
    return [
        replace(config, **{name: candidate[name] for name, found in owners.items() if found[0] is config})  # type: ignore[type-var]
        for config in configs
    ]

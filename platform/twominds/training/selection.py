"""Who may see which split: selecting code gets training and validation labels, and no path to the others.

A pipeline puts every split's examples into one `LabelledSplits` and hands on views of it: `for_selection()` to whatever
trains, tunes or chooses; `for_report()` to what computes the final tables. A view of the first kind does not hold the
test split at all, unless the paper's protocol was asked for by name, and then everything made of it is branded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from twominds.errors import SelectionError
from twominds.records import Split

ExamplesT = TypeVar("ExamplesT")
OtherT = TypeVar("OtherT")

SelectionProtocol = Literal["validation", "validation+test"]
"""Which labels choose checkpoints and configurations. `validation` is the honest one. `validation+test` is the mean of
both that LEYA reports: its test scores are optimistic, and carry `selected_on: validation+test`."""


def visible_splits(protocol: SelectionProtocol) -> tuple[Split, ...]:
    """All that code which trains, tunes or chooses under the protocol may read at all."""
    seen = (Split.TRAIN, Split.VALIDATION)
    return seen if protocol == "validation" else (*seen, Split.TEST)


@dataclass(frozen=True, kw_only=True)
class SelectionView(Generic[ExamplesT]):
    """All that code which trains, tunes or chooses may see."""

    train: ExamplesT
    validation: ExamplesT
    """Lowers the learning rate on a plateau, and is reported, under either protocol."""
    scored_on: tuple[ExamplesT, ...]
    """Splits whose mean score selects the epoch and ranks candidates: validation, and test only under the paper's
    protocol."""
    selected_on: SelectionProtocol
    """Goes into every artifact and table that comes of this view."""

    def selection_score(self, score: Callable[[ExamplesT], float]) -> float:
        """Mean of `score` (higher is better) over the splits that rank candidates."""
        return sum(score(examples) for examples in self.scored_on) / len(self.scored_on)

    def map(self, make: Callable[[ExamplesT], OtherT]) -> "SelectionView[OtherT]":
        """The same view of what `make` makes of each split, once."""
        validation = make(self.validation)
        return SelectionView(
            train=make(self.train),
            validation=validation,
            scored_on=tuple(validation if split is self.validation else make(split) for split in self.scored_on),
            selected_on=self.selected_on,
        )


class LabelledSplits(Generic[ExamplesT]):
    """The labelled splits of a corpus, each reachable only for what its labels may be used for."""

    def __init__(self, splits: Mapping[Split, ExamplesT]) -> None:
        self.__splits = dict(splits)

    def for_selection(self, protocol: SelectionProtocol = "validation") -> SelectionView[ExamplesT]:
        """The view for training, tuning and choosing.

        Raises:
            SelectionError: a split that the protocol needs is not in the corpus.
        """
        train, validation = self.__get(Split.TRAIN), self.__get(Split.VALIDATION)
        scored_on = (validation,) if protocol == "validation" else (validation, self.__get(Split.TEST))
        return SelectionView(train=train, validation=validation, scored_on=scored_on, selected_on=protocol)

    def for_report(self, split: Split, *, artifact_id: str) -> ExamplesT:
        """One split, to report how an artifact that is already chosen does on it.

        Args:
            split: any labelled split.
            artifact_id: the saved artifact; asking for it here keeps a report from running before the choice is made.

        Raises:
            SelectionError: there is no artifact yet, or the corpus has no labels for the split.
        """
        if not artifact_id:
            raise SelectionError(f"The {split} split is for reporting on a saved artifact: choose and save one first.")
        return self.__get(split)

    def __get(self, split: Split) -> ExamplesT:
        if split not in self.__splits:
            raise SelectionError(f"The corpus has no labelled {split} split, which this needs.")
        return self.__splits[split]

    def __repr__(self) -> str:
        return f"LabelledSplits({', '.join(self.__splits)})"

import gc

import pytest

from twominds.errors import SelectionError
from twominds.records import Split
from twominds.training.selection import LabelledSplits, SelectionProtocol


class Labels:
    def __init__(self, score: float) -> None:
        self.score = score


def corpus() -> LabelledSplits[Labels]:
    return LabelledSplits({Split.TRAIN: Labels(1.0), Split.VALIDATION: Labels(0.6), Split.TEST: Labels(0.8)})


def reachable(thing: object) -> set[float]:
    """Scores of all Labels that any chain of references leads to."""
    found: set[float] = set()
    seen: set[int] = set()
    frontier = [thing]
    while frontier:
        current = frontier.pop()
        if id(current) in seen or isinstance(current, type):
            continue
        seen.add(id(current))
        if isinstance(current, Labels):
            found.add(current.score)
        frontier.extend(gc.get_referents(current))
    return found


def test_selecting_code_cannot_reach_the_test_split() -> None:
    view = corpus().for_selection()
    assert reachable(view) == {1.0, 0.6}
    assert view.selected_on == "validation"
    assert view.selection_score(lambda labels: labels.score) == 0.6


def test_the_papers_protocol_is_branded() -> None:
    view = corpus().for_selection("validation+test")
    assert view.selected_on == "validation+test"
    assert view.selection_score(lambda labels: labels.score) == pytest.approx(0.7)
    assert view.validation.score == 0.6


def test_a_report_needs_an_artifact_that_is_already_chosen() -> None:
    assert corpus().for_report(Split.TEST, artifact_id="abc").score == 0.8
    with pytest.raises(SelectionError, match="choose and save"):
        corpus().for_report(Split.TEST, artifact_id="")


@pytest.mark.parametrize("protocol", ["validation", "validation+test"])
def test_a_split_that_is_not_there_is_named(protocol: SelectionProtocol) -> None:
    splits = LabelledSplits({Split.TRAIN: Labels(1.0)})
    with pytest.raises(SelectionError, match="val"):
        splits.for_selection(protocol)


def test_splits_are_no_attribute_and_not_shown() -> None:
    assert not [name for name in vars(corpus()) if not name.startswith("_LabelledSplits__")]
    assert "0.8" not in repr(corpus())

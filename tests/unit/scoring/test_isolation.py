"""One bad clip costs only itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from twominds.errors import MediaError
from twominds.records import Failure
from twominds.scoring.isolation import isolate


@dataclass(frozen=True)
class Item:
    clip_id: str


def names(items: Sequence[Item]) -> list[str]:
    if any(item.clip_id == "bad" for item in items):
        raise MediaError("bad.mp4 is no video.")
    if any(item.clip_id == "worse" for item in items):
        raise ZeroDivisionError("division by zero")
    return [item.clip_id.upper() for item in items]


def test_a_good_batch_is_one_call() -> None:
    calls: list[int] = []

    def count(items: Sequence[Item]) -> list[int]:
        calls.append(len(items))
        return [1] * len(items)

    assert isolate(count, [Item("a"), Item("b")], stage="x") == [1, 1]
    assert calls == [2]


def test_culprits_become_failures_and_the_others_keep_their_results_in_order() -> None:
    items = [Item("a"), Item("bad"), Item("b"), Item("worse")]
    assert isolate(names, items, stage="features.scene") == [
        "A",
        Failure(clip_id="bad", stage="features.scene", reason="bad.mp4 is no video."),
        "B",
        Failure(clip_id="worse", stage="features.scene", reason="ZeroDivisionError: division by zero"),
    ]


def test_nothing_in_nothing_out() -> None:
    assert isolate(names, [], stage="x") == []


def test_an_interrupt_is_not_a_clip_s_fault() -> None:
    def interrupted(_: Sequence[Item]) -> list[str]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        isolate(interrupted, [Item("a")], stage="x")

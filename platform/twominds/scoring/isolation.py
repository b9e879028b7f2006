"""One bad clip never costs another clip its result."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from twominds.errors import TwomindsError
from twominds.records import Failure


class Identified(Protocol):
    """Anything that belongs to a clip."""

    @property
    def clip_id(self) -> str:
        """The clip's id."""
        ...


ItemT = TypeVar("ItemT", bound=Identified)
ResultT = TypeVar("ResultT")


def sentence(error: Exception) -> str:
    """The reason that a user reads: our own errors are sentences already, others are named by their type."""
    return str(error) if isinstance(error, TwomindsError) else f"{type(error).__name__}: {error}"


def isolate(
    work: Callable[[Sequence[ItemT]], list[ResultT]], items: Sequence[ItemT], *, stage: str
) -> list[ResultT | Failure]:
    """`work(items)`, in order; if that raises, each item is tried alone and the culprits become failures.

    Args:
        work: Turns a batch into one result per item.
        items: The batch, each item knowing its clip.
        stage: Name of the stage for the failures.
    """
    if not items:
        return []
    try:
        return list(work(items))
    # Whatever a model or codec raises on one clip's data must not end a job that runs for days over others.
    except Exception as error:
        if len(items) == 1:
            return [Failure(clip_id=items[0].clip_id, stage=stage, reason=sentence(error))]
    return [result for item in items for result in isolate(work, [item], stage=stage)]

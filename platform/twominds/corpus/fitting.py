"""Whether what a corpus has labels for is what they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

from twominds.corpus.problems import listed
from twominds.errors import CorpusError
from twominds.tasks import AH_VIDEO, Classes, Task


@dataclass(frozen=True, kw_only=True)
class LabelRequest:
    """For which task a corpus's labels are wanted."""

    task: Task | None = AH_VIDEO
    """None: nobody wants any."""
    required: bool = True
    """Whether a corpus that has labels for other tasks is refused; else a note says so, as for videos to be scored."""

    def fits(self, has: Sequence[Task], corpus: str, notes: list[str]) -> bool:
        """Whether a corpus has the labels; where they are wanted and are for other tasks, it is refused, or noted.

        Raises:
            CorpusError: the labels are for other tasks; names these.
        """
        if self.task is None:
            return False
        if any(self.task.output == one.output and self.task.unit == one.unit for one in has):
            return True
        self.misfit(f"{corpus} has labels for {listed(f'`{one.name}`' for one in has)}", notes)
        return False

    def misfit(self, what: str, notes: list[str], remedy: str = "") -> None:
        """Says that a corpus's labels are others than those that are wanted; `what` is the sentence's first half.

        Raises:
            CorpusError: they are required.
        """
        if self.task is None:
            return
        sentence = f"{what}; task `{self.task.name}` has {_wanted(self.task)}."
        if self.required:
            raise CorpusError(" ".join([sentence, remedy] if remedy else [sentence]))
        notes.append(f"{sentence} They are left out.")


def _wanted(task: Task) -> str:
    """Such as `one of 8 classes (Neutral, Anger, ...) for each frame`."""
    names = ", ".join(task.names)
    what = f"one of {len(task.names)} classes" if isinstance(task.output, Classes) else f"{len(task.names)} intensities"
    return f"{what} ({names}) for each {'frame' if task.per_frame else 'clip'}"


NO_LABELS = LabelRequest(task=None)

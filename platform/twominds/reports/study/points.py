"""What a report scores by: the points of which something is known, clip after clip, and who owns each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twominds.records import BoolArray, Clip, Times
from twominds.tasks import Classes, Task
from twominds.training.examples import Targets
from twominds.training.metrics import IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledPoints:
    """The N known points of the labelled clips of one split. A task per clip has one for each clip."""

    clips: tuple[Clip, ...]
    truth: npt.NDArray[Any]
    """int64 [N] classes, or float64 [N, K] intensities."""
    owners: IntArray
    """[N]: whose point it is, by the clip's place; it never falls."""
    places: IntArray
    """[N]: which of the clip's points it is."""
    times_s: Times
    """[N]: when it is; NaN of a whole clip, and of frames of which nobody knows when they are shown."""

    @classmethod
    def of(cls, clips: Sequence[Clip], task: Task, points_s: Sequence[Times | None] | None = None) -> "LabelledPoints":
        """What the labels of some clips say.

        Args:
            clips: Each with labels.
            task: What they are of.
            points_s: When each clip's task asks; None: once for the clip, or nobody knows when (see `Targets.of`).
        """
        asked = [None] * len(clips) if points_s is None else list(points_s)
        labels = [clip.labels for clip in clips if clip.labels is not None]
        targets = Targets.of(labels, asked, task.output)
        owners, places = targets.owners.numpy(), targets.points.numpy()
        when = [said.times_s if at is None else at for said, at in zip(labels, asked, strict=True)]
        times_s = np.full(len(owners), np.nan)
        for owner, rows in _runs(owners, len(clips)):
            if (own := when[owner]) is not None:
                times_s[rows] = own[places[rows]]
        truth = targets.values.numpy()
        of_classes = isinstance(task.output, Classes)
        return cls(
            clips=tuple(clips),
            truth=truth if of_classes else truth.astype(np.float64),
            owners=owners,
            places=places,
            times_s=times_s,
        )

    def __len__(self) -> int:
        """N, the number of points."""
        return len(self.owners)

    @property
    def clip_of_each(self) -> list[Clip]:
        """The clip that owns each point [N]."""
        owners: list[int] = self.owners.tolist()
        return [self.clips[owner] for owner in owners]

    @property
    def people(self) -> list[str]:
        """Who is in each point [N]; a clip of nobody known counts as a person of its own."""
        names = [clip.participant_id or f"nobody known, clip {i}" for i, clip in enumerate(self.clips)]
        owners: list[int] = self.owners.tolist()
        return [names[owner] for owner in owners]

    def of_clips(self) -> Iterator[tuple[int, slice]]:
        """Each clip's place, and where its points are."""
        return _runs(self.owners, len(self.clips))

    def where(self, chosen: Callable[[Clip], bool]) -> BoolArray:
        """Which points [N] are of clips that are chosen."""
        return np.array([chosen(clip) for clip in self.clips], np.bool_)[self.owners]

    def count(self, chosen: BoolArray) -> int:
        """How many clips own the chosen points [N]."""
        return len(np.unique(self.owners[chosen]))

    def prior(self, task: Task) -> tuple[float, ...]:
        """What is said without a look at any clip: the classes' shares [C], or the mean intensities [K]."""
        if isinstance(task.output, Classes):
            counts = np.bincount(self.truth, minlength=task.num_outputs)
            return tuple((counts / counts.sum()).tolist())
        return tuple(self.truth.mean(axis=0).tolist())


def constant(prior: Sequence[float], task: Task) -> npt.NDArray[Any]:
    """The answer to a point that has no score: the most frequent class [] (of equals the first), or the means [K]."""
    shares = np.asarray(prior, np.float64)
    return np.asarray(shares.argmax(), np.int64) if isinstance(task.output, Classes) else shares


def _runs(owners: IntArray, clips: int) -> Iterator[tuple[int, slice]]:
    borders = np.searchsorted(owners, np.arange(clips + 1)).tolist()
    return ((owner, slice(borders[owner], borders[owner + 1])) for owner in range(clips))

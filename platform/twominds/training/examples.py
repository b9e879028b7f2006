"""What the training loop draws its batches from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from twominds.corpus.labels import labels_at
from twominds.encoders.encoder import Encoder
from twominds.encoders.points import PointEncoder
from twominds.errors import TrainingError
from twominds.fusion.batch import FusionInputs
from twominds.records import Features, Labels, Times
from twominds.tasks import Classes, Intensities


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What is known of the points of some clips, a row for each known point, clip after clip."""

    values: Tensor
    """int64 [N] classes, or float32 [N, K] intensities."""
    owners: Tensor
    """int64 [N]: whose point it is, by the clip's place."""
    points: Tensor
    """int64 [N]: which of the clip's points it is."""

    def __len__(self) -> int:
        """N, the number of points."""
        return len(self.values)

    @classmethod
    def of_clips(cls, values: Tensor) -> "Targets":
        """The targets of clips that have one point each, and are all labelled."""
        owners = torch.arange(len(values))
        return cls(values=values, owners=owners, points=torch.zeros_like(owners))

    @classmethod
    def of(cls, labels: Sequence[Labels], points_s: Sequence[Times | None], output: Classes | Intensities) -> "Targets":
        """What labels say of clips' points.

        Args:
            labels: What is known of each clip.
            points_s: When each clip's task asks; None: once for the clip, or nobody knows when, for it could not be
                processed. Then the labels' own points count, of which nothing can be answered.
            output: What the labels say: classes or intensities.
        """
        values: list[npt.NDArray[np.float32]] = []
        owners: list[int] = []
        points: list[npt.NDArray[np.int64]] = []
        for owner, (said, times_s) in enumerate(zip(labels, points_s, strict=True)):
            there = said if times_s is None else labels_at(said, times_s, half_step_s(said, times_s))
            known = np.flatnonzero(there.known)
            values.append(there.values[known])
            owners.extend([owner] * len(known))
            points.append(known.astype(np.int64))
        stacked = np.concatenate(values) if values else np.zeros((0, output.num_values), np.float32)
        truth = torch.from_numpy(stacked)
        return cls(
            values=truth[:, 0].long() if isinstance(output, Classes) else truth,
            owners=torch.tensor(owners, dtype=torch.int64),
            points=torch.from_numpy(np.concatenate(points)) if points else torch.zeros(0, dtype=torch.int64),
        )

    def of_whole_clips(self) -> "Targets":
        """One row for each clip of which a point is known: class 1 where any of its known points is, else 0.

        Only of two classes: with more of them, a clip's class does not follow from its points'.
        """
        owners, whose = cast("tuple[Tensor, Tensor]", self.owners.unique(return_inverse=True))
        values = torch.zeros_like(owners).scatter_reduce(0, whose, self.values, "amax")
        return Targets(values=values, owners=owners, points=torch.zeros_like(owners))

    def select(self, chosen: Tensor) -> "Targets":
        """The rows where `chosen` (bool [N]) is True, or at `chosen` (int64 [B]), of the same clips."""
        return Targets(values=self.values[chosen], owners=self.owners[chosen], points=self.points[chosen])


def half_step_s(labels: Labels, points_s: Times) -> float:
    """How far a label may be from the point that it stands for: half of what is between two labels, or two points."""
    times_s = points_s if labels.times_s is None or len(labels) < 2 else labels.times_s
    return float(np.median(np.diff(times_s))) / 2 + 1e-6 if len(times_s) > 1 else 0.5


POINTS_IN_MEMORY_BYTES = 2 << 30
"""Input of a split's points that is kept whole in memory; more is gathered batch by batch."""


class Examples(Protocol):
    """Labelled points of one split: N that can be answered, and L of which nothing is there."""

    @property
    def labels(self) -> Tensor:
        """int64 [N] classes or float32 [N, K] intensities, on the device of the batches."""
        ...

    @property
    def left_out(self) -> Tensor:
        """[L] or [L, K], on the CPU: labels of points that have nothing to learn from, but count in every figure."""
        ...

    @property
    def in_memory(self) -> bool:
        """Whether all points lie on the device already: then they are evaluated in one batch."""
        ...

    def __len__(self) -> int:
        """N, the number of points."""
        ...

    def batch(self, indices: Tensor) -> Any:
        """Model input of the points at `indices` (int64 [B], on the CPU)."""
        ...


@runtime_checkable
class PartedExamples(Protocol):
    """Examples whose model's loss has terms over some of the points alone, such as those that have a view."""

    def part(self, own: Tensor, whole: Tensor, class_weights: Tensor | None) -> Any:
        """Model input of some points that share one step with others.

        Args:
            own: int64 [b]: which points.
            whole: int64 [B]: all the points of the step, over which the terms are means.
            class_weights: [C] of the labels in those means; None: all alike.
        """
        ...


class FusionExamples:
    """Fusion inputs held in memory: a few numbers per clip, so no loader stands between them and the model.

    Clips without any present modality can't be learned from: they are in `left_out`.
    """

    in_memory = True

    def __init__(self, inputs: FusionInputs, labels: Tensor, device: str | torch.device = "cpu") -> None:
        if len(inputs) != len(labels):
            raise ValueError(f"{len(inputs)} clips but {len(labels)} labels")
        present = inputs.any_present()
        self.left_out = labels[~present].cpu()
        if len(self.left_out) == len(inputs):
            raise TrainingError("No clip has any of the fusion's modalities: there is nothing to train on.")
        kept = inputs.select(present) if len(self.left_out) else inputs
        self.inputs = kept.to(device)
        self.labels = labels[present].to(device)

    def __len__(self) -> int:
        """Number of points that can be answered."""
        return len(self.labels)

    def batch(self, indices: Tensor) -> FusionInputs:
        """The inputs at `indices`."""
        return self.inputs.select(indices.to(self.labels.device))


class FeatureExamples:
    """Features of one view for its encoder, collated batch by batch (scene frames stay uint8 until then).

    Points of clips without the modality are in `left_out`.
    """

    in_memory = False

    def __init__(
        self, encoder: Encoder, features: Sequence[Features], targets: Targets, device: str | torch.device = "cpu"
    ) -> None:
        if len(targets.owners) and int(targets.owners.max()) >= len(features):
            raise ValueError(f"{len(features)} clips but targets of {int(targets.owners.max()) + 1}")
        there = torch.tensor([item.presence.present for item in features], dtype=torch.bool)
        present = there[targets.owners]
        self.left_out = targets.values[~present].cpu()
        if len(self.left_out) == len(targets):
            raise TrainingError(f"No clip has the modality {encoder.modality}: there is nothing to train on.")
        self._encoder = encoder
        self._device = torch.device(device)
        self._features, self._targets = features, targets.select(present)
        self.labels = self._targets.values.to(device)
        self._collated = self._all_points()

    def _all_points(self) -> dict[str, Tensor] | None:
        """Of an encoder of points its whole input, where it is small: no epoch has to gather it again."""
        if not isinstance(self._encoder, PointEncoder):
            return None
        one = collate_targets(self._encoder, self._features, self._targets.select(torch.zeros(1).long()), "cpu")
        if len(self) * sum(rows.nbytes for rows in one.values()) > POINTS_IN_MEMORY_BYTES:
            return None
        return collate_targets(self._encoder, self._features, self._targets, "cpu")

    def __len__(self) -> int:
        """Number of points that can be answered."""
        return len(self._targets)

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        """The encoder's input for the points at `indices`."""
        if self._collated is not None:
            return {name: rows[indices].to(self._device) for name, rows in self._collated.items()}
        return collate_targets(self._encoder, self._features, self._targets.select(indices), self._device)


def collate_targets(
    encoder: Encoder, features: Sequence[Features], targets: Targets, device: str | torch.device
) -> dict[str, Tensor]:
    """The encoder's input for some points, in their order.

    Args:
        encoder: An encoder of whole clips, or of points.
        features: Of the clips that are the points' owners; those that own one are present.
        targets: The points.
        device: Where to compute.
    """
    if not isinstance(encoder, PointEncoder):
        chosen = cast("list[int]", targets.owners.tolist())
        return encoder.collate([features[i] for i in chosen], device)
    # Clip by clip, which is what collating takes, and back into the order that was asked for.
    order = targets.owners.argsort(stable=True)
    whose, counts = cast("tuple[Tensor, Tensor]", targets.owners[order].unique_consecutive(return_counts=True))
    points = cast("tuple[Tensor, ...]", targets.points[order].split(cast("list[int]", counts.tolist())))
    clips = [features[i] for i in cast("list[int]", whose.tolist())]
    inputs = encoder.collate_points(clips, [of_clip.numpy() for of_clip in points], device)
    back = order.argsort().to(device)
    return {name: rows[back] for name, rows in inputs.items()}

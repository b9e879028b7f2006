"""What the training loop draws its batches from."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor

from twominds.errors import TrainingError
from twominds.fusion.batch import FusionInputs
from twominds.records import Features, Modality


class Examples(Protocol):
    """Labelled clips of one split: N that can be answered, and L of which nothing is there."""

    @property
    def labels(self) -> Tensor:
        """int64 [N], on the device of the batches."""
        ...

    @property
    def left_out(self) -> Tensor:
        """int64 [L], on the CPU: labels of the clips that have nothing to learn from, but count in every figure."""
        ...

    @property
    def in_memory(self) -> bool:
        """Whether all clips lie on the device already: then they are evaluated in one batch."""
        ...

    def __len__(self) -> int:
        """N."""
        ...

    def batch(self, indices: Tensor) -> Any:
        """Model input of the clips at `indices` (int64 [B], on the CPU)."""
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
        self.left_out = labels[~present].long().cpu()
        if len(self.left_out) == len(inputs):
            raise TrainingError("No clip has any of the fusion's modalities: there is nothing to train on.")
        kept = inputs.select(present) if len(self.left_out) else inputs
        self.inputs = kept.to(device)
        self.labels = labels[present].long().to(device)

    def __len__(self) -> int:
        """Number of clips that can be answered."""
        return len(self.labels)

    def batch(self, indices: Tensor) -> FusionInputs:
        """The inputs at `indices`."""
        return self.inputs.select(indices.to(self.labels.device))


class Collator(Protocol):
    """What `FeatureExamples` needs of a unimodal encoder."""

    modality: ClassVar[Modality]

    def collate(self, features: Sequence[Features], device: torch.device) -> dict[str, Tensor]:
        """Stack features, all present, into the encoder's input."""
        ...


class FeatureExamples:
    """Features of one modality for its encoder, collated batch by batch (scene frames stay uint8 until then).

    Clips without the modality are in `left_out`.
    """

    in_memory = False

    def __init__(
        self, encoder: Collator, features: Sequence[Features], labels: Tensor, device: str | torch.device = "cpu"
    ) -> None:
        if len(features) != len(labels):
            raise ValueError(f"{len(features)} clips but {len(labels)} labels")
        present = torch.tensor([item.presence.present for item in features], dtype=torch.bool)
        self.left_out = labels[~present].long().cpu()
        if len(self.left_out) == len(features):
            raise TrainingError(f"No clip has the modality {encoder.modality}: there is nothing to train on.")
        self._encoder = encoder
        self._device = torch.device(device)
        self._features = [item for item in features if item.presence.present]
        self.labels = labels[present].long().to(device)

    def __len__(self) -> int:
        """Number of clips that can be answered."""
        return len(self._features)

    def batch(self, indices: Tensor) -> dict[str, Tensor]:
        """The encoder's input for the clips at `indices`."""
        chosen = cast(list[int], indices.tolist())
        return self._encoder.collate([self._features[i] for i in chosen], self._device)

"""What the four unimodal encoders share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from twominds.backbones import BackboneStore
from twominds.errors import TrainingError
from twominds.records import Features, Modality, View, modality_of
from twominds.tasks import Classes, Intensities

Architecture = Mapping[str, Any]
"""JSON values: what a config leaves open and an empty model needs (backbone config, input dimension)."""


def activated(logits: Tensor, output: Classes | Intensities) -> Tensor:
    """What logits [..., K] say of a point: class probabilities, or intensities between the least and the most."""
    if isinstance(output, Classes):
        return logits.softmax(dim=-1)
    return output.low + (output.high - output.low) * logits.sigmoid()


@dataclass(frozen=True)
class EncoderOutput:
    """What an encoder says of a batch of clips."""

    logits: Tensor
    """[B, num_outputs]."""
    embedding: Tensor
    """[B, embedding_dim]: the token that the fusion takes."""


class Encoder(nn.Module, ABC):
    """One modality's features -> logits and one embedding per clip.

    An absent modality never gets here: `collate` refuses it and `embed` (see `embedding.py`) passes it through.
    """

    modality: ClassVar[Modality]
    per_point: ClassVar[bool] = False
    """Whether it answers at each point (`points.PointEncoder`) rather than once for the whole clip."""
    whole_clip: bool = False
    """Whether it answers once for the whole clip where the task asks per point too; `embed` repeats its answer."""
    _view: View | None = None
    output: Classes | Intensities | None = None
    """What the outputs mean; None: one of several classes. Set by whoever builds or loads it for a task."""
    answers: bool = True
    """Whether its logits were trained. A joint model may train an encoder for its embedding alone."""
    no_decay: ClassVar[frozenset[str]] = frozenset()
    """Last parts of the names of parameters that weight decay must leave alone."""
    embedding_dim: int
    architecture: dict[str, Any]
    """With the config and the number of classes, enough for `from_architecture`; plain JSON values."""
    backbone_lr_scale: float = 1.0
    """Factor on the learning rate of a fine-tuned backbone."""
    window_rows: int = 0
    """How many rows of its features, one after another, it sees; 0: all. See `stretch`."""

    @property
    def view(self) -> View:
        """Whose embeddings it makes: its modality's main view, unless whoever built it said otherwise."""
        return self._view or self.modality

    @view.setter
    def view(self, view: View) -> None:
        self._view = view

    def keep(self, limit_bytes: int) -> None:
        """Keeps what frozen layers say of clips that come again, up to so many bytes; 0 forgets it.

        An encoder without such layers keeps nothing.
        """
        del limit_bytes

    def stretch(self, item: Features, row: int, time_s: float) -> Features:
        """What it sees of a clip's features where those who see `window_rows` of them see those from `row` on.

        A joint training shows it another stretch every time (`training.joint`), and the first one where it validates.

        Args:
            item: The clip's features.
            row: Index of the first row that is seen.
            time_s: When that is, in seconds from the clip's beginning.
        """
        del time_s
        if item.values is None or not self.window_rows:
            return item
        return replace(item, values=item.values[row : row + self.window_rows])

    def seen(self, item: Features) -> list[Features]:
        """What of a present clip's features is looked at where it is scored: all at once, or several stretches."""
        return [item]

    @classmethod
    @abstractmethod
    def pretrained(cls, config: Any, *, num_outputs: int, store: BackboneStore, example: Features) -> Self:
        """A new encoder to be trained, on the bundle's weights where it has a backbone.

        Args:
            config: Its settings, of the encoder's own config class.
            num_outputs: Number of logits.
            store: Where the backbones are.
            example: Any present clip's features: their last dimension is the input's.

        Raises:
            BackboneError: the bundle lacks the backbone, or its files are something else.
        """

    @classmethod
    @abstractmethod
    def from_architecture(cls, config: Any, *, num_outputs: int, architecture: Architecture) -> Self:
        """An encoder whose weights are arbitrary, to be filled by `load_state_dict`; reads no file."""

    @abstractmethod
    def forward(self, inputs: dict[str, Tensor]) -> EncoderOutput:
        """Encode what `collate` made."""

    @abstractmethod
    def stack(self, values: Sequence[npt.NDArray[Any]]) -> dict[str, Tensor]:
        """`Features.values` of B clips as one batch on the CPU, padded and masked where lengths differ."""

    def collate(self, features: Sequence[Features], device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """Features of B clips as the input of `forward`.

        Raises:
            ValueError: a clip's features are absent, empty, or another modality's.
        """
        values: list[npt.NDArray[Any]] = []
        for item in features:
            values.append(self.check(item))
        return {name: tensor.to(device, non_blocking=True) for name, tensor in self.stack(values).items()}

    def check(self, item: Features) -> npt.NDArray[Any]:
        """The values of one clip's features.

        Raises:
            ValueError: they are absent, empty, or another modality's.
        """
        own = modality_of(self.view)
        if item.modality != own:
            raise ValueError(f"the {own} encoder was given {item.modality} features")
        if not item.presence.present or item.values is None or item.values.size == 0:
            raise ValueError(f"{own} features are absent: {item.presence.reason or 'there are no values'}")
        return item.values

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Trainable parameters as a torch optimizer's groups: a backbone, the rest, and what must not decay."""
        backbone: list[nn.Parameter] = []
        head: list[nn.Parameter] = []
        undecayed: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                if name.rpartition(".")[2] in self.no_decay:
                    undecayed.append(parameter)
                else:
                    (backbone if name.startswith("backbone.") else head).append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": backbone, "lr": lr * self.backbone_lr_scale},
            {"params": head, "lr": lr},
            {"params": undecayed, "lr": lr, "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]


class LearnsAtOnce(Encoder):
    """An encoder with a classifier that is fitted to all training clips at once: there is nothing for a gradient.

    `learn` takes the place of a training loop, and `training.classical.fit_classical` that of `fit`.
    """

    num_outputs: int
    """Number of logits, which is that of classes."""

    def learn(
        self, train: Sequence[Features], labels: Tensor, *, seed: int, device: torch.device | str = "cpu"
    ) -> None:
        """Fits it to the training split; clips without the view are left out.

        Nothing is selected, so no other split has a part in it.

        Args:
            train: Features of the training split.
            labels: int64 [N] classes of the same clips.
            seed: Of the classifier's random choices.
            device: Where a frozen backbone computes, and where the encoder is afterwards; classifiers are fitted on
                the CPU.

        Raises:
            TrainingError: a class has no clip with the view, or there is nothing else to learn from.
        """
        if len(train) != len(labels):
            raise ValueError(f"{len(train)} clips but {len(labels)} labels")
        there = torch.tensor([item.presence.present for item in train], dtype=torch.bool)
        truth: npt.NDArray[np.int64] = labels.cpu()[there].numpy()
        if len(np.unique(truth)) < self.num_outputs:
            raise TrainingError(
                f"The training clips with {self.view} are of {len(np.unique(truth))} of the {self.num_outputs} "
                "classes: there is nothing to tell apart. Give a training split with clips of each."
            )
        self.to(device).eval()
        self.learn_present([item for item in train if item.presence.present], truth, seed=seed, device=device)
        self.to(device)

    @abstractmethod
    def learn_present(
        self, clips: Sequence[Features], labels: npt.NDArray[np.int64], *, seed: int, device: torch.device | str
    ) -> None:
        """What `learn` does with the clips that have the view, N of them, of every class at least one.

        Args:
            clips: Features of the N clips.
            labels: int64 [N], the classes of the same clips.
            seed: Seed of the classifier's random choices.
            device: Where the encoder is.
        """

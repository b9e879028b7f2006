"""Several encoders and a fusion as one model, which `fit` trains as any other, and which falls apart into them again.

After training the encoders and the fusion are models of their own: what the fusion says of embeddings that the encoders
made one by one is what the joint model said.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from twominds.encoders.encoder import Encoder
from twominds.errors import TrainingError
from twominds.fusion.batch import FusionInputs
from twominds.fusion.model import Fusion, FusionOutput, module_name
from twominds.records import Features, View
from twominds.training.examples import Targets, collate_targets
from twominds.training.losses import Criterion, FusionLoss
from twominds.training.optim import trainable_groups
from twominds.training.workers import share_of


@dataclass(frozen=True, kw_only=True)
class JointBatch:
    """B points as the encoders take them."""

    inputs: Mapping[View, dict[str, Tensor]]
    """Of each view, collated from the points that have it alone; one that no point has is not here."""
    mask: Tensor
    """bool [B, M]: True where the view's modality is present, in the order of the model's views."""
    head_shares: Mapping[View, float] = field(default_factory=dict[View, float])
    """Of points that share a step with others: which part of the step's points with a view these are, in units of the
    part that they are of all the step's points; 1 of a view that is not here."""


@dataclass(frozen=True, kw_only=True)
class JointOutput:
    """The answer to B points, and what it is made of."""

    logits: Tensor
    """[B, K]: what the fusion and some views' heads say together; without such heads, what the fusion says."""
    fusion: FusionOutput
    """The fusion's answer."""
    heads: Mapping[View, Tensor]
    """[B_v, K] logits of each view's encoder, at the points that have the view."""
    present: Mapping[View, Tensor]
    """bool [B]: which points those are."""
    head_shares: Mapping[View, float] = field(default_factory=dict[View, float])
    """Those of the batch: see `JointBatch`."""


class JointModel(nn.Module):
    """Features of several views -> each encoder's embedding -> the fusion; see `Encoder` and `Fusion`.

    An absent view's encoder never runs: its token is zeros under a False mask, as where embeddings are fused.
    """

    def __init__(
        self,
        encoders: Mapping[View, Encoder],
        fusion: Fusion,
        frozen: Collection[View] = (),
        blend: Mapping[View, float] | None = None,
    ) -> None:
        """Takes the parts.

        Args:
            encoders: In the order of the fusion's tokens.
            fusion: The fusion of their embeddings.
            frozen: Encoders that only answer, without dropout.
            blend: What the heads of some views count in the answer, where they are present; the fusion counts the rest.
        """
        super().__init__()
        self.blend = dict(blend or {})
        if list(encoders) != list(fusion.dims):
            raise ValueError(f"encoders of {list(encoders)}, but a fusion of {list(fusion.dims)}")
        self.views, self.frozen = tuple(encoders), frozenset(frozen)
        self.encoders = nn.ModuleDict({module_name(view): encoder for view, encoder in encoders.items()})
        self.fusion = fusion
        for view in self.frozen:
            self.encoder(view).requires_grad_(False)

    def encoder(self, view: View) -> Encoder:
        """The encoder of one view."""
        return cast("Encoder", self.encoders[module_name(view)])

    def train(self, mode: bool = True) -> Self:
        """Training mode of all but the frozen encoders."""
        super().train(mode)
        for view in self.frozen:
            self.encoder(view).eval()
        return self

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The fusion's group at the base rate, then each encoder's own groups."""
        return [
            *trainable_groups(self.fusion, lr),
            *(group for view in self.views for group in self.encoder(view).parameter_groups(lr)),
        ]

    def forward(self, batch: JointBatch) -> JointOutput:
        """Encode and fuse."""
        tokens: dict[View, Tensor] = {}
        heads: dict[View, Tensor] = {}
        for column, view in enumerate(self.views):
            encoder = self.encoder(view)
            tokens[view] = torch.zeros(len(batch.mask), encoder.embedding_dim, device=batch.mask.device)
            if view in batch.inputs:
                output = encoder(batch.inputs[view])
                tokens[view][batch.mask[:, column]] = output.embedding.float()
                heads[view] = output.logits
        fused: FusionOutput = self.fusion(FusionInputs(tokens=tokens, mask=batch.mask))
        present = {view: batch.mask[:, column] for column, view in enumerate(self.views)}
        return JointOutput(
            logits=self._blended(fused.logits, heads, present) if self.blend else fused.logits,
            fusion=fused,
            heads=heads,
            present=present,
            head_shares=batch.head_shares,
        )

    def _blended(self, fused: Tensor, heads: Mapping[View, Tensor], present: Mapping[View, Tensor]) -> Tensor:
        """Logarithms of the weighted mean of probabilities, as members of an ensemble are averaged."""
        rest, of_fusion = 1 - sum(self.blend.values()), fused.float().softmax(dim=1)
        total = rest * of_fusion
        counted = torch.full_like(total[:, :1], rest)
        for view, weight in self.blend.items():
            if view in heads:
                said = torch.zeros_like(total)
                said[present[view]] = heads[view].float().softmax(dim=1)
                total, counted = total + weight * said, counted + weight * present[view].unsqueeze(1)
        return torch.where(counted > 0, total / counted.clamp_min(1e-12), of_fusion).log()


@dataclass(frozen=True, kw_only=True)
class JointLoss:
    """The fusion's loss, and the task's criterion of the heads of some views, by their weights."""

    fusion: FusionLoss
    """The loss of the fusion's answer."""
    fusion_weight: float = 1.0
    """Weight of the fusion's loss."""
    heads: Mapping[View, float] = field(default_factory=dict[View, float])
    """Weight of each head that learns; it learns from the points that have its view."""

    def __call__(
        self,
        output: JointOutput,
        labels: Tensor,
        *,
        class_weights: Tensor | None,
        label_smoothing: float,
        criterion: Criterion,
    ) -> Tensor:
        """See `LossFunction`."""
        total = self.fusion_weight * self.fusion(
            output.fusion, labels, class_weights=class_weights, label_smoothing=label_smoothing, criterion=criterion
        )
        for view, weight in self.heads.items():
            if view in output.heads:
                logits, own = output.heads[view].float(), labels[output.present[view]]
                loss = criterion(logits, own, class_weights=class_weights, label_smoothing=label_smoothing)
                total = total + weight * output.head_shares.get(view, 1.0) * loss
        return total


class JointExamples:
    """Features of several views for a `JointModel`, collated batch by batch.

    Points of clips that have none of the views are in `left_out`; where a clip has some, the others are masked.
    Encoders that see a part of a clip (`Encoder.stretch`) all see the same part, the first one or, with `anywhere`, one
    that the order of the step's points chooses: each epoch deals it anew, to all workers alike.
    """

    in_memory = False

    def __init__(
        self,
        encoders: Mapping[View, Encoder],
        features: Mapping[View, Sequence[Features]],
        targets: Targets,
        device: str | torch.device = "cpu",
        *,
        anywhere: bool = False,
    ) -> None:
        """Takes what is known of some clips, and their features of each view that has an encoder, clip by clip."""
        for view in encoders:
            if len(targets.owners) and int(targets.owners.max()) >= len(features[view]):
                raise ValueError(f"{len(features[view])} clips but targets of {int(targets.owners.max()) + 1}")
        there = torch.tensor([[item.presence.present for item in features[view]] for view in encoders]).T
        present = there[targets.owners].any(dim=1)
        self.left_out = targets.values[~present].cpu()
        if len(self.left_out) == len(targets):
            raise TrainingError(f"No clip has any of {', '.join(encoders)}: there is nothing to train on.")
        self._encoders, self._features, self._device = dict(encoders), dict(features), torch.device(device)
        self._anywhere = anywhere
        self._shown = {view: [of.stretch(item, 0, 0.0) for item in features[view]] for view, of in encoders.items()}
        self._targets = targets.select(present)
        self._mask = there[self._targets.owners]
        self.labels = self._targets.values.to(device)

    def __len__(self) -> int:
        """Number of points that can be answered."""
        return len(self._targets)

    def batch(self, indices: Tensor) -> JointBatch:
        """The model's input for the points at `indices`."""
        return self.part(indices, indices, None)

    def part(self, own: Tensor, whole: Tensor, class_weights: Tensor | None) -> JointBatch:
        """See `PartedExamples`."""
        if self._anywhere:
            self._show_elsewhere(own, whole)
        mask, of_all = self._mask[own], self._share(own, whole, class_weights)
        inputs: dict[View, dict[str, Tensor]] = {}
        shares: dict[View, float] = {}
        for column, (view, encoder) in enumerate(self._encoders.items()):
            if mask[:, column].any():
                seen = own[mask[:, column]]
                inputs[view] = collate_targets(encoder, self._shown[view], self._targets.select(seen), self._device)
                of_view = self._share(seen, whole[self._mask[whole, column]], class_weights)
                shares[view] = of_view / of_all if of_all else 0.0
        return JointBatch(inputs=inputs, mask=mask.to(self._device), head_shares=shares)

    def _share(self, own: Tensor, whole: Tensor, class_weights: Tensor | None) -> float:
        there = self.labels.device
        return share_of(self.labels[own.to(there)], self.labels[whole.to(there)], class_weights)

    def _show_elsewhere(self, own: Tensor, whole: Tensor) -> None:
        """Shows some clips from a random row on: as many as one of their views has are left to be seen."""
        windowed = [view for view, encoder in self._encoders.items() if encoder.window_rows]
        order = cast("list[int]", whole.tolist())
        chances = dict(zip(order, np.random.default_rng(order).random(len(order)).tolist(), strict=True))
        for point in cast("list[int]", own.tolist()):
            clip, chance = int(self._targets.owners[point]), chances[point]
            rows = [
                len(values) - self._encoders[view].window_rows
                for view in windowed
                if (values := self._features[view][clip].values) is not None
            ]
            start = int(chance * (max(min(rows, default=0), 0) + 1))
            times = (self._features[view][clip].times_s for view in windowed)
            start_s = next((float(times_s[start]) for times_s in times if times_s is not None), 0.0) if start else 0.0
            for view, encoder in self._encoders.items():
                self._shown[view][clip] = encoder.stretch(self._features[view][clip], start, start_s)

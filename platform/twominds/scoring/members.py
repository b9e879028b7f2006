"""The members of an ensemble: models, what each looks at, and what each counts.

Five seeds of one fusion are five equal weights (LEYA, section 4.2); a late fusion of encoders, a blend of checkpoints
or a head of its own for the text are weights, too, fixed by the recipe or fitted on validation.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from twominds.errors import ConfigError
from twominds.fusion.batch import FusionInputs, InputKind
from twominds.fusion.catalog import Fusion, FusionConfig, build_fusion
from twominds.fusion.simple import ClassWeightedConfig
from twominds.media.reader import MediaConfig
from twominds.records import Modality, View
from twominds.scoring.decision import Decision

Weight = float | tuple[float, ...]
"""What a member counts; or one number for each output."""


_SEED = "seed-"


def seed_name(seed: int) -> str:
    """What the member is called that a seed made."""
    return f"{_SEED}{seed}"


def seeds_of(names: Iterable[str]) -> tuple[int, ...]:
    """The seeds that made members of these names, each once; other members, such as those of views, have none."""
    own = (name.rpartition(".")[2] for name in names)
    return tuple(dict.fromkeys(int(name.removeprefix(_SEED)) for name in own if name.startswith(_SEED)))


@dataclass(frozen=True, kw_only=True)
class Member:
    """One model of the ensemble, and what it counts."""

    name: str
    """Before the names of its tensors, such as `seed-42`."""
    fusion: FusionConfig | None = None
    """What it is; None: the ensemble's fusion."""
    views: tuple[View, ...] = ()
    """What it looks at, in the order of its tokens; empty: what the ensemble does."""
    inputs: InputKind | None = None
    """What of each embedding it takes; None: what the ensemble does."""
    weight: Weight = 1.0
    """Its share of the mean, of which all together make 1; or one for each output."""

    def __post_init__(self) -> None:
        """Raise ConfigError for a negative weight."""
        if np.min(self.weight) < 0:
            raise ConfigError(f"The weight of {self.name} must be 0 or more, got {self.weight}.")


def view_member(view: View, weight: Weight) -> Member:
    """What one view's encoder says, as a member."""
    return Member(name=view, fusion=ClassWeightedConfig(), views=(view,), inputs="logits", weight=weight)


def view_state(view: View, num_outputs: int) -> Mapping[str, Tensor]:
    """The weights of such a member: of a class-weighted sum over one view, which is that view's own logits."""
    return build_fusion(ClassWeightedConfig(), dims={view: num_outputs}, num_outputs=num_outputs).state_dict()


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """What the ensemble's card holds: how a clip is read and how its embeddings become a decision."""

    fusion: FusionConfig
    """The fusion model that each seed trained."""
    inputs: InputKind = "emb"
    """What of each view's embedding the fusion takes."""
    views: tuple[View, ...] = tuple(Modality)
    """All that its members look at, in the order of the tokens."""
    media: MediaConfig = field(default_factory=MediaConfig)
    """How the encoders' training media were read."""
    decision: Decision = field(default_factory=Decision)
    """Calibration, smoothing, threshold and the like."""
    members: tuple[Member, ...] = ()
    """Weighted models; empty: one for each of the card's seeds, all alike."""

    @property
    def takes_pooled(self) -> bool:
        """Whether a member takes `pooled` features, which nothing else needs."""
        return "pooled" in (self.inputs, *(member.inputs for member in self.members))

    def members_of(self, seeds: Sequence[int]) -> tuple[Member, ...]:
        """The members with what they share filled in: its own, or one for each seed."""
        members = self.members or tuple(Member(name=seed_name(seed)) for seed in seeds)
        return tuple(
            replace(
                member,
                fusion=member.fusion or self.fusion,
                views=member.views or self.views,
                inputs=member.inputs or self.inputs,
            )
            for member in members
        )


def token_dims(kind: InputKind, dims: Mapping[View, int], num_outputs: int) -> dict[View, int]:
    """Length of each view's token for models that take such inputs.

    Args:
        kind: What of an embedding the token is.
        dims: Of the ensemble's fusion; a member may take the logits of a view of which that takes the embedding.
        num_outputs: Numbers that an encoder gives for a point.
    """
    return {view: num_outputs if kind in ("logits", "prob") else size for view, size in dims.items()}


def member_models(
    states: Mapping[str, Mapping[str, Tensor]], members: Sequence[Member], dims: Mapping[View, int], num_outputs: int
) -> dict[str, Fusion]:
    """The trained model of each member (all with their fusion and views), ready to predict.

    Raises:
        RuntimeError: a state dict is not that of such a model.
    """
    models: dict[str, Fusion] = {}
    for member in members:
        if member.fusion is None:
            raise ValueError(f"the member {member.name} has no fusion")
        sizes = token_dims(member.inputs or "emb", dims, num_outputs)
        own = {view: sizes[view] for view in member.views}
        models[member.name] = build_fusion(member.fusion, dims=own, num_outputs=num_outputs).eval()
        models[member.name].load_state_dict(states[member.name])
    return models


@torch.inference_mode()
def ensemble_logits(models: Mapping[str, Fusion], inputs: FusionInputs) -> npt.NDArray[np.float64]:
    """Logits of models that take the same inputs: [models, points, outputs]."""
    return torch.stack([model(inputs).logits.double() for model in models.values()]).numpy()


def blended(
    by_member: npt.NDArray[np.float64], weights: Sequence[Weight], *, of_classes: bool
) -> npt.NDArray[np.float64]:
    """What S members together say [N, K] of N points, from what each says [S, N, K]; see `weighted_mean`.

    Where each class has weights of its own, the probabilities are made to add up to 1 again.
    """
    mean = weighted_mean(by_member, weights)
    if of_classes and any(isinstance(weight, tuple) for weight in weights):
        mean /= mean.sum(axis=1, keepdims=True)
    return mean


def weighted_mean(by_member: npt.NDArray[np.float64], weights: Sequence[Weight]) -> npt.NDArray[np.float64]:
    """Mean [N, K] of what S members say [S, N, K], by their weights; one that says nothing of a point (NaN) has none.

    NaN where nobody says anything.
    """
    if all(weight == weights[0] for weight in weights) and not np.isnan(by_member).any():
        return by_member.mean(axis=0)
    each = np.stack([np.broadcast_to(np.asarray(weight, np.float64), by_member.shape[2:]) for weight in weights])
    shares = np.where(np.isnan(by_member), 0.0, each[:, None])
    total = shares.sum(axis=0)
    said = (shares * np.nan_to_num(by_member)).sum(axis=0)
    return np.divide(said, total, out=np.full_like(said, np.nan), where=total > 0)

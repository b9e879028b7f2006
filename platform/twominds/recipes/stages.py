"""In which order the parts of a system are trained: views by themselves, then the fusion; or several in one model.

What the views say may also be blended: then nothing is trained after them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from twominds.errors import ConfigError
from twominds.records import View
from twominds.scoring.members import Weight
from twominds.training.fit import FitConfig
from twominds.training.losses import FusionLoss


@dataclass(frozen=True, kw_only=True)
class TrainViews:
    """Encoders are trained one after another, each by itself, as the recipe's `encoder_fits` say."""

    kind: Literal["views"] = "views"
    """Tells it from the other stages in JSON."""
    views: tuple[View, ...] = ()
    """Whose encoders; empty: those of all the fusion's views."""


@dataclass(frozen=True, kw_only=True)
class TrainFusion:
    """The fusion is searched and trained on the embeddings of encoders that no longer change."""

    kind: Literal["fusion"] = "fusion"
    """Tells it from the other stages in JSON."""


@dataclass(frozen=True, kw_only=True)
class BlendViews:
    """What the encoders of the fusion's views say is averaged by weights; nothing is trained (HSEmotion's blends)."""

    kind: Literal["blend"] = "blend"
    """Tells it from the other stages in JSON."""
    weights: Mapping[View, Weight] = field(default_factory=dict[View, Weight])
    """Of each view, one for all outputs or one for each; empty: all alike, or as the recipe's grids find them."""


@dataclass(frozen=True, kw_only=True)
class TrainJointly:
    """Encoders and the fusion are trained in one model, once, with the fusion's one seed."""

    kind: Literal["jointly"] = "jointly"
    """Tells it from the other stages in JSON."""
    views: tuple[View, ...] = ()
    """Whose encoders learn; empty: those of all the fusion's views. The others were trained before, and only answer."""
    fit: FitConfig
    """The training; the learning rate of a backbone is scaled by its encoder's `backbone_lr_scale`."""
    loss: FusionLoss
    """The loss of the fusion's answer."""
    fusion_weight: float = 1.0
    """Weight of that in the loss."""
    heads: Mapping[View, float] = field(default_factory=dict[View, float])
    """Weight in the loss of a view's own head, which answers from its embedding alone. A view without one has no
    answer of its own afterwards, only an embedding."""
    blend: Mapping[View, float] = field(default_factory=dict[View, float])
    """What the heads of some views count in the ensemble's answer; the fusion counts the rest (ConflictAwareAH's
    text-guided late fusion, section 3.5)."""
    start: Literal["pretrained", "trained"] = "pretrained"
    """What the encoders that learn begin as: on their published backbones, or as an earlier stage trained them."""

    def __post_init__(self) -> None:
        """Raise ConfigError for a weight that is none."""
        if wrong := [view for view, weight in self.heads.items() if weight <= 0]:
            raise ConfigError(f"The weight of a head in the loss must be above 0, unlike that of {', '.join(wrong)}.")
        if min(self.blend.values(), default=0.0) < 0 or sum(self.blend.values()) > 1:
            raise ConfigError(f"The weights of a blend are 0 or more, and together 1 at most, not {dict(self.blend)}.")
        if silent := [view for view in self.blend if view not in self.heads]:
            raise ConfigError(
                f"The blend takes the head of {', '.join(silent)}, which learns nothing: give it a weight."
            )


Stage = TrainViews | TrainFusion | BlendViews | TrainJointly


def check_stages(stages: Sequence[Stage], views: Sequence[View]) -> None:
    """Refuses an order of training in which something would be trained in vain, or not at all.

    The last stage, and no other, trains the fusion (or blends): what came after it would change the embeddings under
    it, and a fusion that came before would be thrown away. So there is one joint stage at most. A view is trained by
    itself once at most, and by the joint stage after that only if that starts from it.

    Args:
        stages: The stages of a recipe, in its order.
        views: What its fusion takes.

    Raises:
        ConfigError: says what is wrong.
    """
    before, last = stages[:-1], stages[-1] if stages else None
    if last is None or isinstance(last, TrainViews):
        raise ConfigError("The last stage must train the fusion (TrainFusion, TrainJointly) or blend (BlendViews).")
    named = [view for stage in stages if isinstance(stage, TrainViews | TrainJointly) for view in stage.views]
    if unknown := sorted({*named} - {*views}):
        raise ConfigError(f"A stage trains {', '.join(unknown)}, but the fusion takes {', '.join(views)}.")
    alone: list[View] = []
    for stage in before:
        if not isinstance(stage, TrainViews):
            raise ConfigError(f"Only the last stage may train the fusion; one of the kind {stage.kind} comes before.")
        alone += stage.views or views
    if twice := sorted({view for view in alone if alone.count(view) > 1}):
        raise ConfigError(f"Two stages train {', '.join(twice)} alone: the first would be in vain.")
    if isinstance(last, BlendViews) and (unknown := sorted({*last.weights} - {*views})):
        raise ConfigError(f"The blend weighs {', '.join(unknown)}, but the recipe has {', '.join(views)}.")
    learning = learning_views(last, views)
    if missing := sorted({*views} - {*alone} - {*learning}):
        raise ConfigError(f"No stage trains {', '.join(missing)}, which the fusion takes.")
    if isinstance(last, TrainJointly):
        _check_start(last, learning, alone)


def _check_start(stage: TrainJointly, learning: Sequence[View], alone: Sequence[View]) -> None:
    if stage.start == "trained" and (missing := sorted({*learning} - {*alone})):
        raise ConfigError(f"The joint stage starts from trained encoders, but none trains {', '.join(missing)} before.")
    if stage.start == "pretrained" and (vain := sorted({*learning} & {*alone})):
        raise ConfigError(
            f"{', '.join(vain)} would be trained alone in vain: the joint stage starts from pretrained encoders. "
            "Let it start from trained ones, or leave that stage out."
        )
    if silent := sorted({*stage.heads} - {*learning}):
        raise ConfigError(f"The joint stage weighs the heads of {', '.join(silent)}, which do not learn in it.")


def learning_views(stage: Stage, views: Sequence[View]) -> tuple[View, ...]:
    """Whose encoders a stage trains, of the fusion's views and in their order."""
    if isinstance(stage, TrainFusion | BlendViews):
        return ()
    return tuple(view for view in views if not stage.views or view in stage.views)

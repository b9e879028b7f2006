"""What is recognised: of a clip or of each of its frames, as one of several classes or as intensities."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Classes:
    """One of several names is right. A model has a logit for each; a label is the index of the name."""

    names: tuple[str, ...]
    """In the order of the logits; of two, the last is the positive one."""

    @property
    def num_outputs(self) -> int:
        """Logits of a model."""
        return len(self.names)

    @property
    def num_values(self) -> int:
        """Numbers that one label is made of."""
        return 1


@dataclass(frozen=True, kw_only=True)
class Intensities:
    """How much there is of each of several things, as numbers."""

    names: tuple[str, ...]
    """What each of the outputs is, in their order."""
    low: float = 0.0
    """The least that an annotator can say."""
    high: float = 1.0
    """The most that an annotator can say."""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"intensities go from low to high, not from {self.low} to {self.high}")

    @property
    def num_outputs(self) -> int:
        """Outputs of a model."""
        return len(self.names)

    @property
    def num_values(self) -> int:
        """Numbers that one label is made of."""
        return len(self.names)


SCORE_NAMES: Mapping[str, str] = {
    "macro_f1": "MF1",
    "weighted_f1": "weighted F1",
    "positive_f1": "F1 of the positive class",
    "accuracy": "accuracy",
    "pearson": "mean Pearson",
    "ccc": "mean CCC",
}
"""What people call the metrics of `training.metrics`."""

Unit = Literal["clip", "frame"]
"""What gets one prediction, that is what a point is: a whole clip, or each of its frames."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is recognised, of what, and what it is judged by."""

    name: str
    """Identifier that artifacts carry, such as `ah-video`."""
    output: Classes | Intensities
    """What is said of a point."""
    unit: Unit = "clip"
    """What a point is."""
    rate_hz: float | None = None
    """Per frame: points a second; None: one for each of the video's own frames."""
    metric: str = "macro_f1"
    """What models are chosen by: a name of `training.metrics`."""

    @property
    def num_outputs(self) -> int:
        """Numbers that a model gives for a point."""
        return self.output.num_outputs

    @property
    def names(self) -> tuple[str, ...]:
        """One per output."""
        return self.output.names

    @property
    def per_frame(self) -> bool:
        """Whether a clip has many points, at times."""
        return self.unit == "frame"

    @property
    def score_name(self) -> str:
        """What people call the metric, as in a table's head."""
        return SCORE_NAMES.get(self.metric, self.metric)

    @property
    def is_binary(self) -> bool:
        """Whether it is one of two classes: then there is one probability, that of the last class, and a threshold."""
        return isinstance(self.output, Classes) and self.num_outputs == 2


AH_VIDEO = Task(name="ah-video", output=Classes(names=("no_ah", "ah")))
"""Ambivalence/hesitancy per video: class 1 is 'present' (BAH's `global_ah`)."""
AH_FRAME = Task(name="ah-frame", output=Classes(names=("no_ah", "ah")), unit="frame", metric="weighted_f1")
"""Ambivalence/hesitancy per frame of the video (BAH's `frame_annotation`; ABAW-8's metric)."""
EXPRESSION = Task(
    name="expression",
    output=Classes(names=("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")),
    unit="frame",
)
"""Eight expressions per frame, in Aff-Wild2's order."""
MIMICRY = Task(
    name="mimicry",
    output=Intensities(names=("Admiration", "Amusement", "Determination", "Empathic Pain", "Excitement", "Joy")),
    metric="pearson",
)
"""Six intensities of emotional mimicry per video, in Hume-Vidmimic2's order."""
TASKS: Mapping[str, Task] = {task.name: task for task in (AH_VIDEO, AH_FRAME, EXPRESSION, MIMICRY)}
"""Every task by its name."""

"""What reports call the metrics."""

from dataclasses import dataclass

from twominds.tasks import Classes, Task
from twominds.training.metrics import CLASS_METRICS, INTENSITY_METRICS


@dataclass(frozen=True, kw_only=True)
class MetricWords:
    """A metric's names."""

    short: str
    """The metric's name in the head of a column."""
    long: str
    """In a sentence, before which there is nothing."""
    percent: bool = True
    """Whether it is a share: then it is printed in percent, as papers do; a correlation is printed times 100."""

    @property
    def title(self) -> str:
        """At the beginning of a sentence."""
        return self.long[0].upper() + self.long[1:]

    @property
    def axis(self) -> str:
        """Beside an axis."""
        return f"{self.long} ({'%' if self.percent else '× 100'})"

    @property
    def unit(self) -> str:
        """How its numbers are printed, in words."""
        return "in percent" if self.percent else "times 100"

    @property
    def points(self) -> str:
        """What differences are printed in."""
        return "percentage points" if self.percent else "hundredths"


_WORDS = {
    "macro_f1": MetricWords(short="MF1", long="macro F1"),
    "weighted_f1": MetricWords(short="WF1", long="weighted F1"),
    "positive_f1": MetricWords(short="PF1", long="F1 of the positive class"),
    "accuracy": MetricWords(short="accuracy", long="accuracy"),
    "average_precision": MetricWords(short="AP", long="average precision"),
    "average_precision_1000": MetricWords(short="AP 1000", long="challenge's average precision (1000 thresholds)"),
    "pearson": MetricWords(short="PCC", long="mean Pearson correlation", percent=False),
    "ccc": MetricWords(short="CCC", long="mean concordance correlation", percent=False),
}

PER_OUTPUT = "pearson of "
"""Before an output's name: its own correlation, without the others'."""


def words(metric: str) -> MetricWords:
    """What a metric is called."""
    if metric.startswith(PER_OUTPUT):
        output = metric.removeprefix(PER_OUTPUT)
        return MetricWords(short=output, long=f"Pearson correlation of {output}", percent=False)
    return _WORDS[metric]


def other_metrics(task: Task) -> tuple[str, ...]:
    """By what answers are scored beside the task's own metric."""
    if not isinstance(task.output, Classes):
        names = [*INTENSITY_METRICS, *(f"{PER_OUTPUT}{name}" for name in task.names)]
    elif task.is_binary:
        names = [*CLASS_METRICS, "average_precision", "average_precision_1000"]
    else:
        names = [name for name in CLASS_METRICS if name != "positive_f1"]
    return tuple(name for name in names if name != task.metric)

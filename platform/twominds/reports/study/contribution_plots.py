"""The figure of what the headline's answers are made of."""

from twominds.records import Modality
from twominds.reports.charts import CLASSES, MANY, Plot, chart, finish, legend, plot_of
from twominds.reports.study.contributions import TRUE_CLASS, GroupContributions
from twominds.reports.study.scores import StudyScores


def contribution_bars(scores: StudyScores) -> list[Plot]:
    """Each modality's mean contribution by the true class of two; else the mean of its sizes over all clips."""
    if not scores.contributions:
        return []
    signed = scores.task.is_binary
    groups = [g for g in scores.contributions if g.grouping == TRUE_CLASS] if signed else [scores.contributions[0]]
    modalities = [m for m in Modality if any(m in group.by_modality for group in groups)]
    figure, axes = chart(len(modalities), 0.55)
    step = 0.8 / len(groups)
    for i, group in enumerate(groups):
        at = [(y, _value(group, m, signed)) for y, m in enumerate(modalities) if m in group.by_modality]
        bars = axes.barh(
            [y + (i - (len(groups) - 1) / 2) * step for y, _ in at],
            [value for _, value in at],
            height=0.9 * step,
            color=CLASSES[i] if signed else MANY[5],
            label=f"{group.group} ({group.clips} clips)",
        )
        axes.bar_label(bars, fmt="%+.2f" if signed else "%.3f", padding=3, fontsize=8)
    axes.axvline(0, color="black", linewidth=1)
    axes.margins(x=0.2)
    unit = "log-odds" if scores.task.output.num_values == 1 else "intensity"
    finish(axes, [str(m) for m in modalities], f"mean {'' if signed else 'size of the '}contribution ({unit})")
    legend(figure, axes)
    told = "; ".join(
        f"{group.group} {', '.join(f'{m} {_value(group, m, signed):+.3f}' for m in group.by_modality)}"
        for group in groups
    )
    recipe = scores.results.headline
    caption = (
        f"{recipe}: mean Shapley value of each modality over the clips that have it, all reported splits together."
    )
    if signed:
        caption += (
            f" To the right it speaks for {scores.task.names[-1]}. Where a modality tells the classes apart, the "
        )
        caption += "bars differ."
    alt = f"Mean contributions of the modalities to {recipe}: {told}."
    return [plot_of("contributions", "Contributions of the modalities", alt, caption, figure)]


def _value(group: GroupContributions, modality: Modality, signed: bool) -> float:
    found = group.by_modality[modality]
    return found.mean if signed else found.absolute

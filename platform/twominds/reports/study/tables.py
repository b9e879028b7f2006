"""The tables of a study's report for people: Markdown, and the cells of the page."""

import html
from collections.abc import Mapping, Sequence

from twominds.records import Modality
from twominds.reports.study.cells import NONE, difference, estimate, p_value, percent, points, signed
from twominds.reports.study.comparison import Comparison, Paired
from twominds.reports.study.contributions import GroupContributions
from twominds.reports.study.metric_words import other_metrics, words
from twominds.reports.study.protocol import AT_HALF, CROSS_FITTED, banners, protocol, split_name
from twominds.reports.study.results import RowResult
from twominds.reports.study.scores import REPORTED, RowScore, StudyScores
from twominds.tasks import Classes


def row_cells(score: RowScore, scores: StudyScores) -> dict[str, str]:
    """A row as people read it, by the titles of the columns."""
    row, over = score.row, score.over_unimodal
    any_paper = any(each.published for each in scores.results.rows)
    any_note = any(each.note for each in scores.results.rows)
    found = [score.splits.get(split) for split in REPORTED]
    several = any(len(split.by_model) > 1 for split in found if split)
    validation, test = (NONE if split is None else estimate(split.score) for split in found)
    metric = words(scores.task.metric).short
    theirs = " / ".join(points(value) for value in paper(row))
    if row.published and row.published.metric:
        theirs += f" ({words(row.published.metric).short})"
    crossed = {CROSS_FITTED: NONE if score.cross_fitted is None else estimate(score.cross_fitted)}
    any_crossed = any(each.cross_fitted for each in scores.rows)
    half = " / ".join(percent(score.at_half.get(split)) for split in REPORTED)
    any_half = any(each.at_half for each in scores.rows)
    spread = " / ".join(percent(None if split is None else split.spread) for split in found)
    return {
        "Recipe": row.recipe,
        "Description": row.description,
        "Modalities": ", ".join(row.views) or "none",
        f"Validation {metric} [95 % CI]": validation,
        **(crossed if any_crossed else {}),
        f"Test {metric} [95 % CI]": test,
        **({f"{AT_HALF}: val / test": half if score.at_half else NONE} if any_half else {}),
        "Mean": percent(score.average),
        "No score: val / test": unseen(score),
        **({"Paper: val / test / mean / private": theirs if row.published else NONE} if any_paper else {}),
        "Test − best unimodal [95 % CI]": "reference" if row.recipe == scores.best_unimodal else difference(over),
        "p": p_value(over),
        "Seeds' SD: val / test": spread if several else NONE,
        "Parameters": f"{row.parameters:,}" if row.parameters else NONE,
        "Selected on": row.selected_on if row.views else "training labels",
        "Weights": row.weights if row.views and row.answers else NONE,
        "Artifact": row.artifact_id or NONE,
        **({"Not there": row.note or NONE} if any_note else {}),
    }


def unseen(score: RowScore) -> str:
    """How many clips of validation and test have no score; of a baseline, which needs none, nothing."""
    if not score.row.views:
        return NONE
    return " / ".join(str(score.splits[split].unseen) if split in score.splits else NONE for split in REPORTED)


def paper(row: RowResult) -> tuple[float | None, float | None, float | None, float | None]:
    """Validation, test, their mean and the private test split, in percent."""
    published = row.published
    if published is None:
        return None, None, None, None
    validation, test = published.validation, published.test
    mean = None if validation is None or test is None else (validation + test) / 2
    return validation, test, mean, published.private


def sections(scores: StudyScores) -> list[tuple[str, list[RowScore]]]:
    """Table 1 in its parts, then the ablation."""
    titles = {"baseline": "Baselines", "unimodal": "Unimodal", "multimodal": "Multimodal", "ablation": "Ablation"}
    found = [(title, [row for row in scores.rows if row.section == name]) for name, title in titles.items()]
    return [(title, rows) for title, rows in found if rows]


def markdown(scores: StudyScores) -> str:
    """Table 1 in its parts, ablation, modality drop and protocol."""
    lines = [f"# {_md(scores.results.study)}", ""]
    lines += [line for banner in banners(scores) for line in (f"> **{_md(banner)}**", "")]
    for title, rows in sections(scores):
        cells = [row_cells(row, scores) for row in rows]
        for row in cells:
            row["Recipe"] += " (headline)" if row["Recipe"] == scores.results.headline else ""
        lines += [f"## {title}", "", *_md_table([*cells[0]], [[*row.values()] for row in cells]), ""]
    metric = words(scores.task.metric)
    lines += [f"{metric.title} ({metric.short}) {metric.unit}. The headline row is {scores.results.headline_is}.", ""]
    lines += ["## Other metrics", "", *_md_table(*metric_cells(scores)), ""]
    if scores.comparison:
        title = f"## Compared with {_md(scores.comparison.other.name)}"
        lines += [title, "", *_md_table(*comparison_cells(scores.comparison, scores)), ""]
    if scores.drops:
        lines += ["## Modality drop", "", *_md_table(*drop_cells(scores)), ""]
    if scores.contributions:
        lines += ["## Contributions of the modalities", "", _md(about_contributions(scores)), ""]
        lines += [*_md_table(*contribution_cells(scores)), ""]
    lines += ["## Protocol", "", *(f"- {_md(text)}" for text in protocol(scores)), ""]
    return "\n".join(lines)


def _md_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell if line is lines[1] else _md(cell) for cell in line)} |" for line in lines]


def _md(text: str) -> str:
    """As text of one line, which starts no column and no HTML."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", r"\|")


def group_cells(scores: StudyScores) -> tuple[list[str], list[list[str]]]:
    """The groups of the headline row as people read them: header and rows."""
    metric = words(scores.task.metric).short
    header = ["Grouping", "Group", "Split", "Clips", "People", f"{metric} [95 % CI]", "Notes"]
    return header, [
        [
            *(score.grouping, score.group, split_name(score.split), str(score.clips), str(score.people)),
            estimate(score.score),
            "; ".join(score.notes),
        ]
        for score in scores.groups
    ]


def comparison_cells(comparison: Comparison, scores: StudyScores) -> tuple[list[str], list[list[str]]]:
    """The comparison with another report as people read it: header and rows."""
    metric, per_frame = words(scores.task.metric).short, scores.task.per_frame
    counted = any(paired.only_ours is not None for paired in comparison.splits.values())
    header = ["Split", "Clips", *(["Frames"] * per_frame), "People"]
    header += [f"This {metric} [95 % CI]", f"Other {metric} [95 % CI]", "Difference [95 % CI]", "p"]
    header += ["Only this is right", "Only the other is right"] * counted + ["Clips in one report alone"]
    rows: list[list[str]] = []
    for split, paired in comparison.splits.items():
        cells = [split_name(split), str(paired.clips), *([str(paired.points)] * per_frame), str(paired.people)]
        cells += [estimate(paired.ours), estimate(paired.theirs), difference(paired.difference)]
        cells.append(p_value(paired.difference))
        rows.append([*cells, *([str(paired.only_ours), str(paired.only_theirs)] * counted), str(paired.elsewhere)])
    return header, rows


def in_words(paired: Paired) -> str:
    """The comparison on one split in a line."""
    alone = f"; {paired.elsewhere} clips are in one report alone" if paired.elsewhere else ""
    frames = f"{paired.points} frames of " if paired.points != paired.clips else ""
    over = f"{difference(paired.difference)}, p {p_value(paired.difference)}; of {frames}{paired.clips} clips"
    right = f" {paired.only_ours} only this one gets right, {paired.only_theirs} only the other"
    both = f"{percent(paired.ours.value)} against {percent(paired.theirs.value)}, difference {over}"
    return f"{both}{right if paired.only_ours is not None else ''}{alone}"


def drop_cells(scores: StudyScores) -> tuple[list[str], list[list[str]]]:
    """The modality-drop table: header and rows."""
    metric = words(scores.task.metric).short
    columns = [f"{split_name(split).capitalize()} {what}" for split in scores.splits for what in (metric, "change")]
    rows: list[list[str]] = []
    for drop in scores.drops:
        numbers = [(percent(drop.score.get(split)), signed(drop.change.get(split))) for split in scores.splits]
        rows.append([drop.recipe, str(drop.view), *(cell for pair in numbers for cell in pair)])
    return ["Recipe", "Without", *columns], rows


def metric_cells(scores: StudyScores) -> tuple[list[str], list[list[str]]]:
    """How rows do by other metrics than the task's, and where a paper says it, how its row did: header and rows."""
    names = other_metrics(scores.task)
    told = " / ".join(split_name(split) for split in scores.splits)
    rows: list[list[str]] = []
    for score in scores.rows:
        if not score.splits:
            continue
        found = [score.splits.get(split) for split in scores.splits]
        others: Mapping[str, float] = score.row.published.others if score.row.published else {}
        cells = [" / ".join(percent(one and one.other_metrics[name]) for one in found) for name in names]
        theirs = [f" (paper: {others[name]:.2f})" if name in others else "" for name in names]
        rows.append([score.row.recipe, *(cell + told for cell, told in zip(cells, theirs, strict=True))])
    return [f"Recipe: {told}", *(words(name).title for name in names)], rows


def about_contributions(scores: StudyScores) -> str:
    """What the numbers of the contributions are, in words."""
    task = scores.task
    what = "log-odds, mean over the classes" if isinstance(task.output, Classes) else "mean over the outputs"
    what = "log-odds of the last class" if task.is_binary else what
    over = ", of a clip the mean over its frames" if task.per_frame else ""
    return (
        f"{scores.results.headline}: exact Shapley values ({what}{over}) over the clips of {_splits(scores)} that have "
        "the modality: their mean, and in brackets the mean of their sizes. Opposed: the two modalities that pull in "
        "opposite directions and depend on each other most, and in how many of the group's clips they are these."
    )


def contribution_cells(scores: StudyScores) -> tuple[list[str], list[list[str]]]:
    """What the headline's answers are made of, of all clips and per group: header and rows."""
    modalities = [m for m in Modality if any(m in group.by_modality for group in scores.contributions)]
    rows = [
        [group.grouping, group.group, str(group.clips), *(_contribution(group, m) for m in modalities), _opposed(group)]
        for group in scores.contributions
    ]
    return ["Grouping", "Group", "Clips", *(str(m) for m in modalities), "Opposed"], rows


def _contribution(group: GroupContributions, modality: Modality) -> str:
    found = group.by_modality.get(modality)
    return NONE if found is None else f"{found.mean:+.3f} ({found.absolute:.3f})"


def _opposed(group: GroupContributions) -> str:
    return "; ".join(f"{pair} {count}" for pair, count in group.opposed.items()) or NONE


def _splits(scores: StudyScores) -> str:
    return " and ".join(split_name(split) for split in scores.splits)

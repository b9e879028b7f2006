"""What the rows of a study are made of, and what each answers: clips as the encoders see them, and trained models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from upath import UPath

from twominds import artifacts
from twominds.artifacts import Card
from twominds.recipes.recipe import Recipe
from twominds.records import Clip, Embedding, Split, View, absent
from twominds.reports.study.answers import ensemble_answers, joined, without
from twominds.reports.study.points import LabelledPoints
from twominds.reports.study.results import Answers
from twominds.results import tables
from twominds.results.labelled import clip_rows
from twominds.scoring.ensemble import Ensemble
from twominds.tasks import Task
from twominds.training.selection import SelectionProtocol


@dataclass(frozen=True, kw_only=True)
class StudyPart:
    """One modality of one or more rows: its features, its encoder, its embeddings."""

    recipe: Recipe
    """A recipe that has it."""
    view: View
    features: str
    """Folder with, among others, this modality's features."""
    encoder: str
    """Folder of the encoder's artifact."""
    embeddings: str
    """Folder with this modality's embeddings."""
    name: View = ""
    """What the row calls the view, where it has it from several trainings; empty: as it is called."""

    @property
    def called(self) -> View:
        """What the row's models call the view."""
        return self.name or self.view

    @cached_property
    def card(self) -> Card:
        """The encoder's."""
        return artifacts.read_card(self.encoder)


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """One training of a system that is trained jointly."""

    recipe: Recipe
    """The system, with the one seed of this training."""
    parts: tuple[StudyPart, ...]
    """The encoders that it ended with."""
    ensemble: str
    """The fusion, with what the heads of some views count: an artifact."""


@dataclass(frozen=True, kw_only=True)
class ClipEmbeddings:
    """One clip and what the encoders of the study say of it."""

    clip: Clip
    by_encoder: Mapping[str, Embedding]
    """By the encoder's place; without those that the clip could not be brought to."""


@dataclass(frozen=True, kw_only=True)
class RowModels:
    """The trained models behind a row (and any other that differs only in what it reports of them)."""

    recipe: Recipe
    parts: tuple[StudyPart, ...]
    uri: str
    """Their artifact: an ensemble without its encoders, which are parts of the study."""
    protocol: SelectionProtocol
    runs: Mapping[str, "RowModels"] = field(default_factory=dict[str, "RowModels"])
    """Of a system that was trained jointly several times, the models of each training, by what it is called."""
    lost: Mapping[str, str] = field(default_factory=dict[str, str])
    """Why some of those trainings came to nothing, by the seed."""

    def inputs_of(self, clips: Sequence[ClipEmbeddings], hidden: View | None = None) -> list[dict[View, Embedding]]:
        """What the models take of each clip; `hidden` counts as absent.

        A clip that one of their encoders could not be brought to has nothing: where it is scored it fails, too.
        """
        return [self._inputs_of(clip, hidden) for clip in clips]

    def _inputs_of(self, clip: ClipEmbeddings, hidden: View | None) -> dict[View, Embedding]:
        if self.processed(clip):
            seen = {part.called: clip.by_encoder[part.encoder] for part in self.parts}
            seen |= {part.name: replace(seen[part.name], view=part.name) for part in self.parts if part.name}
            return without(seen, *(part.called for part in self.parts if part.view == hidden))
        presence, clip_id = absent("it could not be processed"), clip.clip.clip_id
        views = (part.called for part in self.parts)
        return {m: Embedding(clip_id=clip_id, view=m, presence=presence) for m in views}

    def processed(self, clip: ClipEmbeddings) -> bool:
        """Whether the clip came through to all encoders of the row."""
        return all(part.encoder in clip.by_encoder for part in self.parts)

    @cached_property
    def ensemble(self) -> Ensemble:
        """The finished artifact, loaded."""
        return Ensemble.load(self.uri)

    def card(self) -> Card | None:
        """The card of the finished artifact; None while there is none."""
        return artifacts.read_card(self.uri) if (UPath(self.uri) / artifacts.CARD).exists() else None


def read_embeddings(parts: Sequence[StudyPart], splits: Sequence[Split] | None = None) -> list[ClipEmbeddings]:
    """All clips (of some splits), by id: also those that could not be brought to an encoder."""
    clips: dict[str, Clip] = {}
    seen: dict[str, dict[str, Embedding]] = {}
    for part in parts:
        columns = [*tables.WITHOUT_WORDS, *(f.name for f in tables.embedding_fields(part.view))]
        for row in clip_rows(part.embeddings, columns, splits):
            clips[row["clip_id"]] = tables.clip_from_row(row)
            by_encoder = seen.setdefault(row["clip_id"], {})
            if not row["error"]:
                by_encoder[part.encoder] = tables.embedding_from_row(row, part.view)
    return [ClipEmbeddings(clip=clips[clip_id], by_encoder=seen[clip_id]) for clip_id in sorted(clips)]


def labelled(clips: Sequence[ClipEmbeddings], split: Split) -> list[ClipEmbeddings]:
    """Those of one split that have a label."""
    return [
        item
        for item in clips
        if item.clip.split == split and item.clip.labels is not None and item.clip.labels.known.any()
    ]


def labelled_points(clips: Sequence[ClipEmbeddings], task: Task) -> LabelledPoints:
    """What is known of labelled clips, at the points for which their encoders were asked."""
    points_s = [next((e.points_s for e in item.by_encoder.values() if e.points_s is not None), None) for item in clips]
    return LabelledPoints.of([item.clip for item in clips], task, points_s)


def answers(
    row: RowModels,
    recipe: Recipe,
    clips: Sequence[ClipEmbeddings],
    points: LabelledPoints,
    prior: Sequence[float],
    hidden: View | None = None,
) -> Answers:
    """What a recipe reports of its models at some points; of one that is trained jointly `single` is a training.

    Args:
        row: The trained models.
        recipe: Says what of them is reported.
        clips: The clips that the points belong to.
        points: Where answers are wanted.
        prior: What training says without a look; see `ensemble_answers`.
        hidden: A view that counts as absent.
    """
    single = recipe.reports == "single"
    if row.runs and single:
        return joined([answers(run, run.recipe, clips, points, prior, hidden) for run in row.runs.values()])
    inputs = row.inputs_of(clips, hidden)
    each_member = single and recipe.joint is None
    return ensemble_answers(row.ensemble, inputs, points, prior, each_member=each_member)

"""A study from its parts to its results, on answers that are planted: what is submitted, and who chose it."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from twominds import artifacts
from twominds.errors import TrainingError
from twominds.pipelines.study import run as study
from twominds.pipelines.study.parts import Made, StudyConfig, Unmade
from twominds.pipelines.study.run import run_study
from twominds.recipes.recipe import Recipe
from twominds.records import PRESENT, Clip, Corpus, Embedding, Failure, Modality, Split, View
from twominds.reports.study.answers import mean_score
from twominds.reports.study.results import StudyResults
from twominds.reports.study.rows import ClipEmbeddings, StudyPart, labelled, labelled_points
from twominds.reports.summary import Summary
from twominds.scoring.ensemble import Ensemble
from twominds.tasks import AH_VIDEO
from twominds.training.fit import FitConfig
from twominds.training.selection import SelectionProtocol, visible_splits

if TYPE_CHECKING:
    from tests.unit.pipelines.conftest import MadeUpStudy, RayHere

Tiny = Callable[..., Recipe]
Run = Callable[..., tuple[StudyResults, Summary]]

FACE, AUDIO = Modality.FACE, Modality.AUDIO
RIGHT: dict[View, dict[Split, int]] = {
    FACE: {Split.TRAIN: 20, Split.VALIDATION: 12, Split.TEST: 4},
    AUDIO: {Split.TRAIN: 20, Split.VALIDATION: 9, Split.TEST: 12},
}
"""How many of a split's clips an encoder is right on: of 12 in validation and in test."""


def planted(
    clips: Sequence[ClipEmbeddings], truth: Mapping[str, int], parts: Sequence[StudyPart]
) -> list[ClipEmbeddings]:
    """The same clips, on which the encoders are right as often as `RIGHT` says, by the labels of `truth`."""
    seen: dict[Split, int] = {}
    found: list[ClipEmbeddings] = []
    for item in clips:
        split = item.clip.split
        assert split is not None
        place = seen.setdefault(split, 0)
        seen[split] += 1
        by_encoder: dict[str, Embedding] = {}
        for part in parts:
            right = place < RIGHT[part.view].get(split, 99)
            logit = 2.0 * (2 * truth.get(item.clip.clip_id, 0) - 1) * (1 if right else -1)
            by_encoder[part.encoder] = replace(
                item.by_encoder[part.encoder],
                presence=PRESENT,
                vectors=np.zeros((1, 4 if part.view == FACE else 3), np.float32),
                logits=np.array([[-logit, logit]], np.float32),
            )
        found.append(replace(item, by_encoder=by_encoder))
    return found


@pytest.fixture
def run(made_up: "MadeUpStudy", tiny: Tiny, ray_here: "RayHere", monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run(flipped=..., protocol=..., folder=...)`: a study of face, audio and both; its results and summary."""
    recipes = (
        tiny("face", FACE, reports="encoder"),
        tiny("audio", AUDIO, reports="encoder"),
        tiny("both", FACE, AUDIO, fit=FitConfig(epochs=1, patience=1)),
    )
    parts, results = made_up.parts(*recipes), list[StudyResults]()
    lacking: dict[tuple[str, View], Unmade] = {}
    broken = Clip(clip_id="broken", video_uri="", split=Split.PRIVATE)
    truth = {item.clip.clip_id: item.clip.label for item in made_up.clips() if item.clip.label is not None}

    class MadeBefore:
        def __init__(self, *_: object) -> None: ...

        def make(self, _: object) -> Made:
            return Made(parts=parts | lacking, runs={})

        def quarantined(self, _: object) -> list[Failure]:
            return [Failure(clip_id=clip_id, stage="decode", reason="broken") for clip_id in ("broken", "left")]

    @contextmanager
    def no_cluster(_: object) -> Generator[int]:
        yield 1

    def report(found: StudyResults, uri: str, other: object) -> Summary:
        assert other is None
        results.append(found)
        return Summary(title="report", where=uri)

    monkeypatch.setattr(study, "PartsMaker", MadeBefore)
    monkeypatch.setattr(study, "cluster", no_cluster)
    monkeypatch.setattr(study, "write_report", report)
    monkeypatch.setattr(study, "find_study", {"a": recipes[:2], "b": recipes}.__getitem__)

    def run(
        *,
        flipped: Sequence[Split] = (),
        protocol: SelectionProtocol = "validation",
        folder: str = "study",
        unmade: Sequence[tuple[str, View]] = (),
    ) -> tuple[StudyResults, Summary]:
        lacking.update({key: Unmade(reason=f"The {key[1]} encoder could not be trained.") for key in unmade})
        clips = planted(made_up.clips(flipped=flipped), truth, [parts["face", FACE], parts["audio", AUDIO]])
        asked: list[Sequence[Split] | None] = []

        def read(_: object, splits: Sequence[Split] | None = None) -> list[ClipEmbeddings]:
            asked.append(splits)
            return [item for item in clips if splits is None or item.clip.split in splits]

        def corpus(_: object, **__: object) -> Corpus:
            return Corpus(clips=(*(item.clip for item in clips), broken))

        monkeypatch.setattr(study, "read_embeddings", read)
        monkeypatch.setattr(study, "read_corpus", corpus)
        output = made_up.root / folder / "report"
        output.mkdir(parents=True, exist_ok=True)
        places: dict[str, Any] = {"corpus": str(made_up.root), "models": str(made_up.root)}
        config = StudyConfig(folder=str(made_up.root / folder), protocol=protocol, **places)
        summary = run_study("a,b", config, str(output))
        assert asked[0] == visible_splits(protocol), "more than what may select was read before all was trained"
        return results[-1], summary

    return run


def chosen(results: StudyResults) -> list[object]:
    """All that a selection made: the headline, and each row's models and what they say."""
    rows = [
        (
            row.recipe,
            row.artifact_id,
            row.seeds,
            row.selected_on,
            [a.predictions.tolist() for a in row.answers.values()],
        )
        for row in results.rows
        if row.views
    ]
    return [results.headline, rows]


def test_the_test_splits_labels_are_reported_on_and_choose_nothing(run: Run) -> None:
    (honest, _), (flipped, _) = run(), run(flipped=[Split.TEST], folder="flipped")
    assert honest.headline == "face", "perfect on validation"
    assert chosen(honest) == chosen(flipped)
    assert [clip.label for clip in honest.clips[Split.TEST]] == [
        1 - (clip.label or 0) for clip in flipped.clips[Split.TEST]
    ]
    assert honest.clips[Split.VALIDATION] == flipped.clips[Split.VALIDATION]


def test_under_the_papers_protocol_they_choose_and_it_is_said(run: Run, made_up: "MadeUpStudy") -> None:
    paper, summary = run(protocol="validation+test")
    assert paper.headline == "audio", "of the two it has the better mean"
    assert "audio, best on validation+test" in dict(summary.facts)["headline"]
    assert artifacts.read_card(str(made_up.root / "study" / "report" / "headline")).selected_on == "validation+test"
    assert {row.selected_on for row in paper.rows if row.views} == {"validation+test"}
    flipped, _ = run(flipped=[Split.TEST], protocol="validation+test", folder="flipped")
    assert flipped.headline == "face"
    honest, summary = run()
    assert "face, best on validation:" in dict(summary.facts)["headline"]
    assert {row.selected_on for row in honest.rows if row.views} == {"validation"}


def test_a_row_that_could_not_be_made_says_why_and_takes_no_other_along(run: Run) -> None:
    results, _ = run(unmade=[("face", FACE), ("both", FACE)])
    rows = {row.recipe: row for row in results.rows}
    assert list(rows) == ["majority", "question only", "face", "audio", "both"]
    assert results.headline == "audio", "the best of what is there"
    for name in ("face", "both"):
        assert (rows[name].answers, rows[name].note) == ({}, "The face encoder could not be trained.")
    assert (rows["audio"].note, set(rows["audio"].answers)) == ("", {Split.VALIDATION, Split.TEST})


def test_a_study_of_which_no_row_could_be_made_says_why(run: Run) -> None:
    with pytest.raises(TrainingError, match=r"No row of a,b could be made\. The face .* The audio encoder could not"):
        run(unmade=[("face", FACE), ("audio", AUDIO), ("both", AUDIO)])


def test_every_row_is_there_once_and_says_what_it_is(run: Run, made_up: "MadeUpStudy") -> None:
    results, _ = run()
    assert [row.recipe for row in results.rows] == ["majority", "question only", "face", "audio", "both"]
    assert results.failures == 1, "the other one has left the corpus"
    face, both = results.rows[2], results.rows[4]
    own = labelled_points(labelled(made_up.clips(), Split.TEST), AH_VIDEO)
    # Right on four of twelve, two of each class: F1 is 1/3 in both.
    assert mean_score(face.answers[Split.TEST], own, AH_VIDEO) == pytest.approx(1 / 3)
    assert (face.without, set(both.without)) == ({}, {FACE, AUDIO})
    assert (len(face.seeds), both.seeds) == (1, (11, 22, 33))
    d = 8  # of the fusion in conftest.py: projectors, modality embeddings, one layer with feed-forward x 1
    layer = 4 * (d * d + d) + 2 * (d * d + d) + 4 * d
    expected = (4 * d + 3 * d) + 2 * (d + 2 * d) + 2 * d + layer + 2 * d + (2 * d + 2) + 2 * 2 * d
    assert both.parameters == expected
    assert face.parameters == 17, "as the encoder's card says, not of the fusion around it"
    assert [clip.split for clip in results.train.clips] == [Split.TRAIN] * 20


def test_clips_without_a_label_are_submitted_by_the_headline(run: Run, made_up: "MadeUpStudy") -> None:
    run()
    folder = made_up.root / "study" / "report"
    lines = {
        line.split(",")[0]: line.split(",")[1:] for line in (folder / "submission.csv").read_text().splitlines()[1:]
    }
    assert list(lines) == ["broken", *(f"private-{index}" for index in (44, 45, 46, 47))]
    # The stand-ins take label 0 for what has none, with logits 2 and -2; what is broken has the shares of training.
    p0 = {clip_id: float(cells[0]) for clip_id, cells in lines.items()}
    assert p0 == pytest.approx(dict.fromkeys(lines, 1 / (1 + np.exp(-4))) | {"broken": 0.5}, abs=1e-6)
    assert {clip_id for clip_id, cells in lines.items() if cells[-1] == "0"} >= set(lines) - {"broken"}
    assert len(Ensemble.load(str(folder / "headline")).models) == 1

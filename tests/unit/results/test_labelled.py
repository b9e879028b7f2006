"""Under the honest protocol the test split's labels change nothing; under the paper's they may, and it is said."""

import ast
import gc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from twominds.errors import SelectionError
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.pipelines.sink import ClipSink
from twominds.pipelines.stages import ERROR_FIELDS
from twominds.pipelines.train_view import read_examples
from twominds.recipes.recipe import FusionRecipe
from twominds.records import PRESENT, Clip, Embedding, Features, Modality, Source, Split, absent, clip_labels
from twominds.results import tables
from twominds.results.labelled import labelled_rows, labels_fingerprint
from twominds.search.candidate import CandidateStore, SeedResult, train_candidate
from twominds.search.setup import read_search_data
from twominds.tasks import AH_VIDEO
from twominds.training.fit import FitConfig
from twominds.training.losses import FusionLoss
from twominds.training.objective import Objective
from twominds.training.selection import SelectionProtocol

pytestmark = pytest.mark.usefixtures("one_thread")

FACE = Modality.FACE
FUSION = FusionRecipe(
    model=TransformerFusionConfig(hidden_dim=8, num_layers=1, num_heads=2, dropout=0.0, prototypes_per_class=2),
    fit=FitConfig(epochs=12, batch_size=8, learning_rate=3e-3, patience=12, min_epochs=2),
    loss=FusionLoss(),
    views=(FACE,),
    seeds=(1, 2),
)


def embeddings(folder: Path, *, test_labels: str) -> str:
    """Clips whose label is the sign of their vector's first value; those of the test split as they are told."""
    rng, rows = np.random.default_rng(0), list[tables.Row]()
    for i in range(70):
        vector = rng.standard_normal(4).astype(np.float32)
        label = int(vector[0] > 0)
        split = Split.TRAIN if i < 30 else Split.VALIDATION if i < 50 else Split.TEST
        told = {"true": label, "flipped": 1 - label, "none": None}[test_labels] if split == Split.TEST else label
        clip = Clip(clip_id=f"{split}-{i}", video_uri="", split=split, labels=clip_labels(told))
        row = {name: value for name, value in tables.clip_to_row(clip).items() if name in tables.WITHOUT_WORDS}
        embedding = Embedding(clip_id=clip.clip_id, view=FACE, presence=PRESENT, vectors=np.atleast_2d(vector))
        rows.append(row | tables.embedding_to_row(embedding))
    fields: list[pa.Field[Any]] = [tables.CLIP_SCHEMA.field(name) for name in tables.WITHOUT_WORDS]
    schema = pa.schema([*fields, *tables.embedding_fields(FACE)])
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "all.parquet")
    return str(folder)


def chosen(uri: str, protocol: SelectionProtocol, store: Path) -> tuple[list[SeedResult], list[dict[str, Tensor]]]:
    """What a candidate comes to, but for the time it took, and its models."""
    data, candidate = read_search_data(uri, FUSION, protocol, AH_VIDEO.output), CandidateStore(str(store), {})
    assert data.selected_on == protocol
    results = train_candidate({}, FUSION, data, candidate, objective=Objective())
    return [replace(r, seconds=0.0) for r in results], [candidate.state(seed) for seed in FUSION.seeds]


def same(one: list[dict[str, Tensor]], other: list[dict[str, Tensor]]) -> bool:
    return all(torch.equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a)


def test_only_the_papers_protocol_depends_on_test_labels(tmp_path: Path) -> None:
    true = embeddings(tmp_path / "true", test_labels="true")
    flipped = embeddings(tmp_path / "flipped", test_labels="flipped")
    (results, models), (again, models_again) = (
        chosen(uri, "validation", tmp_path / f"honest-{i}") for i, uri in enumerate((true, flipped))
    )
    assert results == again
    assert same(models, models_again)
    assert all((r.selection_score, r.selection_loss) == (r.validation_score, r.validation_loss) for r in results)
    (results, models), (other, other_models) = (
        chosen(uri, "validation+test", tmp_path / f"paper-{i}") for i, uri in enumerate((true, flipped))
    )
    assert [r.best_epoch for r in results] != [r.best_epoch for r in other]
    assert not same(models, other_models)
    assert all(r.selection_score != r.validation_score for r in other)
    assert labels_fingerprint(true, "validation") == labels_fingerprint(flipped, "validation")
    assert labels_fingerprint(true, "validation+test") != labels_fingerprint(flipped, "validation+test")


def test_a_training_knows_its_data_by_clips_splits_labels_and_what_became_of_them(tmp_path: Path) -> None:
    clips = [Clip(clip_id=str(i), video_uri="/v.mp4", split=Split.TRAIN, labels=clip_labels(i % 2)) for i in range(3)]

    def of(clips: list[Clip], broken: Sequence[Clip] = ()) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        sink = ClipSink(str(folder), tables.WITHOUT_WORDS)
        sink.quarantine(broken, stage="decode", reason="/v.mp4 is broken")
        errors = [{"error_stage": "", "error": ""}] * len(clips)
        sink.write_table(tables.append_columns(tables.clips_to_table(clips), ERROR_FIELDS, errors))
        return labels_fingerprint(str(folder), "validation")

    same = of(clips)
    assert of(clips[::-1]) == same
    assert of([*clips, Clip(clip_id="t", video_uri="/v.mp4", split=Split.TEST, labels=clip_labels(0))]) == same, (
        "it has no part in it"
    )
    others = [
        of([replace(clips[0], labels=clip_labels(1)), *clips[1:]]),
        of([replace(clips[0], split=Split.VALIDATION), *clips[1:]]),
        of([replace(clips[0], source=Source(video="", words="1")), *clips[1:]]),
        of(clips[1:]),
        of(clips[1:], clips[:1]),  # it is in quarantine: mended, it is one more to learn from
    ]
    assert len({same, *others}) == 6


def test_clips_in_quarantine_count_and_nothing_is_there_of_them(tmp_path: Path) -> None:
    uri = features(tmp_path / "f", flipped=False)
    sink = ClipSink(uri, [])
    for clip_id, split, label in (("b", Split.VALIDATION, 1), ("t", Split.TEST, 0), ("u", Split.TRAIN, None)):
        clip = Clip(clip_id=clip_id, video_uri=f"/v/{clip_id}.mp4", split=split, labels=clip_labels(label))
        sink.quarantine([clip], stage="decode", reason=f"{clip.video_uri} is no video")
    clips, targets = read_examples(uri, FACE, "validation", AH_VIDEO.output).validation
    assert [clip.clip_id for clip in clips] == ["b", "val-3", "val-4"]
    assert clips[0] == Features(clip_id="b", view=FACE, presence=absent("The file is no video"))
    assert targets.values.tolist() == [1, 1, 0]
    assert len(read_examples(uri, FACE, "validation", AH_VIDEO.output).train[1]) == 3, (
        "what has no label does not count"
    )
    assert [len(split[1]) for split in read_examples(uri, FACE, "validation+test", AH_VIDEO.output).scored_on] == [3, 3]
    assert clips_in(read_examples(uri, FACE, "validation", AH_VIDEO.output)) == {
        "train-0",
        "train-1",
        "train-2",
        "val-3",
        "val-4",
    }
    mended = Clip(clip_id="val-3", video_uri="/v/3.mp4", split=Split.VALIDATION, labels=clip_labels(0))
    sink.quarantine([mended], stage="decode", reason="it was broken")
    rows = labelled_rows(uri, ["face_present"], "validation").validation
    assert [(row["clip_id"], tables.clip_from_row(row).label, row["face_present"]) for row in rows] == [
        ("b", 1, False),
        ("val-3", 1, True),  # it came through since
        ("val-4", 0, True),
    ]


def clips_in(view: object) -> set[str]:
    """Ids of all clips that any chain of references leads to."""
    seen, frontier, ids = set[int](), [view], set[str]()
    while frontier:
        thing: object = frontier.pop()
        if id(thing) not in seen and not isinstance(thing, type):
            seen.add(id(thing))
            ids |= {thing} if isinstance(thing, str) and thing.startswith(("train-", "val-", "test-")) else set[str]()
            frontier.extend(gc.get_referents(thing))
    return ids


def test_the_test_split_is_not_read_nor_reachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, asked, read = embeddings(tmp_path / "e", test_labels="true"), set[Split](), tables.read_rows

    def watched(uri: str, columns: Sequence[str] | None = None, splits: Sequence[Split] | None = None) -> object:
        assert splits is not None, "every split was read"
        asked.update(splits)
        return read(uri, columns, splits)

    monkeypatch.setattr(tables, "read_rows", watched)
    view = labelled_rows(uri, [], "validation")
    labels_fingerprint(uri, "validation")
    assert asked == {Split.TRAIN, Split.VALIDATION}
    ids = clips_in(view)
    assert len(ids) == 50
    assert {clip.split("-")[0] for clip in ids} == {"train", "val"}
    assert view.scored_on == (view.validation,)
    paper = labelled_rows(uri, [], "validation+test")
    assert [len(rows) for rows in paper.scored_on] == [20, 20]
    assert Split.TEST in asked


def test_a_test_split_without_labels_cannot_select(tmp_path: Path) -> None:
    uri = embeddings(tmp_path / "e", test_labels="none")
    assert len(labelled_rows(uri, [], "validation").train) == 30
    with pytest.raises(SelectionError, match="no labelled test split"):
        labelled_rows(uri, [], "validation+test")


def features(folder: Path, *, flipped: bool) -> str:
    """Face features of clips whose number is in all of their values; labels of the test split may be told wrong."""
    rows: list[tables.Row] = []
    for i, split in enumerate([Split.TRAIN] * 3 + [Split.VALIDATION] * 2 + [Split.TEST] * 2):
        label = (i + (flipped and split == Split.TEST)) % 2
        clip = Clip(clip_id=f"{split}-{i}", video_uri="", split=split, labels=clip_labels(label))
        row = {name: value for name, value in tables.clip_to_row(clip).items() if name in tables.WITHOUT_WORDS}
        values = np.full((2, 3), i, np.float32)
        rows.append(
            row
            | tables.features_to_row(
                Features(clip_id=clip.clip_id, view=FACE, presence=PRESENT, values=values, pooled=values[0])
            )
        )
    fields: list[pa.Field[Any]] = [tables.CLIP_SCHEMA.field(name) for name in tables.WITHOUT_WORDS]
    schema = pa.schema([*fields, *tables.features_fields(FACE)])
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "all.parquet")
    return str(folder)


def test_encoders_are_trained_and_chosen_without_the_test_split(tmp_path: Path) -> None:
    uris = [features(tmp_path / str(flipped), flipped=flipped) for flipped in (False, True)]

    def seen(uri: str, protocol: SelectionProtocol) -> list[tuple[list[float], list[int]]]:
        view = read_examples(uri, FACE, protocol, AH_VIDEO.output)
        assert view.selected_on == protocol
        splits = (view.train, view.validation, *view.scored_on)
        return [([float(np.mean(clip.values)) for clip in clips if clip.values is not None], targets.values.tolist())
                for clips, targets in splits]  # fmt: skip

    honest = [([0.0, 1.0, 2.0], [0, 1, 0]), ([3.0, 4.0], [1, 0]), ([3.0, 4.0], [1, 0])]
    assert seen(uris[0], "validation") == seen(uris[1], "validation") == honest
    ids = clips_in(read_examples(uris[0], FACE, "validation", AH_VIDEO.output))
    assert ids == {"train-0", "train-1", "train-2", "val-3", "val-4"}
    assert seen(uris[0], "validation+test") == [*honest, ([5.0, 6.0], [1, 0])]
    assert seen(uris[1], "validation+test") == [*honest, ([5.0, 6.0], [0, 1])]


PACKAGE = Path(tables.__file__).parents[1]
TRAINERS = {"fit", "fit_together", "fit_classical", "fit_decision", "train_candidate", "train_candidates"}
"""What takes labels, and learns or chooses by them."""
VIEWS = {"labelled_rows", "read_examples", "read_search_data", "for_selection"}
"""Where their labels can come from. This file, `study/test_rows.py` and `test_selection.py` show what these let by."""


def called(path: Path) -> set[str]:
    """What a module calls: functions by their name, and methods that selection has."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    methods = {f.attr for f in calls if isinstance(f, ast.Attribute)} & {"for_selection", "for_report"}
    return methods | {f.id for f in calls if isinstance(f, ast.Name)}


def test_who_trains_takes_labels_from_a_selection_view() -> None:
    """A new trainer that reads them by itself fails here, as does one that has the test split at hand for a report."""
    root = PACKAGE.parents[1]
    files = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py")}
    files |= {f"jobs/{path.name}": path for path in (root / "jobs").glob("*.py")}
    calls = {name: called(path) for name, path in files.items()}
    trainers = {name for name in calls if calls[name] & TRAINERS}
    assert trainers >= {f"pipelines/{name}.py" for name in ("train_view", "train_jointly", "study/rows")}
    assert trainers >= {"search/candidate.py", "search/winner.py"}
    # What `search/setup.py` reads as a view is given to these; they have no way to read labels by themselves.
    given = {name for name in trainers if not calls[name] & VIEWS and not name.startswith("training/")}
    assert given == {f"search/{name}.py" for name in ("candidate", "trial", "winner", "estimate")}
    assert not any("import tables" in files[name].read_text() for name in given)
    assert {"labelled_rows"} <= calls["search/setup.py"]
    reports = {name for name in calls if "for_report" in calls[name]}
    assert reports == {"pipelines/study/run.py"}
    assert trainers.isdisjoint({*reports, "pipelines/evaluate.py", "pipelines/batch_score.py"})

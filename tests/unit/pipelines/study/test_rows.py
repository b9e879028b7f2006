"""The rows of a study: which share their models, and what those were trained and chosen on."""

import gc
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from twominds import artifacts
from twominds.errors import SelectionError
from twominds.fusion.simple import ClassWeightedConfig
from twominds.pipelines.sink import ClipSink
from twominds.pipelines.stages import ERROR_FIELDS
from twominds.pipelines.study.parts import Made
from twominds.pipelines.study.rows import models_of, save_whole, selection_data, train_rows
from twominds.recipes.recipe import Recipe
from twominds.records import Modality, Split, View, clip_labels
from twominds.reports.study.results import what_is_lost
from twominds.reports.study.rows import ClipEmbeddings, StudyPart, answers, labelled, labelled_points, read_embeddings
from twominds.results import tables
from twominds.scoring.ensemble import Ensemble
from twominds.search.candidate import CandidateStore, train_candidate
from twominds.tasks import AH_VIDEO
from twominds.training.fit import FitConfig, FitResult, fit
from twominds.training.losses import FusionLoss
from twominds.training.metrics import macro_f1
from twominds.training.objective import Objective
from twominds.training.selection import SelectionProtocol

if TYPE_CHECKING:
    from tests.unit.pipelines.conftest import MadeUpStudy, RayHere

Tiny = Callable[..., Recipe]
Floats = np.ndarray[Any, np.dtype[np.float64]]

FACE, AUDIO = Modality.FACE, Modality.AUDIO
FAST = FitConfig(epochs=1, batch_size=8, patience=1)


# --- which rows share their models ---


def test_rows_that_differ_in_what_they_report_share_their_models(made_up: "MadeUpStudy", tiny: Tiny) -> None:
    both = tiny("single", FACE, AUDIO), tiny("ensemble", FACE, AUDIO, reports="ensemble")
    others = [
        tiny("face", FACE),
        tiny("audio", AUDIO),
        tiny("face alone", FACE, reports="encoder"),
        tiny("audio alone", AUDIO, reports="encoder"),
        tiny("longer", FACE, AUDIO, fit=FAST),
        tiny("objective", FACE, AUDIO, loss=FusionLoss(prototype_weight=0.3)),
        tiny("model", FACE, AUDIO, model=ClassWeightedConfig()),
        tiny("inputs", FACE, AUDIO, inputs="prob"),
        tiny("seeds", FACE, AUDIO, seeds=(11, 22)),
    ]
    models = made_up.models(*both, *others)
    assert models["single"].uri == models["ensemble"].uri
    assert len({row.uri for row in models.values()}) == 1 + len(others)
    described = replace(both[0], name="again", description="otherwise", published=None, source="elsewhere")
    assert made_up.models(described)["again"].uri == models["single"].uri
    # An encoder by itself is one artifact, whatever the fusion of its recipe is.
    alone = replace(others[2], fusion=replace(others[2].fusion, seeds=(1,), fit=FAST))
    assert made_up.models(alone)["face alone"].uri == models["face alone"].uri


def relabelled(clips: Sequence[ClipEmbeddings], clip_id: str, label: int | None) -> list[ClipEmbeddings]:
    return [
        replace(item, clip=replace(item.clip, labels=clip_labels(label))) if item.clip.clip_id == clip_id else item
        for item in clips
    ]


def test_the_place_changes_with_all_that_bears_on_the_training(made_up: "MadeUpStudy", tiny: Tiny) -> None:
    rows = tiny("fusion", FACE, AUDIO), tiny("alone", FACE, reports="encoder")
    clips = made_up.clips()

    def places(clips: Sequence[ClipEmbeddings], **protocol: Any) -> list[str]:
        return [row.uri for row in made_up.models(*rows, clips=clips, **protocol).values()]

    before = places(clips)
    assert places(made_up.clips()) == before
    private = [item for item in clips if item.clip.split == Split.PRIVATE]
    assert places([item for item in clips if item not in private]) == before, "clips without a label bear on nothing"
    assert {clip.clip.clip_id for clip in clips} >= {"train-00", "val-20"}
    others = [
        places(relabelled(clips, "train-00", 1)),
        places(relabelled(clips, "val-20", 1)),
        places(relabelled(clips, "train-00", None)),
        places([item for item in clips if item.clip.clip_id != "val-20"]),
        places(clips, protocol="validation+test"),
    ]
    for row in (0, 1):
        assert len({found[row] for found in [before, *others]}) == 1 + len(others)
    other = replace(made_up.part(AUDIO), encoder=made_up.encoder(AUDIO, value=1.0))
    parts = made_up.parts(*rows) | {("fusion", AUDIO): other}
    fusion, alone = models_of(
        rows, Made(parts=parts, runs={}), clips, str(made_up.root / "study"), "validation"
    ).values()
    assert fusion.uri != before[0], "of another encoder"
    assert alone.uri == before[1], "its own is the same"


# --- what the models are chosen on ---


def tensors(view: Any) -> list[torch.Tensor]:
    return [
        tensor
        for split in (view.train, view.validation, *view.scored_on)
        for tensor in (split.labels, split.inputs.mask, *split.inputs.tokens.values())
    ]


def reachable(view: object) -> list[torch.Tensor]:
    """All tensors that any chain of references leads to."""
    seen, frontier, found = set[int](), [view], list[torch.Tensor]()
    while frontier:
        thing: object = frontier.pop()
        if id(thing) not in seen and not isinstance(thing, type):
            seen.add(id(thing))
            if isinstance(thing, torch.Tensor):
                found.append(thing)
            else:
                frontier.extend(gc.get_referents(thing))
    return found


def test_the_test_splits_labels_bear_on_nothing_that_selects(made_up: "MadeUpStudy", tiny: Tiny) -> None:
    rows = tiny("fusion", FACE, AUDIO), tiny("alone", FACE, reports="encoder")
    true, flipped = made_up.clips(), made_up.clips(flipped=[Split.TEST])
    assert [a.clip.label for a in labelled(true, Split.TEST)] != [b.clip.label for b in labelled(flipped, Split.TEST)]
    honest = [made_up.models(*rows, clips=clips) for clips in (true, flipped)]
    assert [row.uri for row in honest[0].values()] == [row.uri for row in honest[1].values()]
    views = [selection_data(models["fusion"], clips) for models, clips in zip(honest, (true, flipped), strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(tensors(views[0]), tensors(views[1]), strict=True))
    assert [view.selected_on for view in views] == ["validation", "validation"]
    for view in views:
        assert view.scored_on == (view.validation,)
        assert (len(view.train.labels), len(view.validation.labels)) == (20, 12)
        assert {tuple(t.shape) for t in reachable(view)} == {(20,), (20, 2), (20, 4), (20, 3)} | {
            *((12,), (12, 2), (12, 4), (12, 3))
        }, "tensors of the 12 test clips: two splits of one size would hide them"
        assert len(reachable(view)) == 8
    papers = [made_up.models(*rows, clips=clips, protocol="validation+test") for clips in (true, flipped)]
    for name in ("fusion", "alone"):
        assert papers[0][name].uri != papers[1][name].uri
    views = [selection_data(models["fusion"], clips) for models, clips in zip(papers, (true, flipped), strict=True)]
    assert [view.selected_on for view in views] == ["validation+test"] * 2
    assert torch.equal(views[0].scored_on[1].labels, 1 - views[1].scored_on[1].labels)
    assert torch.equal(views[0].validation.labels, views[1].validation.labels)


def test_inputs_and_labels_are_the_clips_own(made_up: "MadeUpStudy", tiny: Tiny) -> None:
    models, clips = made_up.models(tiny("fusion", AUDIO, FACE)), made_up.clips()
    view = selection_data(models["fusion"], clips)
    audio, face = (made_up.part(view).encoder for view in (AUDIO, FACE))
    for split, found in ((view.train, Split.TRAIN), (view.validation, Split.VALIDATION)):
        own = [item for item in clips if item.clip.split == found]
        assert split.labels.tolist() == [item.clip.label for item in own]
        assert list(split.inputs.tokens) == [AUDIO, FACE]
        assert split.inputs.mask.tolist() == [[item.by_encoder[audio].presence.present, True] for item in own]
        for row, item in enumerate(own):
            np.testing.assert_array_equal(split.inputs.tokens[FACE][row].numpy()[None], item.by_encoder[face].vectors)


def test_a_split_that_the_protocol_needs_must_have_labels(made_up: "MadeUpStudy", tiny: Tiny) -> None:
    fusion = tiny("fusion", FACE)
    needed: list[tuple[Split, SelectionProtocol]] = [
        (Split.VALIDATION, "validation"),
        (Split.TEST, "validation+test"),
    ]
    for split, protocol in needed:
        clips = [item for item in made_up.clips() if item.clip.split != split]
        with pytest.raises(SelectionError, match=f"no labelled {split} split"):
            selection_data(made_up.models(fusion, clips=clips, protocol=protocol)["fusion"], clips)
    clips = [item for item in made_up.clips() if item.clip.split != Split.TEST]
    assert len(selection_data(made_up.models(fusion, clips=clips)["fusion"], clips).train.labels) == 20


# --- training ---


def test_every_seed_is_the_candidate_trained_by_itself(made_up: "MadeUpStudy", tiny: Tiny, ray_here: "RayHere") -> None:
    """The stand-in for Ray finishes the last seed first: the artifact has them in the recipe's order all the same."""
    fusion, clips = tiny("fusion", FACE, AUDIO), made_up.clips()
    row = made_up.trained(fusion)["fusion"]
    card, saved = artifacts.read_card(row.uri), artifacts.load_tensors(row.uri)
    assert card.seeds == (11, 22, 33)
    assert list(card.metrics["validation_score"]) == ["11", "22", "33"]
    scores: list[float] = []
    for seed in (11, 22, 33):
        store, of_seed = CandidateStore(str(made_up.root / f"seed-{seed}"), {}), replace(fusion.fusion, seeds=(seed,))
        (result,) = train_candidate({}, of_seed, selection_data(row, clips), store, objective=Objective())
        for name, tensor in store.state(seed).items():
            assert torch.equal(saved[f"seed-{seed}.{name}"], tensor), "the same seed is not the same, bit for bit"
        assert card.metrics["validation_score"][str(seed)] == result.validation_score
        scores.append(result.validation_score)
    weights = [saved[f"seed-{seed}.classifier.weight"] for seed in (11, 22, 33)]
    assert not any(torch.equal(a, b) for a, b in ((weights[0], weights[1]), (weights[1], weights[2])))
    assert card.metrics["validation_score_mean"] == pytest.approx(np.mean(scores))
    assert card.metrics["validation_score_std"] == pytest.approx(np.std(scores))
    assert np.mean(scores) > 0.7, "the planted signal was not learnt"
    assert (card.recipe, card.selected_on, card.weights) == ("fusion", "validation", "debug")
    assert card.data["clips"] == {"train": 20, "val": 12}
    encoders = {str(m): artifacts.read_card(made_up.part(m).encoder).artifact_id for m in (FACE, AUDIO)}
    assert card.data["encoders"] == card.architecture["encoders"] == encoders
    assert Ensemble.load(row.uri).config.media.face_frames == 7
    assert not list(Path(row.uri).rglob("candidates/*/*.safetensors")), "the models are there twice"


def test_what_selects_is_written_into_every_artifact(made_up: "MadeUpStudy", tiny: Tiny, ray_here: "RayHere") -> None:
    rows = tiny("fusion", FACE, AUDIO, seeds=(1,), fit=FAST), tiny("alone", FACE, reports="encoder")
    for protocol in ("validation", "validation+test"):
        models = made_up.trained(*rows, protocol=protocol)
        for row in models.values():
            assert artifacts.read_card(row.uri).selected_on == protocol
            whole = save_whole(row, row.recipe, str(made_up.root / "whole"))
            assert whole.selected_on == protocol


def test_what_is_trained_is_left_alone(made_up: "MadeUpStudy", tiny: Tiny, ray_here: "RayHere") -> None:
    rows = (
        tiny("single", FACE, AUDIO, fit=FAST),
        tiny("ensemble", FACE, AUDIO, fit=FAST, reports="ensemble"),
        tiny("alone", FACE, reports="encoder"),
    )
    models, clips, done = made_up.models(*rows), made_up.clips(), list[int]()
    assert [row.card() for row in models.values()] == [None] * 3
    train_rows(list(models.values()), clips, 0.0, lambda: done.append(1))
    assert len(ray_here.started) == 3, "one task for each seed of the one fusion"
    assert len(done) == 2, "two models: the first two rows share theirs"
    before = {path: path.stat().st_mtime_ns for path in made_up.root.rglob("*") if path.is_file()}
    train_rows(list(models.values()), clips, 0.0, lambda: done.append(1))
    assert (len(ray_here.started), len(done)) == (3, 4)
    assert {path: path.stat().st_mtime_ns for path in made_up.root.rglob("*") if path.is_file()} == before
    assert all(row.card() is not None for row in models.values())


def test_a_seed_that_is_finished_survives_an_interruption(
    made_up: "MadeUpStudy", tiny: Tiny, ray_here: "RayHere", monkeypatch: pytest.MonkeyPatch
) -> None:
    row, clips = made_up.models(tiny("fusion", FACE, fit=FAST))["fusion"], made_up.clips()

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(ray_here, "wait", kill)
        with pytest.raises(KeyboardInterrupt):
            train_rows([row], clips, 0.0, lambda: None)
    assert row.card() is None
    finished = {path.stem: path for path in Path(row.uri).rglob("seed-*.json")}
    assert finished.keys() == {"seed-11", "seed-22", "seed-33"}
    said = json.loads(finished["seed-22"].read_text())
    finished["seed-22"].write_text(json.dumps(said | {"validation_score": 0.123}))
    train_rows([row], clips, 0.0, lambda: None)
    card = row.card()
    assert card is not None
    assert card.metrics["validation_score"]["22"] == 0.123, "it was trained again"


def diverge(monkeypatch: pytest.MonkeyPatch, *seeds: int) -> None:
    """Has these seeds train with steps so large that their loss is soon no number."""

    def steep(model: Any, train: Any, validation: Any, config: FitConfig, *, seed: int, **rest: Any) -> FitResult:
        config = replace(config, learning_rate=1e30) if seed in seeds else config
        return fit(model, train, validation, config, seed=seed, **rest)

    monkeypatch.setattr("twominds.search.candidate.fit", steep)


def test_a_seed_that_diverges_leaves_its_row_to_the_others(
    made_up: "MadeUpStudy", tiny: Tiny, ray_here: "RayHere", monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, done = (tiny("fusion", FACE, AUDIO, fit=FAST), tiny("other", FACE, fit=FAST)), list[int]()
    whole = made_up.trained(*rows, folder="whole")
    diverge(monkeypatch, 22)
    models = made_up.models(*rows)
    for _ in range(2):  # the second time they are there
        assert train_rows(list(models.values()), made_up.clips(), 0.0, lambda: done.append(1)) == {}
        for name, row in models.items():
            card = row.card()
            assert card is not None
            assert (card.seeds, list(card.metrics["validation_score"])) == ((11, 33), ["11", "33"])
            assert re.match(r"2 of 3 seeds\. Seed 22: The training loss is .* \(seed 22\)\.", what_is_lost(card))
            tensors, expected = (artifacts.load_tensors(models[name].uri) for models in (models, whole))
            assert {key for key in expected if not key.startswith("seed-22.")} == set(tensors)
            assert all(torch.equal(tensors[key], expected[key]) for key in tensors)
            assert what_is_lost(artifacts.read_card(whole[name].uri)) == ""
    assert len(done) == 4


def test_a_row_of_which_every_seed_diverges_is_not_made_and_the_others_are(
    made_up: "MadeUpStudy", tiny: Tiny, ray_here: "RayHere", monkeypatch: pytest.MonkeyPatch
) -> None:
    diverge(monkeypatch, 11, 22)
    rows = tiny("lost", FACE, AUDIO, fit=FAST, seeds=(11, 22)), tiny("made", FACE, fit=FAST, seeds=(33,))
    models, done = made_up.models(*rows), list[int]()
    unmade = train_rows(list(models.values()), made_up.clips(), 0.0, lambda: done.append(1))
    assert list(unmade) == [models["lost"].uri]
    assert all(f"(seed {seed})" in unmade[models["lost"].uri].reason for seed in (11, 22))
    assert (models["lost"].card() is None, models["made"].card() is None) == (True, False)
    assert len(done) == 2


# --- embeddings from disk ---


BROKEN: dict[View, str] = {FACE: "train-00", AUDIO: "val-20"}
"""The clip that each encoder could not be brought to."""


@pytest.fixture
def on_disk(made_up: "MadeUpStudy") -> list[StudyPart]:
    """The made-up embeddings of face and audio as `jobs/embed.py` leaves them."""
    parts = [made_up.part(FACE), made_up.part(AUDIO)]
    for part in parts:
        columns = [*tables.WITHOUT_WORDS, *(field.name for field in tables.embedding_fields(part.view))]
        fields: list[pa.Field[Any]] = [tables.CLIP_SCHEMA.field(name) for name in tables.WITHOUT_WORDS]
        schema = pa.schema([*fields, *tables.embedding_fields(part.view), *ERROR_FIELDS])
        rows = list[tables.Row]()
        for item in made_up.clips():
            row = tables.clip_to_row(replace(item.clip, video_uri="/v.mp4"))
            row |= tables.embedding_to_row(item.by_encoder[part.encoder])
            broken = item.clip.clip_id == BROKEN[part.view]
            rows.append(row | {"error_stage": "encoders", "error": "/v.mp4 is broken" if broken else ""})
        ClipSink(part.embeddings, columns).write_table(pa.Table.from_pylist(rows, schema=schema))
    return parts


def test_embeddings_come_back_from_disk_and_no_clip_is_lost(made_up: "MadeUpStudy", on_disk: list[StudyPart]) -> None:
    found, expected = read_embeddings(on_disk), made_up.clips()
    assert [replace(item.clip, video_uri="") for item in found] == [item.clip for item in expected]
    for one, other in zip(found, expected, strict=True):
        for part in on_disk:
            if one.clip.clip_id == BROKEN[part.view]:
                assert part.encoder not in one.by_encoder
                continue
            ours, theirs = one.by_encoder[part.encoder], other.by_encoder[part.encoder]
            assert ours.presence == theirs.presence
            np.testing.assert_array_equal(ours.vectors, theirs.vectors)
            np.testing.assert_array_equal(ours.logits, theirs.logits)
    assert labelled(found, Split.PRIVATE) == []
    chosen_on = read_embeddings(on_disk, [Split.TRAIN, Split.VALIDATION])
    assert [item.clip for item in chosen_on] == [
        item.clip for item in found if item.clip.split in (Split.TRAIN, Split.VALIDATION)
    ]


def test_a_clip_that_an_encoder_could_not_be_brought_to_counts_and_has_no_score(
    made_up: "MadeUpStudy", on_disk: list[StudyPart], tiny: Tiny, ray_here: "RayHere"
) -> None:
    both, face = tiny("both", FACE, AUDIO, fit=FAST), tiny("face", FACE, fit=FAST)
    clips = read_embeddings(on_disk)
    models = made_up.trained(both, face, clips=clips)
    assert models["both"].uri != made_up.models(both)["both"].uri, "it was trained on other clips"
    data = selection_data(models["both"], clips)
    assert (len(data.train.labels), int(data.train.inputs.any_present().sum())) == (20, 19)
    card = models["both"].card()
    assert card is not None
    assert card.data["clips"] == {"train": 20, "val": 12}
    assert card.data["train_labels"] == {"no_ah": 10, "ah": 10}
    validation = labelled(clips, Split.VALIDATION)
    at, points = [item.clip.clip_id for item in validation].index("val-20"), labelled_points(validation, AH_VIDEO)
    for guess, prior in ((0, (0.5, 0.5)), (1, (0.4, 0.6))):
        found = answers(models["both"], both, validation, points, prior)
        assert found.probabilities is not None
        assert np.isnan(found.probabilities[:, at]).all(), "the service would not score it either"
        assert found.predictions[:, at].tolist() == [guess] * 3
        assert np.isnan(found.probabilities).sum() == 3
    assert answers(models["face"], face, validation, points, (0.5, 0.5)).answered.all(), "it hears nothing"


@pytest.mark.parametrize("name", ["both", "audio"])
def test_a_card_and_a_table_measure_the_same(
    made_up: "MadeUpStudy", on_disk: list[StudyPart], tiny: Tiny, ray_here: "RayHere", name: str
) -> None:
    """Of 12 validation clips one was broken, and of three there is no sound: they count in both."""
    recipes = {"both": tiny("both", FACE, AUDIO, fit=FAST), "audio": tiny("audio", AUDIO, fit=FAST)}
    clips = read_embeddings(on_disk)
    row = made_up.trained(recipes[name], clips=clips)[name]
    validation, card = labelled(clips, Split.VALIDATION), row.card()
    assert card is not None
    points = labelled_points(validation, AH_VIDEO)
    found = answers(row, recipes[name], validation, points, (0.5, 0.5))  # the first class is as frequent as the other
    assert found.probabilities is not None
    assert np.isnan(found.probabilities[0]).sum() == {"both": 1, "audio": 4}[name]
    labels = [item.clip.label or 0 for item in validation]
    measured = [macro_f1(labels, predictions, 2) for predictions in found.predictions]
    assert [*card.metrics["validation_score"].values()] == pytest.approx(measured)
    seen = ~np.isnan(found.probabilities[0])
    among = [macro_f1(np.array(labels)[seen], predictions[seen], 2) for predictions in found.predictions]
    assert among != pytest.approx(measured), "the example shows nothing"

"""What the service answers for each kind of task: what is null, what is named how, and that the example is one."""

import json
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from fastapi import FastAPI

from twominds.artifacts import Card
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.records import (
    PRESENT,
    ClipMedia,
    Contributions,
    Modality,
    Score,
    ScoredSegment,
    Timeline,
    ViewScore,
    absent,
)
from twominds.scoring.decision import Decision, Smooth
from twominds.scoring.members import EnsembleConfig, Member
from twominds.serving.answers import EXAMPLE, DurationsAnswer, ModelAnswer, ScoreAnswer
from twominds.serving.app import ServeArgs, model_answer
from twominds.serving.ingress import RayScoringService, seed_answer
from twominds.tasks import AH_FRAME, AH_VIDEO, EXPRESSION, MIMICRY, TASKS, Task

DURATIONS = DurationsAnswer(upload=0, decode=0, encoders={}, fusion=0, total=0)
MEDIA = ClipMedia(
    clip_id="a",
    duration_s=2.0,
    scene_frames=None,
    face_crops=None,
    face_detected=None,
    audio=None,
    transcript=None,
    transcript_source="",
    presence=dict.fromkeys(Modality, PRESENT),
)


def model_of(task: Task) -> ModelAnswer:
    card = Card(kind="ensemble", task=task, recipe="test", config={}, seeds=(42, 2025))
    config = EnsembleConfig(fusion=TransformerFusionConfig(), decision=Decision(steps=(Smooth(radius=2.0),)))
    return model_answer(card, config, ServeArgs(ensemble="here", models="there"))


def score_of(task: Task, **more: Any) -> Score:
    outputs = np.arange(1, 2 * task.num_outputs + 1).reshape(2, -1) / (4 * task.num_outputs)
    fields: dict[str, Any] = {
        "clip_id": "a",
        "probabilities": tuple(outputs.mean(axis=0).tolist()),
        "label": 1 if task is AH_VIDEO else None,
        "threshold": 0.5,
        "seed_probabilities": (0.25, 0.75),
        "views": (
            ViewScore(view="face.effnet", presence=PRESENT, probability=0.25 if task.is_binary else None),
            ViewScore(view="text", presence=absent("no words"), probability=None),
        ),
        "artifact_id": "abc",
        "weights": "published",
    }
    if task.per_frame:
        segment = ScoredSegment(start_s=0.12345, end_s=1.0, label=1, probability=0.5)
        fields["timeline"] = Timeline(
            points_s=np.array([0.12345, 1.0]), outputs=outputs, labels=np.array([1, 1]), segments=(segment,)
        )
    return Score(**(fields | more))


def answer_to(task: Task, **more: Any) -> dict[str, Any]:
    """The JSON of a score."""
    service = cast(Any, RayScoringService.__new__(RayScoringService))
    service.model = model_of(task)
    answer: ScoreAnswer = service._answer(MEDIA, score_of(task, **more), DURATIONS)
    return json.loads(answer.model_dump_json())


def test_two_classes_of_a_clip() -> None:
    answer = answer_to(AH_VIDEO)
    assert (answer["label"], answer["label_index"], answer["threshold"]) == ("ah", 1, 0.5)
    assert answer["probability"] == answer["classes"]["ah"] == pytest.approx(3 / 8)
    assert (answer["intensities"], answer["timeline"], answer["contributions"]) == (None, None, None)
    spread = {"probabilities": {"42": 0.25, "2025": 0.75}, "std": 0.25, "min": 0.25, "max": 0.75}
    assert answer["seeds"] == spread
    assert answer["modalities"]["face.effnet"] == {"present": True, "reason": None, "probability": 0.25}
    assert answer["modalities"]["text"] == {"present": False, "reason": "no words", "probability": None}
    assert answer["transcript_source"] is None


def test_intensities_of_a_clip() -> None:
    answer = answer_to(MIMICRY)
    assert [answer[name] for name in ("label", "label_index", "probability", "threshold", "classes", "timeline")] == [
        None
    ] * 6
    assert list(answer["intensities"]) == list(MIMICRY.names)
    assert answer["intensities"]["Admiration"] == pytest.approx((1 + 7) / 2 / 24)
    assert not answer["abstains"]
    assert answer["seeds"] is None  # of which of the six would it be?


def test_two_classes_of_frames() -> None:
    answer = answer_to(AH_FRAME)
    assert (answer["label"], answer["label_index"], answer["intensities"]) == (None, None, None)
    assert (answer["probability"], answer["threshold"]) == (pytest.approx(3 / 8), 0.5)
    assert answer["timeline"] == {
        "times_s": [0.123, 1.0],
        "outputs": {"no_ah": [0.125, 0.375], "ah": [0.25, 0.5]},
        "segments": [{"start_s": 0.123, "end_s": 1.0, "label": "ah", "probability": 0.5}],
    }


def test_several_classes_of_frames() -> None:
    answer = answer_to(EXPRESSION)
    assert [answer[name] for name in ("label", "label_index", "probability", "threshold", "intensities")] == [None] * 5
    assert list(answer["classes"]) == list(EXPRESSION.names)
    assert list(answer["timeline"]["outputs"]) == list(EXPRESSION.names)
    assert answer["timeline"]["segments"][0]["label"] == "Anger"


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_card_says_what_is_answered(task: Task) -> None:
    found = model_of(task)
    assert (found.task, found.unit, found.classes) == (task.name, task.unit, list(task.names))
    assert found.output == ("intensities" if task is MIMICRY else "classes")
    assert found.decision == [{"kind": "smooth", "kernel": "mean", "radius": 2.0, "unit": "s"}]
    assert (found.seeds, found.members) == ([42, 2025], ["42", "2025"])


def test_members_are_named_where_they_are_no_seeds() -> None:
    config = EnsembleConfig(fusion=TransformerFusionConfig(), members=(Member(name="head"), Member(name="seed-7")))
    card = Card(kind="ensemble", task=AH_VIDEO, recipe="test", config={}, seeds=(7,))
    found = model_answer(card, config, ServeArgs(ensemble="here", models="there"))
    assert (found.seeds, found.members) == ([7], ["head", "7"])


def test_contributions_are_named() -> None:
    made_of = Contributions(
        prior=(-1.0,),
        by_modality={Modality.FACE: (1.5,), Modality.TEXT: (-0.5,)},
        opposed=(Modality.FACE, Modality.TEXT),
        interaction=0.25,
    )
    assert answer_to(AH_VIDEO, contributions=made_of)["contributions"] == {
        "prior": {"ah": -1.0},
        "modalities": {"face": {"ah": 1.5}, "text": {"ah": -0.5}},
        "opposed": ["face", "text"],
        "interaction": 0.25,
    }
    six = tuple(i / 8 for i in range(6))
    of_six = replace(made_of, prior=six, by_modality={Modality.FACE: six}, opposed=None, interaction=0.0)
    found = answer_to(MIMICRY, contributions=of_six)["contributions"]
    assert found["prior"] == found["modalities"]["face"] == dict(zip(MIMICRY.names, six, strict=True))
    assert found["opposed"] is None


def test_models_that_see_nothing_of_a_clip_say_nothing() -> None:
    """No number that JSON does not have."""
    found = seed_answer(["face", "text", "42"], (0.25, float("nan"), 0.75))
    assert found.probabilities == {"face": 0.25, "42": 0.75}
    assert (found.std, found.min, found.max) == (0.25, 0.25, 0.75)
    assert seed_answer(["one"], (0.5,)).std == 0


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_answer_fits_its_model(task: Task) -> None:
    ScoreAnswer.model_validate(answer_to(task))


def test_the_example_of_the_document_is_an_answer(api: FastAPI) -> None:
    example = ScoreAnswer.model_validate(EXAMPLE, strict=False)
    assert set(EXAMPLE) == set(ScoreAnswer.model_fields), "no field is left out, none is made up"
    assert sum(example.classes.values()) == pytest.approx(1)  # type: ignore[union-attr]
    made_of = example.contributions
    assert made_of is not None
    said = made_of.prior["ah"] + sum(values["ah"] for values in made_of.modalities.values())
    assert said == pytest.approx(np.log(example.probability / (1 - example.probability)), abs=0.01)  # type: ignore[operator]
    assert {view for view, part in example.modalities.items() if part.present} == set(made_of.modalities)
    schema = api.openapi()
    examples = [
        media.get("example")
        for path in schema["paths"].values()
        for method in path.values()
        for response in method.get("responses", {}).values()
        for media in response.get("content", {}).values()
        if "example" in media
    ]
    shown = {name: value for name, value in EXAMPLE.items() if value is not None}  # as FastAPI writes documents
    assert shown in examples

"""What an ensemble says of clips and frames, what its scores are made of, and folders of before there were views."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch

from twominds.artifacts import Card, from_json, read_card, to_json
from twominds.errors import ArtifactError
from twominds.fusion.catalog import FusionConfig, build_fusion
from twominds.fusion.simple import ClassWeightedConfig, ConcatMLPConfig
from twominds.fusion.transformer import TransformerFusionConfig
from twominds.records import (
    PRESENT,
    Contributions,
    Embedding,
    Failure,
    Modality,
    Score,
    Timeline,
    View,
    absent,
    modality_of,
)
from twominds.scoring.decision import Clamp, Decision, Filter, Smooth, Threshold
from twominds.scoring.ensemble import Ensemble, training_prior, uniform_points
from twominds.scoring.members import EnsembleConfig, Member, member_models, seed_name
from twominds.scoring.timeline import timeline
from twominds.tasks import AH_FRAME, AH_VIDEO, EXPRESSION, MIMICRY, TASKS, Classes, Task

VIEWS: tuple[View, ...] = ("scene", "face", "face.effnet", "text")
MLP = ConcatMLPConfig(hidden_dim=6, dropout=0.0)
DATA: dict[str, dict[str, Any]] = {
    "ah-video": {"train_labels": {"no_ah": 30, "ah": 10}},
    "ah-frame": {"train_labels": {"no_ah": 300, "ah": 100}},
    "expression": {"train_labels": {name: 10 + 5 * i for i, name in enumerate(EXPRESSION.names)}},
    "mimicry": {"train_means": {name: 0.1 + 0.1 * i for i, name in enumerate(MIMICRY.names)}},
}


def ensemble_of(
    task: Task,
    *,
    fusion: FusionConfig = MLP,
    views: tuple[View, ...] = VIEWS,
    decision: Decision | None = None,
    members: tuple[Member, ...] = (),
) -> Ensemble:
    """Two seeds of random weights (or the members), as they would be loaded."""
    dims = {view: 3 + i for i, view in enumerate(views)}
    config = EnsembleConfig(fusion=fusion, views=views, decision=decision or Decision(), members=members)
    card = Card(kind="ensemble", task=task, recipe="test", config={}, seeds=(1, 2), data=DATA[task.name])
    whole = config.members_of(card.seeds)
    states = {
        member.name: build_fusion(
            member.fusion or fusion, dims={v: dims[v] for v in member.views}, num_outputs=task.num_outputs, seed=seed
        ).state_dict()
        for seed, member in enumerate(whole)
    }
    return Ensemble(member_models(states, whole, dims, task.num_outputs), config, dims, card)


def clip_of(
    task: Task, seed: int = 0, *, gone: tuple[Modality, ...] = (), points: int = 5, views: tuple[View, ...] = VIEWS
) -> dict[View, Embedding]:
    draw, found = np.random.default_rng(seed), dict[View, Embedding]()
    points_s = np.linspace(0.25, points / 2 - 0.25, points) if task.per_frame else None
    for i, view in enumerate(views):
        there = modality_of(view) not in gone
        vectors = 3 * draw.standard_normal((points if task.per_frame else 1, 3 + i)).astype(np.float32)
        found[view] = Embedding(
            clip_id=f"clip-{seed}",
            view=view,
            presence=PRESENT if there else absent(f"no {view}"),
            vectors=vectors if there else None,
            points_s=points_s,
        )
    return found


def scored(ensemble: Ensemble, clip: Mapping[View, Embedding], *, explain: bool = True) -> Score:
    (score,) = ensemble.score([clip], explain=explain)
    assert isinstance(score, Score)
    return score


def parts(score: Score) -> Contributions:
    assert score.contributions is not None
    return score.contributions


def total(found: Contributions) -> npt.NDArray[np.float64]:
    return np.array(found.prior) + np.sum([np.array(values) for values in found.by_modality.values()], axis=0)


def odds(probabilities: npt.ArrayLike) -> npt.NDArray[np.float64]:
    chance = np.asarray(probabilities, np.float64)
    return np.log(chance / (1 - chance))


def asked_about(task: Task, outputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of outputs [P, K]: what contributions add up to, as a mean over the points."""
    if task.is_binary:
        return odds(outputs[:, -1:]).mean(axis=0)
    return (odds(outputs) if isinstance(task.output, Classes) else outputs).mean(axis=0)


def outputs_of(score: Score) -> npt.NDArray[np.float64]:
    return np.array([score.probabilities]) if score.timeline is None else score.timeline.outputs


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("gone", [(), (Modality.SCENE,), (Modality.FACE, Modality.TEXT)], ids=str)
def test_contributions_add_up_to_what_is_said(task: Task, gone: tuple[Modality, ...]) -> None:
    ensemble = ensemble_of(task)
    score = scored(ensemble, clip_of(task, gone=gone))
    found = parts(score)
    np.testing.assert_allclose(total(found), asked_about(task, outputs_of(score)), atol=1e-9)
    assert set(found.by_modality) == {Modality.SCENE, Modality.FACE, Modality.TEXT} - set(gone)
    width = 1 if task.is_binary else task.num_outputs
    assert {len(values) for values in (found.prior, *found.by_modality.values())} == {width}
    np.testing.assert_allclose(found.prior, asked_about(task, np.array([training_prior(ensemble.card)])), atol=1e-12)
    again = scored(ensemble, clip_of(task, gone=gone), explain=False)
    assert again.contributions is None
    assert again.probabilities == score.probabilities, "to be explained changes no score"


def test_priors_by_hand() -> None:
    assert parts(scored(ensemble_of(AH_VIDEO), clip_of(AH_VIDEO))).prior == pytest.approx([np.log(1 / 3)])
    found = parts(scored(ensemble_of(MIMICRY), clip_of(MIMICRY))).prior
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    unknown = ensemble_of(MIMICRY)
    unknown.card = replace(unknown.card, data={})
    assert parts(scored(unknown, clip_of(MIMICRY))).prior == pytest.approx([0.5] * 6)


def test_the_contribution_of_the_only_modality_is_all_that_is_beyond_the_prior() -> None:
    score = scored(ensemble_of(AH_VIDEO), clip_of(AH_VIDEO, gone=(Modality.SCENE, Modality.FACE)))
    (only,) = parts(score).by_modality[Modality.TEXT]
    assert only == pytest.approx(odds(score.probabilities[1]) - np.log(1 / 3), abs=1e-9)
    assert parts(score).opposed is None


def test_two_modalities_against_scores_without_each() -> None:
    """A Shapley value of two players: half of what it is alone, half of what it adds to the other."""
    ensemble = ensemble_of(AH_VIDEO)
    both, scene, face = (
        scored(ensemble, clip_of(AH_VIDEO, 3, gone=(Modality.TEXT, *gone)))
        for gone in ((), (Modality.FACE,), (Modality.SCENE,))
    )
    v, prior = [float(odds(score.probabilities[1])) for score in (both, scene, face)], float(np.log(1 / 3))
    found = parts(both).by_modality
    assert found[Modality.SCENE][0] == pytest.approx(((v[1] - prior) + (v[0] - v[2])) / 2, abs=1e-6)
    assert found[Modality.FACE][0] == pytest.approx(((v[2] - prior) + (v[0] - v[1])) / 2, abs=1e-6), "with both views"


def test_two_views_of_a_modality_are_one_player() -> None:
    """Both are there or gone together, and so they are to whoever is asked what they add."""
    found = parts(scored(ensemble_of(AH_VIDEO), clip_of(AH_VIDEO)))
    assert set(found.by_modality) == {Modality.SCENE, Modality.FACE, Modality.TEXT}


@pytest.mark.parametrize("task", [AH_VIDEO, MIMICRY, EXPRESSION], ids=lambda task: task.name)
def test_a_modality_that_no_model_looks_at_adds_nothing(task: Task) -> None:
    """The first member is of the face, the second of face and text: nobody looks at the scene."""
    members = (Member(name="one", views=("face",)), Member(name="two", views=("face.effnet", "text"), weight=2.0))
    score = scored(ensemble_of(task, members=members), clip_of(task))
    found = parts(score)
    assert found.by_modality[Modality.SCENE] == pytest.approx([0.0] * len(found.prior), abs=1e-6)
    assert all(max(map(abs, found.by_modality[m])) > 1e-3 for m in (Modality.FACE, Modality.TEXT))
    np.testing.assert_allclose(total(found), asked_about(task, outputs_of(score)), atol=1e-9)


def test_opposed_are_two_that_pull_apart_and_both_are_there() -> None:
    ensemble, seen = ensemble_of(AH_VIDEO), 0
    ensemble.card = replace(ensemble.card, data={})  # nothing is said beforehand
    for seed in range(12):
        found = parts(scored(ensemble, clip_of(AH_VIDEO, seed)))
        signs = {m: np.sign(values[0]) for m, values in found.by_modality.items()}
        assert (found.opposed is None) == (len(set(signs.values())) == 1)
        if found.opposed is not None:
            seen += 1
            assert (signs[found.opposed[0]], signs[found.opposed[1]]) == (1, -1)
    assert seen


def test_of_many_points_some_are_asked() -> None:
    assert uniform_points(5, 256).tolist() == [0, 1, 2, 3, 4]
    chosen = uniform_points(1000, 256)
    assert (len(chosen), chosen[0], chosen[-1]) == (256, 0, 999)
    assert {int(b - a) for a, b in pairwise(chosen)} == {3, 4}
    task = AH_FRAME
    score = scored(ensemble_of(task), clip_of(task, points=700))
    some = outputs_of(score)[uniform_points(700, 256)]
    np.testing.assert_allclose(total(parts(score)), odds(some[:, -1:]).mean(axis=0), atol=1e-9)


def test_together_and_alone_the_scores_are_the_same() -> None:
    for task in (AH_VIDEO, EXPRESSION):
        ensemble = ensemble_of(task)
        clips = [clip_of(task, seed, points=3 + seed, gone=(Modality.FACE,) if seed == 1 else ()) for seed in range(3)]
        nothing = clip_of(task, 9, gone=tuple(Modality))
        results = ensemble.score([*clips[:1], nothing, *clips[1:]])
        assert isinstance(results[1], Failure)
        assert "scene: no scene; face: no face; face.effnet: no face.effnet; text: no text" in results[1].reason
        for clip, together in zip(clips, [results[0], *results[2:]], strict=True):
            alone = scored(ensemble, clip, explain=False)
            assert isinstance(together, Score)
            np.testing.assert_allclose(together.probabilities, alone.probabilities, rtol=1e-5)
            assert together.clip_id == alone.clip_id


def test_the_mean_of_seeds_against_numpy() -> None:
    ensemble, clip = ensemble_of(EXPRESSION), clip_of(EXPRESSION)
    score, by_seed = scored(ensemble, clip, explain=False), ensemble.probabilities([clip])
    assert by_seed.shape == (2, 5, 8)
    np.testing.assert_allclose(by_seed.sum(axis=-1), 1, rtol=1e-12)
    np.testing.assert_allclose(outputs_of(score), by_seed.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(score.probabilities, by_seed.mean(axis=(0, 1)), rtol=1e-12)
    np.testing.assert_allclose(score.seed_probabilities, by_seed[..., -1].mean(axis=1), rtol=1e-12)
    assert (score.label, score.abstains) == (None, False)
    mimicry = ensemble_of(MIMICRY)
    values, of_clip = mimicry.probabilities([clip_of(MIMICRY)]), scored(mimicry, clip_of(MIMICRY))
    np.testing.assert_allclose(of_clip.seed_probabilities, values[:, 0, 0], rtol=1e-12)
    assert (of_clip.label, of_clip.timeline) == (None, None)


def test_steps_of_the_decision_are_taken() -> None:
    smooth, clip = Decision(steps=(Smooth(radius=1, unit="points"),)), clip_of(AH_FRAME)
    plain = outputs_of(scored(ensemble_of(AH_FRAME), clip))
    found = outputs_of(scored(ensemble_of(AH_FRAME, decision=smooth), clip))
    expected = [plain[max(0, i - 1) : i + 2].mean(axis=0) for i in range(5)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    clamp = Decision(steps=(Clamp(low=0.45, high=0.55),))
    values = scored(ensemble_of(MIMICRY), clip_of(MIMICRY)).probabilities
    assert scored(ensemble_of(MIMICRY, decision=clamp), clip_of(MIMICRY)).probabilities == pytest.approx(
        np.clip(values, 0.45, 0.55)
    )


TIMES = np.array([0.5, 1.0, 1.5, 2.5, 3.0])


def test_a_timeline_of_two_classes_by_hand() -> None:
    chance = np.array([0.7, 0.2, 0.9, 0.8, 0.4])
    decision = Decision(steps=(Threshold(value=0.5),))
    found = timeline(TIMES, np.stack([1 - chance, chance], axis=1), decision, AH_FRAME)
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0, 1, 1, 0]
    spans = [(s.start_s, s.end_s, s.label, s.probability) for s in found.segments]
    assert spans == [
        (0.25, 0.75, 1, pytest.approx(0.7)),  # half-way to the next, and as far before the first
        (1.25, 2.75, 1, pytest.approx(0.85)),
    ]
    filled = timeline(
        TIMES, np.stack([1 - chance, chance], axis=1), Decision(steps=(Filter(longest_gap_s=0.5),)), AH_FRAME
    )
    (one,) = filled.segments
    assert (one.start_s, one.end_s, one.probability) == (0.25, 2.75, pytest.approx((0.7 + 0.2 + 0.9 + 0.8) / 4))


def test_a_timeline_of_several_classes_by_hand() -> None:
    outputs = np.full((5, 8), 0.05)
    outputs[[0, 1, 2, 3, 4], [4, 4, 0, 7, 7]] = [0.65, 0.45, 0.65, 0.65, 0.55]
    found = timeline(TIMES, outputs, Decision(), EXPRESSION)
    assert found.labels is not None
    assert found.labels.tolist() == [4, 4, 0, 7, 7]
    spans = [(s.start_s, s.end_s, s.label, s.probability) for s in found.segments]
    assert spans == [
        (0.25, 1.25, 4, pytest.approx(0.55)),
        (1.25, 2.0, 0, pytest.approx(0.65)),
        (2.0, 3.25, 7, pytest.approx(0.6)),
    ]


def test_intensities_over_time_have_no_segments() -> None:
    outputs = np.random.default_rng(0).random((5, 6))
    found = timeline(TIMES, outputs, Decision(), replace(MIMICRY, unit="frame"))
    assert isinstance(found, Timeline)
    assert (found.labels, found.segments) == (None, ())


FUSION = TransformerFusionConfig(hidden_dim=8, num_layers=1, num_heads=2, prototypes_per_class=0)


def write_as_before(folder: Path, **changes: Any) -> dict[int, Any]:
    """An ensemble as it was written when each modality had one view; its models by seed."""
    dims = {"scene": 3, "face": 4, "audio": 5, "text": 6}
    models = {seed: build_fusion(FUSION, dims=dims, num_outputs=2, seed=seed).eval() for seed in (42, 7)}
    tensors = {f"seed-{seed}.{name}": t for seed, model in models.items() for name, t in model.state_dict().items()}
    config = {
        "fusion": to_json(FUSION),
        "inputs": "emb",
        "modalities": ["scene", "face", "audio", "text"],
        "media": {"scene_frames": 16, "decoder_threads": 1},
        "decision": {"threshold": 0.4, "temperature": 2.0, "bias": -0.5, "abstain_band": 0.05},
    } | changes
    architecture = {"dims": dims, "encoders": {name: f"{i:012}" for i, name in enumerate(dims)}}
    payload = safetensors.torch.save(tensors)
    digest = hashlib.sha256(payload + json.dumps([config, architecture], sort_keys=True).encode()).hexdigest()[:12]
    card = {
        "kind": "ensemble",
        "artifact_id": digest,
        "task": {"name": "ah-video", "classes": ["no_ah", "ah"]},
        "recipe": "leya/demo",
        "config": config,
        "architecture": architecture,
        "data": {"train_labels": {"no_ah": 3, "ah": 1}},
        "metrics": {"validation_mf1": {"42": 0.7, "7": 0.6}, "validation_mf1_mean": 0.65},
        "selected_on": "validation",
        "seeds": [42, 7],
        "backbones": [],
        "versions": {"torch": "2"},
        "created": "2026-01-01T00:00:00+00:00",
        "format_version": 1,
    }
    folder.mkdir(exist_ok=True)
    (folder / "card.json").write_text(json.dumps(card, indent=2))
    (folder / "model.safetensors").write_bytes(payload)
    return models


def test_an_ensemble_of_before_there_were_views_loads_and_scores(tmp_path: Path) -> None:
    models = write_as_before(tmp_path)
    ensemble = Ensemble.load(str(tmp_path))
    assert (ensemble.config.views, ensemble.card.task) == (("scene", "face", "audio", "text"), AH_VIDEO)
    assert ensemble.card.metrics["validation_score_mean"] == 0.65
    assert ensemble.encoder_id("face") == f"{1:012}"
    assert [member.name for member in ensemble.members] == [seed_name(42), seed_name(7)]
    clip = clip_of(AH_VIDEO, gone=(Modality.AUDIO,), views=("scene", "face", "audio", "text"))
    score = scored(ensemble, clip)
    chances: list[float] = []
    for model in models.values():
        with torch.inference_mode():
            # What it took then: a token per modality, zeros and False where there is none.
            from twominds.fusion.batch import FusionInputs

            tokens = {
                view: torch.zeros(1, 5) if found.vectors is None else torch.from_numpy(found.vectors)
                for view, found in clip.items()
            }
            mask = torch.tensor([[True, True, False, True]])
            low, high = model(FusionInputs(tokens=tokens, mask=mask)).logits[0].double().tolist()
        chances.append(1 / (1 + np.exp(-((high - low) / 2 - 0.5))))
    assert score.seed_probabilities == pytest.approx(chances, rel=1e-9)
    assert score.probabilities == pytest.approx([1 - np.mean(chances), np.mean(chances)], rel=1e-9)
    assert (score.threshold, score.label) == (0.4, int(np.mean(chances) >= 0.4))
    assert score.abstains == (abs(np.mean(chances) - 0.4) < 0.05)
    np.testing.assert_allclose(total(parts(score)), odds(score.probabilities[1]), atol=1e-9)


def test_the_card_of_before_stays_as_it_is_where_its_id_is_made(tmp_path: Path) -> None:
    write_as_before(tmp_path)
    card = read_card(str(tmp_path))
    assert card.config["modalities"] == ["scene", "face", "audio", "text"]
    assert from_json(EnsembleConfig, card.config).decision.threshold == 0.4
    text = (tmp_path / "card.json").read_text()
    (tmp_path / "card.json").write_text(text.replace('"threshold": 0.4', '"threshold": 0.3'))
    with pytest.raises(ArtifactError, match="changed or damaged"):
        Ensemble.load(str(tmp_path))


def test_tensors_of_other_models_are_refused(tmp_path: Path) -> None:
    write_as_before(tmp_path, fusion=to_json(replace(FUSION, hidden_dim=4)))
    with pytest.raises(ArtifactError, match="do not fit its card"):
        Ensemble.load(str(tmp_path))
    write_as_before(tmp_path, fusion=to_json(ClassWeightedConfig()), inputs="logits")
    with pytest.raises(ArtifactError, match=r"do not fit its card.*ClassWeighted"):
        Ensemble.load(str(tmp_path))

"""Weighted members: means by hand, members that see nothing, and members with views of their own saved and loaded."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from twominds import artifacts
from twominds.artifacts import Card
from twominds.errors import ConfigError
from twominds.fusion.catalog import build_fusion
from twominds.fusion.simple import ClassWeightedConfig, ConcatMLPConfig
from twominds.records import PRESENT, Embedding, Failure, Score, View, absent
from twominds.scoring.ensemble import Ensemble, save_ensemble
from twominds.scoring.members import EnsembleConfig, Member, seed_name, weighted_mean
from twominds.tasks import AH_VIDEO, MIMICRY, Intensities, Task

FACE, TEXT, EFFNET = "face", "text", "face.effnet"
NAN = np.nan
SAID = np.array([[[0.2, 0.8], [0.6, 0.4]], [[0.5, 0.5], [NAN, NAN]], [[0.9, 0.1], [0.1, 0.9]]])
PLAIN = ClassWeightedConfig()
"""With one view its answer is the logits that it is given."""


def test_equal_weights_are_the_mean_to_the_bit() -> None:
    said = np.random.default_rng(0).random((5, 7, 2))
    for weight in (1.0, 0.2, (0.5, 0.5)):
        np.testing.assert_array_equal(weighted_mean(said, [weight] * 5), said.mean(axis=0))


def test_weights_by_hand_and_a_member_that_says_nothing() -> None:
    found = weighted_mean(SAID, [1.0, 2.0, 5.0])
    np.testing.assert_allclose(found[0], [(0.2 + 1.0 + 4.5) / 8, (0.8 + 1.0 + 0.5) / 8])
    np.testing.assert_allclose(found[1], [(0.6 + 0.5) / 6, (0.4 + 4.5) / 6])
    np.testing.assert_allclose(weighted_mean(SAID, [1.0] * 3)[1], [0.35, 0.65])


def test_a_weight_for_each_output_by_hand() -> None:
    found = weighted_mean(SAID, [(1.0, 0.0), (1.0, 1.0), (0.0, 3.0)])
    np.testing.assert_allclose(found[0], [(0.2 + 0.5) / 2, (0.5 + 0.3) / 4])
    np.testing.assert_allclose(found[1], [0.6, 0.9])


def test_where_nobody_says_anything_there_is_nothing() -> None:
    found = weighted_mean(SAID, [0.0, 2.0, 0.0])
    np.testing.assert_allclose(found[0], [0.5, 0.5])
    assert np.isnan(found[1]).all()


def test_a_negative_weight_is_refused() -> None:
    for weight in (-0.1, (1.0, -2.0)):
        with pytest.raises(ConfigError, match="The weight of head must be 0 or more"):
            Member(name="head", weight=weight)


def embedding(view: View, logits: npt.ArrayLike | None) -> Embedding:
    if logits is None:
        return Embedding(clip_id="a", view=view, presence=absent(f"no {view}"))
    found = np.atleast_2d(np.asarray(logits, np.float32))
    return Embedding(clip_id="a", view=view, presence=PRESENT, vectors=found, logits=found)


def clip(**logits: npt.ArrayLike | None) -> dict[View, Embedding]:
    return {view: embedding(view, found) for name, found in logits.items() for view in [name.replace("_", ".")]}


def make(
    folder: Path,
    members: tuple[Member, ...],
    *,
    task: Task = AH_VIDEO,
    states: Mapping[str, Mapping[str, Tensor]] | None = None,
    dims: Mapping[View, int] | None = None,
) -> Ensemble:
    """The ensemble, saved and loaded; its encoders are cards alone."""
    views = tuple(dict.fromkeys(view for member in members for view in member.views))
    found = dims or dict.fromkeys(views, task.num_outputs)
    encoders = {view: str(folder / "encoder" / view) for view in views}
    for view, uri in encoders.items():
        artifacts.save(uri, {}, Card(kind="encoder", task=task, recipe="test", config={"of": view}))
    if states is None:
        states = {
            member.name: build_fusion(
                member.fusion or PLAIN, dims={v: found[v] for v in member.views}, num_outputs=task.num_outputs
            ).state_dict()
            for member in members
        }
    config = EnsembleConfig(fusion=PLAIN, inputs="logits", views=views, members=members)
    card = Card(kind="ensemble", task=task, recipe="test", config={})
    save_ensemble(str(folder / "ensemble"), states, config, dims=found, encoders=encoders, card=card)
    return Ensemble.load(str(folder / "ensemble"))


def only(ensemble: Ensemble, one: Mapping[View, Embedding]) -> Score:
    (score,) = ensemble.score([one])
    assert isinstance(score, Score)
    return score


def softmax(logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
    exponentials = np.exp(np.asarray(logits, np.float64))
    return exponentials / exponentials.sum()


BLEND = (Member(name="of-face", views=(FACE,), weight=0.3), Member(name="of-text", views=(TEXT,), weight=0.7))


def test_a_blend_of_two_views_against_numpy(tmp_path: Path) -> None:
    ensemble = make(tmp_path, BLEND)
    assert ensemble.config.views == (FACE, TEXT)
    face, text = [0.5, -1.0], [-0.25, 2.0]
    score = only(ensemble, clip(face=face, text=text))
    expected = 0.3 * softmax(face) + 0.7 * softmax(text)
    np.testing.assert_allclose(score.probabilities, expected, rtol=1e-12)
    np.testing.assert_allclose(score.seed_probabilities, [softmax(face)[1], softmax(text)[1]], rtol=1e-12)
    assert score.label == 1


def test_a_member_without_its_view_is_left_out_and_the_others_weigh_all(tmp_path: Path) -> None:
    ensemble = make(tmp_path, (*BLEND, Member(name="both", views=(TEXT, FACE), weight=1.0)))
    face = [0.5, -1.0]
    score = only(ensemble, clip(face=face, text=None))
    # `both` has the face alone to go by, which its softmax over present views then weighs 1.
    np.testing.assert_allclose(score.probabilities, softmax(face), rtol=1e-12)
    assert np.isnan(score.seed_probabilities[1])
    two = make(tmp_path / "two", BLEND)
    one, other = two.score([clip(face=None, text=[1.0, 0.0]), clip(face=face, text=[1.0, 0.0])])
    assert isinstance(one, Score)
    assert isinstance(other, Score)
    np.testing.assert_allclose(one.probabilities, softmax([1.0, 0.0]), rtol=1e-12)
    np.testing.assert_allclose(other.probabilities, 0.3 * softmax(face) + 0.7 * softmax([1.0, 0.0]), rtol=1e-12)


def test_a_clip_that_only_members_without_weight_see_has_no_score(tmp_path: Path) -> None:
    members = (replace(BLEND[0], weight=0.0), BLEND[1])
    (failure,) = make(tmp_path, members).score([clip(face=[1.0, 0.0], text=None)])
    assert isinstance(failure, Failure)
    assert failure.reason.endswith("(face: no model counts that sees it; text: no text).")


def test_intensities_with_weights_of_their_own(tmp_path: Path) -> None:
    task = replace(MIMICRY, output=Intensities(names=("a", "b"), low=0.0, high=2.0))
    ensemble = make(tmp_path, (replace(BLEND[0], weight=(1.0, 0.0)), replace(BLEND[1], weight=(3.0, 1.0))), task=task)
    score = only(ensemble, clip(face=[0.0, 1.0], text=[2.0, -1.0]))
    sigmoid = 1 / (1 + np.exp(-np.array([[0.0, 1.0], [2.0, -1.0]])))
    expected = [2 * (sigmoid[0, 0] + 3 * sigmoid[1, 0]) / 4, 2 * sigmoid[1, 1]]
    np.testing.assert_allclose(score.probabilities, expected, rtol=1e-12)
    assert (score.label, score.abstains) == (None, False)


def test_classes_with_weights_of_their_own_still_sum_to_one(tmp_path: Path) -> None:
    ensemble = make(tmp_path, (replace(BLEND[0], weight=(1.0, 0.0)), replace(BLEND[1], weight=(1.0, 1.0))))
    face, text = [0.0, 1.0], [2.0, -1.0]
    score = only(ensemble, clip(face=face, text=text))
    each = np.array([(softmax(face)[0] + softmax(text)[0]) / 2, softmax(text)[1]])
    np.testing.assert_allclose(score.probabilities, each / each.sum(), rtol=1e-12)


def test_members_of_other_kinds_and_views_are_saved_and_loaded(tmp_path: Path) -> None:
    """One of which is called as another begins, for views have dots."""
    mlp = ConcatMLPConfig(hidden_dim=4, dropout=0.0)
    members = (
        Member(name="face", fusion=mlp, views=(FACE, EFFNET), inputs="emb", weight=2.0),
        Member(name="face.effnet", fusion=mlp, views=(EFFNET,), inputs="emb"),
        Member(name=seed_name(7), views=(TEXT,), weight=(0.5, 0.5)),
    )
    dims = {FACE: 3, EFFNET: 5, TEXT: 2}
    models = {
        m.name: build_fusion(
            m.fusion or PLAIN, dims={view: dims[view] for view in m.views}, num_outputs=2, seed=seed
        ).eval()
        for seed, m in enumerate(members)
    }
    states = {name: model.state_dict() for name, model in models.items()}
    ensemble = make(tmp_path, members, states=states, dims=dims)
    assert ensemble.card.seeds == (7,)
    assert [m.name for m in ensemble.members] == [m.name for m in members]
    assert ensemble.config.members == members
    for name, state in states.items():
        loaded = ensemble.models[name].state_dict()
        assert loaded.keys() == state.keys()
        assert all(torch.equal(loaded[key], tensor) for key, tensor in state.items())
    draw = np.random.default_rng(0)
    found = clip(face=draw.standard_normal(3), face_effnet=draw.standard_normal(5), text=[0.5, 1.5])
    score = only(ensemble, found)
    by_hand = [
        softmax(_answer(models["face"], found, (FACE, EFFNET))),
        softmax(_answer(models["face.effnet"], found, (EFFNET,))),
        softmax([0.5, 1.5]),
    ]
    np.testing.assert_allclose(score.probabilities, np.average(by_hand, axis=0, weights=[2, 1, 0.5]), rtol=1e-6)


@torch.inference_mode()
def _answer(model: torch.nn.Module, found: Mapping[View, Embedding], views: tuple[View, ...]) -> list[float]:
    from twominds.fusion.batch import FusionInputs

    tokens = {view: torch.from_numpy(found[view].vectors) for view in views}
    mask = torch.ones(1, len(views), dtype=torch.bool)
    return model(FusionInputs(tokens=tokens, mask=mask)).logits[0].tolist()


def test_without_members_there_is_one_for_each_seed() -> None:
    config = EnsembleConfig(fusion=PLAIN, inputs="logits", views=(FACE,))
    (first, second) = config.members_of((42, 7))
    assert (first.name, second.name) == ("seed-42", "seed-7")
    assert (first.fusion, first.views, first.inputs, first.weight) == (PLAIN, (FACE,), "logits", 1.0)
    assert not config.takes_pooled
    assert replace(config, members=(Member(name="a", inputs="pooled"),)).takes_pooled

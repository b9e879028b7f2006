"""A joint model whose encoders see a part of each clip, and whose answer takes in a view's own head."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from tests.unit.training.test_joint import CONFIGS, FIT, FUSION, Clips, clips, encoders, everything

from twominds.artifacts import Card
from twominds.encoders.artifact import load_encoder, save_encoder, save_renamed
from twominds.encoders.audio import AudioEncoder, AudioEncoderConfig
from twominds.encoders.embedding import embed
from twominds.encoders.encoder import Encoder
from twominds.errors import ConfigError
from twominds.fusion.catalog import build_fusion
from twominds.recipes.catalog import find_recipe
from twominds.recipes.stages import TrainJointly
from twominds.records import PRESENT, Embedding, Features, Modality, Score, View
from twominds.scoring.decision import Decision
from twominds.scoring.ensemble import Ensemble, save_ensemble
from twominds.search.assembly import assemble, combined
from twominds.tasks import AH_VIDEO
from twominds.training.examples import Targets
from twominds.training.joint import JointExamples, JointLoss, JointModel
from twominds.training.losses import FusionLoss
from twominds.training.objective import Objective
from twominds.training.workers import share_of

FACE, AUDIO = Modality.FACE, Modality.AUDIO


def numbered(lengths: Mapping[View, Sequence[int]]) -> tuple[Clips, Targets]:
    """Clips whose rows say which they are."""
    found: Clips = {
        view: [
            Features(
                clip_id=str(i),
                view=view,
                presence=PRESENT,
                values=np.repeat(np.arange(length, dtype=np.float32)[:, None], 5, axis=1),
            )
            for i, length in enumerate(of_view)
        ]
        for view, of_view in lengths.items()
    }
    return found, Targets.of_clips(torch.arange(len(lengths[FACE])) % 2)


def first_row(item: Features) -> int:
    assert item.values is not None
    return int(item.values[0, 0])


def windowed(rows: int) -> dict[View, Encoder]:
    of_views = encoders()
    for encoder in of_views.values():
        encoder.window_rows = rows
    return of_views


def test_all_views_begin_at_the_same_row_and_have_enough_left() -> None:
    found, targets = numbered({FACE: [9, 20, 4] * 5, AUDIO: [12, 18, 3] * 5})
    examples = JointExamples(windowed(4), found, targets, anywhere=True)
    starts: dict[int, set[int]] = {0: set(), 1: set(), 2: set()}
    draw = torch.Generator().manual_seed(0)
    for _ in range(200):
        order = torch.randperm(15, generator=draw)  # as an epoch deals it
        seen = examples.batch(order).inputs
        for clip, drawn in starts.items():
            place = order.tolist().index(clip)
            first = {int(next(iter(seen[view].values()))[place].flatten()[0]) for view in found}
            assert len(first) == 1
            drawn |= first
    assert starts == {0: set(range(6)), 1: set(range(15)), 2: {0}}
    assert first_row(found[FACE][0]) == 0, "nothing is changed"


def test_validation_sees_the_beginning_and_the_same_state_the_same_rows() -> None:
    found, targets = numbered({FACE: [9, 20], AUDIO: [12, 18]})
    of_views = windowed(4)
    fixed, anywhere = (JointExamples(of_views, found, targets, anywhere=random) for random in (False, True))

    def rows(examples: JointExamples) -> torch.Tensor:
        torch.manual_seed(3)
        return next(iter(examples.batch(torch.tensor([0, 1])).inputs[AUDIO].values()))

    assert rows(fixed)[:, 0, 0].tolist() == [0, 0]
    assert rows(anywhere)[:, 0, 0].tolist() != [0, 0]
    assert torch.equal(rows(anywhere), rows(anywhere))


class Timed(AudioEncoder):
    """Remembers where it was shown."""

    def stretch(self, item: Features, row: int, time_s: float) -> Features:
        return replace(item, values=np.full((1, 5), time_s, np.float32))


def test_who_sees_no_rows_is_told_when_the_others_begin() -> None:
    """An encoder without rows of its own gets the time of the first row that the others see, at 25 rows a second."""
    found, targets = numbered({FACE: [30] * 4, AUDIO: [7] * 4})
    found[FACE] = [replace(item, times_s=(np.arange(30) + 0.5) / 25) for item in found[FACE]]
    of_views = windowed(4)
    timed = Timed(cast("AudioEncoderConfig", CONFIGS[AUDIO]), num_outputs=2, architecture={"input_dim": 5})
    examples = JointExamples({**of_views, AUDIO: timed}, found, targets, anywhere=True)
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        inputs = examples.batch(torch.tensor(order)).inputs
        rows, times_s = (next(iter(inputs[view].values()))[:, 0].flatten(1)[:, 0] for view in (FACE, AUDIO))
        expected = torch.where(rows > 0, (rows + 0.5) / 25, 0.0)
        torch.testing.assert_close(times_s, expected)
        assert times_s.max() > times_s.min()


def blended_model(of_views: Mapping[View, Encoder], weight: float) -> JointModel:
    dims = {view: encoder.embedding_dim for view, encoder in of_views.items()}
    return JointModel(of_views, build_fusion(FUSION, dims=dims, num_outputs=2, seed=1), blend={AUDIO: weight}).eval()


@pytest.mark.parametrize("weight", [0.0, 0.6, 1.0])
def test_the_answer_is_the_weighted_mean_where_the_view_is_present(weight: float) -> None:
    found, targets = clips(6, {AUDIO: (2, 3)})
    of_views = encoders()
    model, examples = blended_model(of_views, weight), JointExamples(of_views, found, targets)
    with torch.no_grad():
        output = model(examples.batch(everything(examples)))
    fused, voices = output.fusion.logits.softmax(dim=1), iter(output.heads[AUDIO].softmax(dim=1))
    for row, there in enumerate(output.present[AUDIO].tolist()):
        expected = weight * next(voices) + (1 - weight) * fused[row] if there else fused[row]
        torch.testing.assert_close(output.logits[row].softmax(dim=0), expected, rtol=1e-5, atol=1e-6)


def test_the_losses_are_of_the_fusion_and_of_the_head_not_of_the_blend() -> None:
    found, targets = clips(8)
    of_views, objective = encoders(), Objective()
    model, examples = blended_model(of_views, 0.6), JointExamples(of_views, found, targets)
    output = model(examples.batch(everything(examples)))
    loss = JointLoss(fusion=FusionLoss(prototype_weight=0.0), fusion_weight=0.5, heads={AUDIO: 0.5})
    total = loss(output, examples.labels, class_weights=None, label_smoothing=0.1, criterion=objective.loss)
    parts = (
        objective.loss(logits, examples.labels, label_smoothing=0.1)
        for logits in (output.fusion.logits, output.heads[AUDIO])
    )
    torch.testing.assert_close(total, 0.5 * sum(parts))


@pytest.mark.parametrize("weight", [0.6, 1.0])
def test_the_ensemble_says_what_the_joint_model_said(weight: float, tmp_path: Path) -> None:
    """The fusion takes embeddings of a view whose head, another member, is taken by its logits.

    Where that view is absent the fusion answers, though it count for nothing beside the head.
    """
    found, targets = clips(12, {FACE: (2,), AUDIO: (5, 9)})
    of_views = encoders()
    model, examples = blended_model(of_views, weight), JointExamples(of_views, found, targets)
    with torch.no_grad():
        said = model(examples.batch(everything(examples))).logits.softmax(dim=1).numpy()
    stage = TrainJointly(views=(FACE, AUDIO), fit=FIT, loss=FusionLoss(), heads={AUDIO: 0.5}, blend={AUDIO: weight})
    simple = find_recipe("simple/joint")
    recipe = replace(simple, stages=(stage,), fusion=replace(simple.fusion, model=FUSION))
    made = assemble(recipe, {42: model.fusion.state_dict()}, model.fusion.dims, recipe.media)
    card = Card(kind="encoder", task=AH_VIDEO, recipe="simple/joint", config={})
    columns: dict[View, list[Embedding]] = {}
    for view in model.views:
        save_encoder(f"{tmp_path}/{view}", model.encoder(view), CONFIGS, card)
        columns[view] = embed(model.encoder(view), found[view])
    save_ensemble(
        f"{tmp_path}/ensemble",
        made.states,
        made.config,
        dims=made.dims,
        encoders={view: f"{tmp_path}/{view}" for view in model.views},
        card=replace(card, kind="ensemble"),
    )
    ensemble = Ensemble.load(f"{tmp_path}/ensemble")
    weights = {member.name: member.weight for member in ensemble.members}
    assert weights == {"seed-42": pytest.approx(1 - weight, abs=2e-6), AUDIO: weight}
    scores = ensemble.score([{view: columns[view][i] for view in model.views} for i in range(12)], explain=True)
    for score, expected in zip(scores, said, strict=True):
        assert isinstance(score, Score)
        np.testing.assert_allclose(score.probabilities, expected, atol=1e-5)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.4, 1.6])])
def test_parts_of_a_step_add_up_to_its_loss_where_views_are_absent(weights: torch.Tensor | None) -> None:
    """Two workers, or two batches of an accumulated one: each head's mean is over the whole step's points with it."""
    found, targets = clips(9, {FACE: (0, 4, 5), AUDIO: (1, 2, 6)})
    of_views, objective = encoders(), Objective()
    model, examples = blended_model(of_views, 0.6), JointExamples(of_views, found, targets)
    loss = JointLoss(fusion=FusionLoss(prototype_weight=0.0), fusion_weight=0.7, heads={FACE: 0.3, AUDIO: 0.5})
    whole = torch.tensor([3, 0, 8, 1, 2, 7, 6, 4, 5])

    def gradient(own: torch.Tensor) -> torch.Tensor:
        model.zero_grad()
        share = share_of(examples.labels[own], examples.labels[whole], weights)
        output = model(examples.part(own, whole, weights))
        of_part = loss(
            output, examples.labels[own], class_weights=weights, label_smoothing=0.1, criterion=objective.loss
        )
        (share * of_part).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    expected = gradient(whole)
    for cut in (2, 4):
        parts = gradient(whole[:cut]), gradient(whole[cut:])
        torch.testing.assert_close(parts[0] + parts[1], expected, rtol=1e-5, atol=1e-7)
    workers = gradient(whole[0::2]), gradient(whole[1::2])
    torch.testing.assert_close(workers[0] + workers[1], expected, rtol=1e-5, atol=1e-7)


def test_each_worker_shows_the_stretches_that_one_would() -> None:
    found, targets = numbered({FACE: [90] * 8, AUDIO: [90] * 8})
    of_views, whole = windowed(4), torch.tensor([5, 2, 7, 0, 1, 6, 3, 4])

    def first(own: torch.Tensor) -> list[float]:
        examples = JointExamples(of_views, found, targets, anywhere=True)
        rows = next(iter(examples.part(own, whole, None).inputs[FACE].values()))
        return [float(row) for row in rows[:, 0, 0]]

    assert first(whole[1::2]) == first(whole)[1::2]
    assert len(set(first(whole))) > 4


def test_several_trainings_together_say_the_mean_of_what_each_says(tmp_path: Path) -> None:
    """Two joint models whose encoders differ: as one ensemble, of which each view is there twice."""
    found, _ = clips(8, {FACE: (2,), AUDIO: (5,)})
    each: dict[str, Ensemble] = {}
    inputs: list[dict[View, Embedding]] = [{} for _ in range(8)]
    expected: list[list[tuple[float, ...]]] = []
    card = Card(kind="encoder", task=AH_VIDEO, recipe="simple/joint", config={"features": {FACE: 1, AUDIO: 2}})
    for name, weight in {"a42": 0.6, "b7": 0.25}.items():
        torch.manual_seed(len(each))
        of_views = encoders()
        for encoder in of_views.values():
            for parameter in encoder.parameters():
                parameter.data += 0.3 * torch.randn_like(parameter)
        model = blended_model(of_views, weight)
        stage = TrainJointly(views=(FACE, AUDIO), fit=FIT, loss=FusionLoss(), heads={AUDIO: 0.5}, blend={AUDIO: weight})
        simple = find_recipe("simple/joint")
        recipe = replace(simple, stages=(stage,), fusion=replace(simple.fusion, model=FUSION))
        made = assemble(recipe, {42: model.fusion.state_dict()}, model.fusion.dims, recipe.media)
        each[name] = made.ensemble(recipe)
        embedded = {view: embed(of_views[view], found[view]) for view in model.views}
        own = [{view: embedded[view][i] for view in model.views} for i in range(8)]
        expected.append([score.probabilities for score in each[name].score(own) if isinstance(score, Score)])
        for view in model.views:
            save_encoder(f"{tmp_path}/{name}/{view}", of_views[view], CONFIGS, card)
            renamed = f"{view}.{name}"
            save_renamed(f"{tmp_path}/{name}/{view}", f"{tmp_path}/encoders/{renamed}", renamed)
            encoder, own_card = load_encoder(f"{tmp_path}/encoders/{renamed}")
            assert (encoder.view, own_card.config["features"]) == (renamed, {renamed: 1 if view == FACE else 2})
            item_of = [replace(item, view=renamed) for item in found[view]]
            for clip, embedding in zip(inputs, embed(encoder, item_of), strict=True):
                clip[renamed] = embedding
    together = combined(each, Decision())
    assert together.config.views == ("face.a42", "audio.a42", "face.b7", "audio.b7")
    weights = [member.weight for member in together.config.members]
    np.testing.assert_allclose(weights, [0.2, 0.3, 0.375, 0.125])
    save_ensemble(
        str(tmp_path),
        together.states,
        together.config,
        dims=together.dims,
        encoders={view: f"{tmp_path}/encoders/{view}" for view in together.config.views},
        card=replace(card, kind="ensemble"),
        whole=False,
    )
    loaded = Ensemble.load(str(tmp_path))
    assert loaded.card.seeds == (42,)
    said = [score.probabilities for score in loaded.score(inputs) if isinstance(score, Score)]
    whole = [i for i in range(8) if i not in (2, 5)]  # where a head says nothing, the others weigh more
    np.testing.assert_allclose(np.array(said)[whole], np.mean(expected, axis=0)[whole], atol=1e-6)


def test_a_blend_of_what_learns_nothing_is_refused() -> None:
    loss = FusionLoss()
    with pytest.raises(ConfigError, match="audio, which learns nothing"):
        TrainJointly(fit=FIT, loss=loss, blend={AUDIO: 0.5})
    with pytest.raises(ConfigError, match="together 1 at most"):
        TrainJointly(fit=FIT, loss=loss, heads={AUDIO: 1.0, FACE: 1.0}, blend={AUDIO: 0.6, FACE: 0.6})

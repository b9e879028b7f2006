"""A joint model by hand, its gradients, what it does with absent views, and what it falls apart into."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from twominds.artifacts import Card
from twominds.encoders.artifact import load_encoder, save_encoder
from twominds.encoders.audio import AudioEncoder, AudioEncoderConfig
from twominds.encoders.catalog import EncodersConfig
from twominds.encoders.embedding import embed
from twominds.encoders.encoder import Encoder
from twominds.encoders.face import FaceEncoder, FaceEncoderConfig
from twominds.encoders.points import PointEncoder, PointEncoderConfig
from twominds.encoders.text import TextEncoder, TextEncoderConfig
from twominds.errors import TrainingError
from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import build_fusion
from twominds.fusion.simple import AttentionSumConfig
from twominds.records import PRESENT, Embedding, Features, Modality, Score, View, absent
from twominds.scoring.ensemble import Ensemble, save_ensemble
from twominds.scoring.members import EnsembleConfig, seed_name
from twominds.tasks import AH_VIDEO
from twominds.training.examples import Targets
from twominds.training.fit import EpochReport, FitConfig, fit
from twominds.training.fit_state import FitState
from twominds.training.joint import JointExamples, JointLoss, JointModel
from twominds.training.losses import FusionLoss, loss_of_logits
from twominds.training.objective import Objective

FACE, AUDIO, TEXT = Modality.FACE, Modality.AUDIO, Modality.TEXT
FIT = FitConfig(epochs=12, batch_size=8, optimizer="adamw", learning_rate=3e-3, label_smoothing=0.0, patience=12)
FUSION = AttentionSumConfig(hidden_dim=16, dropout=0.1)
ALIKE = JointLoss(fusion=FusionLoss(prototype_weight=0.0))
CONFIGS: EncodersConfig = {
    FACE: FaceEncoderConfig(embedding_dim=8),
    AUDIO: AudioEncoderConfig(temporal="lstm", hidden_dim=8, num_layers=1, head_hidden_dim=6),
}

Clips = dict[View, list[Features]]


def clips(count: int = 24, lacking: Mapping[View, Sequence[int]] | None = None) -> tuple[Clips, Targets]:
    """Face and voice each tell half of the label; some clips lack one or both."""
    rng, labels = np.random.default_rng(0), torch.arange(count) % 2
    found: Clips = {FACE: [], AUDIO: []}
    for view, i in ((view, i) for view in found for i in range(count)):
        rows = rng.standard_normal((2 + i % 4, 5)) + 1.0 * int(labels[i])
        there = i not in (lacking or {}).get(view, ())
        found[view].append(
            Features(
                clip_id=str(i),
                view=view,
                presence=PRESENT if there else absent("nothing there"),
                values=rows.astype(np.float32) if there else None,
            )
        )
    return found, Targets.of_clips(labels)


def encoders(seed: int = 0) -> dict[View, Encoder]:
    torch.manual_seed(seed)
    architecture = {"input_dim": 5}
    face = FaceEncoder(cast("FaceEncoderConfig", CONFIGS[FACE]), num_outputs=2, architecture=architecture)
    audio = AudioEncoder(cast("AudioEncoderConfig", CONFIGS[AUDIO]), num_outputs=2, architecture=architecture)
    return {FACE: face, AUDIO: audio}


def joint_model(of_views: Mapping[View, Encoder], frozen: Sequence[View] = ()) -> JointModel:
    dims = {view: encoder.embedding_dim for view, encoder in of_views.items()}
    return JointModel(of_views, build_fusion(FUSION, dims=dims, num_outputs=2, seed=1), frozen)


def trained(
    model: JointModel, found: Clips, targets: Targets, loss: JointLoss = ALIKE, config: FitConfig = FIT
) -> JointExamples:
    examples = JointExamples({view: model.encoder(view) for view in model.views}, found, targets)
    fit(model, examples, examples, config, seed=3, loss=loss, objective=Objective())
    return examples


def everything(examples: JointExamples) -> Tensor:
    return torch.arange(len(examples))


def state(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_it_answers_what_its_parts_answer_by_hand() -> None:
    found, targets = clips(6, {FACE: (1,), AUDIO: (2, 3)})
    of_views = encoders()
    model = joint_model(of_views).eval()
    examples = JointExamples(of_views, found, targets)
    order = torch.tensor([3, 1, 0, 2, 5])
    batch = examples.batch(order)
    assert batch.mask.tolist() == [[True, False], [False, True], [True, True], [True, False], [True, True]]
    with torch.no_grad():
        output = model(batch)
        tokens = {view: torch.zeros(5, encoder.embedding_dim) for view, encoder in of_views.items()}
        for row, i in enumerate((3, 1, 0, 2, 5)):
            for view, encoder in of_views.items():
                if found[view][i].presence.present:
                    tokens[view][row] = encoder(encoder.collate([found[view][i]])).embedding[0]
        fused = model.fusion(FusionInputs(tokens=tokens, mask=batch.mask))
        voices = [of_views[AUDIO](of_views[AUDIO].collate([found[AUDIO][i]])).logits[0] for i in (1, 0, 5)]
    torch.testing.assert_close(output.logits, fused.logits, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(output.heads[AUDIO], torch.stack(voices), atol=1e-6, rtol=1e-5)
    assert output.present[AUDIO].tolist() == [False, True, True, False, True]
    assert examples.labels[order].tolist() == [1, 1, 0, 0, 1]


def test_gradients_reach_all_encoders_and_only_heads_that_are_weighed() -> None:
    found, targets = clips(8)
    of_views = encoders()
    model = joint_model(of_views)
    examples = JointExamples(of_views, found, targets)
    loss = JointLoss(fusion=FusionLoss(), heads={FACE: 0.5})
    output = model(examples.batch(everything(examples)))
    objective = Objective()
    total = loss(output, examples.labels, class_weights=None, label_smoothing=0.0, criterion=objective.loss)
    alone = loss_of_logits(
        output, examples.labels, class_weights=None, label_smoothing=0.0, criterion=objective.loss
    ) + 0.5 * objective.loss(output.heads[FACE], examples.labels)
    torch.testing.assert_close(total, alone)
    total.backward()
    parameters = model.encoders.named_parameters()
    without = {name for name, p in parameters if p.grad is None or not p.grad.abs().sum() > 0}
    assert without == {"audio.classifier.weight", "audio.classifier.bias"}


def test_each_encoder_has_its_own_rates() -> None:
    of_views = {**encoders()}
    of_views[FACE].backbone_lr_scale = 0.1
    backbone = torch.nn.Linear(2, 2)
    of_views[FACE].add_module("backbone", backbone)
    model = joint_model(of_views)
    groups = model.parameter_groups(1e-3)
    assert groups[0]["lr"] == 1e-3
    assert {id(p) for p in groups[0]["params"]} == {id(p) for p in model.fusion.parameters()}
    of_backbone = next(group for group in groups if group["params"][0] is backbone.weight)
    assert of_backbone["lr"] == pytest.approx(1e-4)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_an_absent_view_changes_nothing() -> None:
    """Neither what stands in its place nor who else is in the batch."""
    found, targets = clips(6, {AUDIO: (0, 1, 2, 4)})
    of_views = encoders()
    model, examples = joint_model(of_views).eval(), JointExamples(of_views, found, targets)
    with torch.no_grad():
        alone = model(examples.batch(torch.tensor([0, 1, 2])))
        among = model(examples.batch(torch.tensor([3, 0, 5, 1, 2])))
    assert AUDIO not in alone.heads
    torch.testing.assert_close(alone.logits, among.logits[[1, 3, 4]], atol=1e-6, rtol=1e-5)
    before = state(of_views[AUDIO])
    model.train()(examples.batch(torch.tensor([0, 1, 2]))).logits.square().sum().backward()
    assert all(p.grad is None for p in of_views[AUDIO].parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in of_views[AUDIO].state_dict().items())


def test_clips_without_any_view_are_left_out_with_their_labels() -> None:
    found, targets = clips(6, {FACE: (1, 3), AUDIO: (1, 4)})
    of_views = encoders()
    examples = JointExamples(of_views, found, targets)
    assert (len(examples), examples.left_out.tolist(), examples.labels.tolist()) == (5, [1], [0, 0, 1, 0, 1])
    nowhere = clips(2, {FACE: (0, 1), AUDIO: (0, 1)})
    with pytest.raises(TrainingError, match="face, audio"):
        JointExamples(of_views, *nowhere)
    with pytest.raises(ValueError, match="2 clips but targets of 6"):
        JointExamples(of_views, nowhere[0], targets)
    with pytest.raises(ValueError, match="encoders of"):
        JointModel(dict(reversed(of_views.items())), joint_model(of_views).fusion)


def test_it_learns_and_the_same_seed_gives_the_same_bits() -> None:
    found, targets = clips(24, {FACE: (2, 3), AUDIO: (3, 5)})
    models = [joint_model(encoders()) for _ in range(2)]
    examples = [trained(model, found, targets, JointLoss(fusion=FusionLoss(), heads={AUDIO: 0.3})) for model in models]
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(tensor, models[1].state_dict()[name]), name
    with torch.no_grad():
        logits = models[0].eval()(examples[0].batch(everything(examples[0]))).logits
    assert (logits.argmax(dim=1) == examples[0].labels).float().mean() > 0.8


def test_frozen_encoders_and_backbones_stay_as_they_are() -> None:
    found, targets = clips()
    of_views = encoders()
    model, before = joint_model(of_views, frozen=[AUDIO]), state(of_views[AUDIO])
    first = state(of_views[FACE])
    trained(model, found, targets, config=replace(FIT, epochs=2))
    assert all(torch.equal(before[name], tensor) for name, tensor in of_views[AUDIO].state_dict().items())
    assert not all(torch.equal(first[name], tensor) for name, tensor in of_views[FACE].state_dict().items())
    model.train()
    assert (of_views[FACE].training, of_views[AUDIO].training) == (True, False)


def text_encoder(trainable_layers: int) -> TextEncoder:
    backbone = {
        "model_type": "bert",
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 20,
        "max_position_embeddings": 16,
        "pad_token_id": 0,
    }
    config = TextEncoderConfig(trainable_layers=trainable_layers, hidden_dims=(6,), dropout=0.0, backbone_lr_scale=0.1)
    encoder = TextEncoder(config, num_outputs=2, architecture={"backbone": backbone})
    generator = torch.Generator().manual_seed(0)
    for parameter in encoder.backbone.parameters():  # they are built empty
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return encoder


def test_of_a_backbone_only_the_last_layers_learn() -> None:
    found, targets = clips(8)
    rng = np.random.default_rng(0)
    words = [Features(clip_id=str(i), view=TEXT, presence=PRESENT, values=rng.integers(1, 20, 5)) for i in range(8)]
    encoder = text_encoder(trainable_layers=1)
    model, before = joint_model({**encoders(), TEXT: encoder}), state(encoder)
    trained(model, {**found, TEXT: words}, targets, config=replace(FIT, epochs=2))
    moved = {name for name, tensor in encoder.state_dict().items() if not torch.equal(before[name], tensor)}
    assert {name.split(".layer.1.")[0] for name in moved if name.startswith("backbone")} == {"backbone.encoder"}
    assert "mlp.0.weight" in moved
    assert not any("embeddings" in name or ".layer.0." in name or "classifier" in name for name in moved)


def test_encoders_of_points_answer_at_each_point() -> None:
    config = PointEncoderConfig(steps=3, step_s=0.2, hidden_dim=6)
    rng, times = np.random.default_rng(0), np.arange(10) / 5
    points = np.arange(8) / 4
    found: Clips = {
        view: [
            Features(
                clip_id=str(i),
                view=view,
                presence=PRESENT,
                values=rng.standard_normal((10, 4)).astype(np.float32),
                times_s=times,
                points_s=points,
            )
            for i in range(3)
        ]
        for view in (FACE, AUDIO)
    }
    found[AUDIO][1] = Features(clip_id="1", view=AUDIO, presence=absent("no sound"), points_s=points)
    torch.manual_seed(0)
    of_views: dict[View, Encoder] = {}
    for view in found:
        of_views[view] = PointEncoder(config, num_outputs=2, architecture={"input_dim": 4})
        of_views[view].view = view
    owners = torch.arange(3).repeat_interleave(8)
    targets = Targets(values=torch.arange(24) % 2, owners=owners, points=torch.arange(8).repeat(3))
    model = joint_model(of_views)
    # Of 24 points in batches of 23 the last has one: it has no deviation of its own.
    examples = trained(model, found, targets, config=replace(FIT, epochs=2, batch_size=23))
    order = torch.tensor([20, 9, 3, 17, 8])
    batch = examples.batch(order)
    assert batch.mask[:, 1].tolist() == [True, False, True, True, False]
    with torch.no_grad():
        logits = model.eval()(batch).logits
        everywhere = model(examples.batch(everything(examples))).logits
    torch.testing.assert_close(logits, everywhere[order], atol=1e-6, rtol=1e-5)


def test_what_it_falls_apart_into_says_what_it_said(tmp_path: Path) -> None:
    found, targets = clips(24, {FACE: (2,), AUDIO: (5, 9)})
    model = joint_model(encoders())
    model.encoder(AUDIO).answers = False
    examples = trained(model, found, targets, JointLoss(fusion=FusionLoss(), heads={FACE: 0.3}))
    with torch.no_grad():
        said = model.eval()(examples.batch(everything(examples))).logits.softmax(dim=1).numpy()
    card = Card(kind="encoder", task=AH_VIDEO, recipe="simple/joint", config={})
    for view in model.views:
        save_encoder(f"{tmp_path}/{view}", model.encoder(view), CONFIGS, card)
    save_ensemble(
        f"{tmp_path}/ensemble",
        {seed_name(3): model.fusion.state_dict()},
        EnsembleConfig(fusion=FUSION, views=model.views),
        dims=model.fusion.dims,
        encoders={view: f"{tmp_path}/{view}" for view in model.views},
        card=replace(card, kind="ensemble"),
    )
    columns: dict[View, list[Embedding]] = {}
    for view in model.views:
        columns[view] = embed(load_encoder(f"{tmp_path}/ensemble/encoders/{view}")[0], found[view])
    ensemble = Ensemble.load(f"{tmp_path}/ensemble")
    scores = ensemble.score([{view: columns[view][i] for view in model.views} for i in range(24)])
    assert ensemble.card.seeds == (3,)
    for score, expected in zip(scores, said, strict=True):
        assert isinstance(score, Score)
        np.testing.assert_allclose(score.probabilities, expected, atol=1e-5)
    assert columns[FACE][0].probabilities is not None
    assert (columns[AUDIO][0].probabilities, columns[AUDIO][0].logits) == (None, None), "its head has learned nothing"


def test_an_interrupted_training_goes_on_as_if_nothing_had_happened() -> None:
    found, targets = clips()
    whole, interrupted = joint_model(encoders()), joint_model(encoders())
    trained(whole, found, targets)
    states: list[FitState] = []

    def stop(report: EpochReport) -> None:
        if report.epoch == 5:
            states.append(report.fit_state())
            raise KeyboardInterrupt

    objective, of_views = Objective(), {view: interrupted.encoder(view) for view in interrupted.views}
    examples = JointExamples(of_views, found, targets)
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, examples, examples, FIT, seed=3, loss=ALIKE, objective=objective, on_epoch=stop)
    anew = joint_model(encoders(seed=9))
    examples = JointExamples({view: anew.encoder(view) for view in anew.views}, found, targets)
    fit(anew, examples, examples, FIT, seed=3, loss=ALIKE, objective=objective, resume=states[0])
    assert all(torch.equal(tensor, anew.state_dict()[name]) for name, tensor in whole.state_dict().items())

"""From labels to rows of training: unknown points weigh nothing, and what can't be answered is counted all the same."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from twominds.fusion.batch import FusionInputs
from twominds.fusion.catalog import build_fusion
from twominds.fusion.simple import ConcatMLPConfig
from twominds.records import Labels, Modality
from twominds.tasks import AH_FRAME, AH_VIDEO, EXPRESSION, MIMICRY, Classes, Intensities
from twominds.training.examples import FusionExamples, Targets, half_step_s
from twominds.training.fit import fit
from twominds.training.fit_config import FitConfig
from twominds.training.losses import loss_of_logits
from twominds.training.objective import CriterionName, Objective

FACE = Modality.FACE
FRAMES = np.array([0.0, 0.1, 0.2, 0.3, 0.4])


def frames(*classes: int | None) -> Labels:
    """Labels of frames in the video's own order; None where nobody said anything."""
    values = np.array([[0 if c is None else c] for c in classes], np.float32)
    return Labels(values=values, known=np.array([c is not None for c in classes]))


def rows(targets: Targets) -> list[tuple[int, int, int]]:
    """Class, clip and point of each row."""
    columns = targets.values, targets.owners, targets.points
    values, owners, points = (cast("list[int]", column.tolist()) for column in columns)
    return list(zip(values, owners, points, strict=True))


def test_clips() -> None:
    targets = Targets.of([Labels.of_clip(1), Labels.of_clip(0)], [None, None], AH_VIDEO.output)
    assert rows(targets) == [(1, 0, 0), (0, 1, 0)]
    assert targets.values.dtype == torch.int64
    again = Targets.of_clips(torch.tensor([1, 0]))
    assert rows(again) == rows(targets)


def test_intensities_of_clips() -> None:
    six = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    targets = Targets.of([Labels.of_clip(*six)], [None], MIMICRY.output)
    assert targets.values.shape == (1, 6)
    assert targets.values.dtype == torch.float32
    assert targets.values[0].tolist() == pytest.approx(six)


def test_frames_of_which_some_are_unknown() -> None:
    targets = Targets.of([frames(3, None, 5), frames(None, 7)], [FRAMES[:3], FRAMES[:2]], EXPRESSION.output)
    assert rows(targets) == [(3, 0, 0), (5, 0, 2), (7, 1, 1)]


def test_of_whole_clips_one_known_positive_point_is_enough() -> None:
    points_s = [FRAMES[:3], FRAMES[:2], FRAMES[:2], FRAMES[:3]]
    of_frames = [frames(0, None, 1), frames(None, None), frames(0, None), frames(1, 1, 0)]
    targets = Targets.of(of_frames, points_s, AH_FRAME.output)
    assert rows(targets.of_whole_clips()) == [(1, 0, 0), (0, 2, 0), (1, 3, 0)]  # of the second nothing is known
    assert rows(targets.select(torch.tensor([4, 0])).of_whole_clips()) == [(0, 0, 0), (1, 3, 0)]
    nothing = Targets.of([frames(None)], [FRAMES[:1]], AH_FRAME.output)
    assert rows(nothing.of_whole_clips()) == []


def test_more_or_fewer_labels_than_frames() -> None:
    targets = Targets.of([frames(1, 0, 1), frames(1, 1)], [FRAMES[:2], FRAMES[:4]], AH_FRAME.output)
    assert rows(targets) == [(1, 0, 0), (0, 0, 1), (1, 1, 0), (1, 1, 1)]


def test_labels_at_times_hold_half_a_step_around() -> None:
    said = Labels(values=np.array([[1], [2], [3]], np.float32), known=np.ones(3, np.bool_), times_s=np.arange(3.0))
    assert half_step_s(said, FRAMES) == pytest.approx(0.5, abs=1e-5)
    asked = np.array([0.0, 0.4, 0.6, 2.4, 2.6])
    assert rows(Targets.of([said], [asked], EXPRESSION.output)) == [(1, 0, 0), (1, 0, 1), (2, 0, 2), (3, 0, 3)]


def test_segments_hold_from_their_start_until_before_their_end() -> None:
    said = Labels(
        values=np.array([[1], [0], [1]], np.float32),
        known=np.array([True, True, False]),
        times_s=np.array([0.1, 0.3, 0.6]),
        ends_s=np.array([0.3, 0.4, 0.9]),
    )
    asked = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert rows(Targets.of([said], [asked], AH_FRAME.output)) == [(1, 0, 1), (1, 0, 2), (0, 0, 3)]


def test_a_clip_that_could_not_be_processed_counts_all_the_same() -> None:
    """Nobody knows its frames' times, but how many of them are labelled."""
    targets = Targets.of([frames(1, None, 0), frames(0)], [None, FRAMES[:1]], AH_FRAME.output)
    assert rows(targets) == [(1, 0, 0), (0, 0, 2), (0, 1, 0)]


@pytest.mark.parametrize(("output", "shape"), [(AH_FRAME.output, (0,)), (MIMICRY.output, (0, 6))])
def test_nothing_is_known(output: Classes | Intensities, shape: tuple[int, ...]) -> None:
    assert Targets.of([], [], output).values.shape == shape
    unknown = Labels(values=np.zeros((2, output.num_values), np.float32), known=np.zeros(2, np.bool_))
    targets = Targets.of([unknown], [FRAMES[:2]], output)
    assert (len(targets), targets.values.shape) == (0, shape)


TWO = replace(MIMICRY, output=Intensities(names=("more", "less")))
CONFIG = FitConfig(epochs=40, batch_size=16, learning_rate=1e-2, patience=40, optimizer="adamw", class_weights=True)


def linear(points: int, seed: int) -> FusionExamples:
    """Intensities that are a line of the first value of the face, up and down."""
    x = torch.rand(points, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    truth = torch.stack([0.5 + 0.4 * x[:, 0], 0.5 - 0.4 * x[:, 0]], dim=1)
    mask = torch.ones(points, 1, dtype=torch.bool)
    mask[0] = False
    return FusionExamples(FusionInputs(tokens={FACE: x}, mask=mask), truth)


def network(outputs: int) -> nn.Module:
    return build_fusion(ConcatMLPConfig(hidden_dim=16, dropout=0.0), dims={FACE: 3}, num_outputs=outputs, seed=0)


@pytest.mark.parametrize("criterion", ["mse", "pearson", "ccc"])
def test_intensities_are_learned_and_the_best_epoch_is_that_of_the_metric(criterion: CriterionName) -> None:
    train, validation = linear(120, 0), linear(60, 1)
    objective = Objective(task=TWO, criterion=criterion)
    model = network(2)
    result = fit(model, train, validation, CONFIG, seed=0, loss=loss_of_logits, objective=objective)
    scores = [epoch.validation_score for epoch in result.history]
    assert result.best_epoch == 1 + int(np.argmax(scores))
    assert result.validation_score == max(scores) > 0.95
    with torch.no_grad():
        answers = model.eval()(validation.batch(torch.arange(len(validation)))).logits.sigmoid().numpy()
    mean = torch.cat([train.labels, train.left_out]).mean(dim=0).numpy()
    said = np.vstack([answers, mean])
    truth = torch.cat([validation.labels, validation.left_out]).numpy()
    expected = np.mean([np.corrcoef(said[:, k], truth[:, k])[0, 1] for k in range(2)])
    assert result.validation_score == pytest.approx(expected, abs=1e-5)


def test_unknown_points_change_nothing() -> None:
    """Frames with some unknown give the training of the known ones alone, whatever stands at the others."""

    def targets_of(junk: float) -> tuple[Targets, torch.Tensor]:
        draw = np.random.default_rng(0)
        x = draw.standard_normal((8, 6, 3)).astype(np.float32)
        values = (x[..., :1] > 0).astype(np.float32)
        known = draw.random((8, 6)) > 0.4
        values[~known] = junk
        labels = [Labels(values=v, known=k) for v, k in zip(values, known, strict=True)]
        targets = Targets.of(labels, [np.linspace(0, 1, 6)] * 8, AH_FRAME.output)
        return targets, torch.from_numpy(x)[targets.owners, targets.points]

    histories: list[list[tuple[float, float]]] = []
    for junk in (0.0, 7.0):
        targets, x = targets_of(junk)
        assert len(targets) < 48
        mask = torch.ones(len(x), 1, dtype=torch.bool)
        examples = FusionExamples(FusionInputs(tokens={FACE: x}, mask=mask), targets.values)
        objective = Objective(task=AH_FRAME)
        config = replace(CONFIG, epochs=12)
        result = fit(network(2), examples, examples, config, seed=0, loss=loss_of_logits, objective=objective)
        histories.append([(epoch.train_loss, epoch.validation_score) for epoch in result.history])
        assert result.validation_score > 0.9
    assert histories[0] == histories[1]

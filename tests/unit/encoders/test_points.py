"""The encoder that answers at points: what it sees there by hand, in the order that was asked for."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch

from twominds.backbones import BackboneStore
from twominds.encoders import embedding
from twominds.encoders.embedding import embed
from twominds.encoders.points import PointEncoder, PointEncoderConfig
from twominds.errors import ConfigError, TrainingError
from twominds.records import PRESENT, Features, Modality, absent
from twominds.tasks import MIMICRY
from twominds.training.examples import FeatureExamples, Targets

FACE = Modality.FACE


def clip(name: str, rows: int, points: list[float] | None, *, rate_hz: float = 10.0, seed: int = 0) -> Features:
    values = np.random.default_rng(seed).standard_normal((rows, 3)).astype(np.float32)
    points_s = None if points is None else np.array(points)
    times_s = np.arange(rows) / rate_hz
    return Features(clip_id=name, view=FACE, presence=PRESENT, values=values, times_s=times_s, points_s=points_s)


def encoder_of(config: PointEncoderConfig, outputs: int = 2) -> PointEncoder:
    torch.manual_seed(0)
    encoder = PointEncoder(config, num_outputs=outputs, architecture={"input_dim": 3})
    with torch.no_grad():
        encoder.norm.running_mean.normal_()  # type: ignore[union-attr]
    return encoder.eval()


def values_of(features: Features) -> npt.NDArray[np.float32]:
    assert features.values is not None
    return features.values


def test_the_nearest_row_of_two_as_near_the_earlier() -> None:
    features = clip("a", 4, [0.0, 0.14, 0.15, 0.16, 9.0])
    seen = encoder_of(PointEncoderConfig()).at_points(features, np.arange(5))
    np.testing.assert_array_equal(seen, values_of(features)[[0, 1, 1, 2, 3]])


def test_steps_before_and_after_by_hand() -> None:
    """Three steps of .2 s at .3 s see the rows at .1, .3 and .5 s; beyond the ends the last row stands."""
    features = clip("a", 7, [0.3, 0.0, 0.6])
    seen = encoder_of(PointEncoderConfig(steps=3, step_s=0.2)).at_points(features, np.array([0, 1, 2]))
    v = values_of(features)
    expected = [np.concatenate([v[i] for i in which]) for which in ((1, 3, 5), (0, 0, 2), (4, 6, 6))]
    np.testing.assert_array_equal(seen, expected)


def test_mixtures_and_means_by_hand() -> None:
    features = clip("a", 5, [0.125])
    v = values_of(features)
    seen = encoder_of(PointEncoderConfig(alignment="linear")).at_points(features, np.array([0]))
    np.testing.assert_allclose(seen, [0.75 * v[1] + 0.25 * v[2]], rtol=1e-5)
    config = PointEncoderConfig(alignment="mean", steps=3, step_s=0.2)
    seen = encoder_of(config).at_points(features, np.array([0]))
    # Windows of .2 s around -.075, .125 and .325 s.
    expected = np.concatenate([v[:1].mean(axis=0), v[1:3].mean(axis=0), v[3:5].mean(axis=0)])
    np.testing.assert_allclose(seen[0], expected, rtol=1e-5)


def test_a_clip_that_is_asked_about_as_a_whole_is_its_middle() -> None:
    features = clip("a", 5, None)
    np.testing.assert_array_equal(
        encoder_of(PointEncoderConfig()).at_points(features, np.array([0])), values_of(features)[[2]]
    )


@pytest.mark.parametrize("steps", [1, 3])
def test_rows_come_in_the_order_asked_for(steps: int) -> None:
    encoder = encoder_of(PointEncoderConfig(steps=steps, step_s=0.1, alignment="linear"))
    clips = [clip(str(i), 6 + i, np.linspace(0, 0.4, 4 + i).tolist(), seed=i) for i in range(3)]
    clips.insert(1, Features(clip_id="gone", view=FACE, presence=absent("no face")))
    owners = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3])
    points = torch.tensor([0, 1, 3, 0, 2, 0, 2, 4, 0, 1, 4, 5])
    values = torch.arange(12)
    examples = FeatureExamples(encoder, clips, Targets(values=values, owners=owners, points=points))
    assert examples.left_out.tolist() == [3, 4]
    assert examples.labels.tolist() == [0, 1, 2, 5, 6, 7, 8, 9, 10, 11]
    kept = [i for i in range(12) if owners[i] != 1]
    order = np.random.default_rng(0).permutation(10)
    together = examples.batch(torch.from_numpy(order))["rows"]
    for row, place in zip(together, order.tolist(), strict=True):
        (alone,) = examples.batch(torch.tensor([place]))["rows"]
        owner, point = int(owners[kept[place]]), int(points[kept[place]])
        by_hand = encoder.at_points(clips[owner], np.array([point]))[0]
        assert torch.equal(row, alone)
        np.testing.assert_array_equal(row.numpy(), by_hand)
    twice = examples.batch(torch.tensor([9, 0, 9]))["rows"]
    assert torch.equal(twice[0], twice[2])
    assert not torch.equal(twice[0], twice[1])
    with pytest.raises(ValueError, match="2 clips but targets of 4"):
        FeatureExamples(encoder, clips[:2], Targets(values=values, owners=owners, points=points))
    gone = owners == 1
    with pytest.raises(TrainingError, match="face"):
        FeatureExamples(encoder, clips, Targets(values=values, owners=owners, points=points).select(gone))


def test_an_embedding_has_a_vector_for_each_point(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of(PointEncoderConfig(hidden_dim=5, dropout=0.5))
    points = np.linspace(0, 0.9, 7)
    gone = Features(clip_id="gone", view=FACE, presence=absent("no face"), points_s=points)
    first, nobody, second = embed(encoder, [clip("a", 10, points.tolist()), gone, clip("b", 4, None, seed=1)])
    assert first.vectors is not None
    assert first.logits is not None
    assert first.probabilities is not None
    assert (first.vectors.shape, first.logits.shape) == ((7, 5), (7, 2))
    np.testing.assert_array_equal(first.points_s, points)
    np.testing.assert_allclose(first.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (nobody.vectors, nobody.presence.present) == (None, False)
    assert nobody.points_s is points, "the fusion must know how many points it has"
    assert second.vectors is not None
    assert (second.vectors.shape, second.points_s) == ((1, 5), None)
    # The network, written out.
    rows = values_of(clip("a", 10, None))[[0, 1, 3, 4, 6, 7, 9]]  # at 0, .15, .3, .45, .6, .75, .9 s
    state = {name: tensor.double().numpy() for name, tensor in encoder.state_dict().items()}
    normal = (rows - state["norm.running_mean"]) / np.sqrt(state["norm.running_var"] + 1e-5)
    hidden = np.maximum((normal * state["norm.weight"] + state["norm.bias"]) @ state["hidden.0.weight"].T
                        + state["hidden.0.bias"], 0)  # fmt: skip
    np.testing.assert_allclose(first.vectors, hidden, atol=1e-5)
    np.testing.assert_allclose(
        first.logits, hidden @ state["classifier.weight"].T + state["classifier.bias"], atol=1e-5
    )
    monkeypatch.setattr(embedding, "POINTS_AT_ONCE", 3)
    (parts,) = embed(encoder, [clip("a", 10, points.tolist())])
    np.testing.assert_allclose(parts.vectors, first.vectors, atol=1e-6)  # type: ignore[arg-type]


def test_intensities_are_between_the_least_and_the_most() -> None:
    encoder = encoder_of(PointEncoderConfig(), outputs=6)
    encoder.output = MIMICRY.output
    (found,) = embed(encoder, [clip("a", 4, [0.0, 0.2])])
    assert found.logits is not None
    np.testing.assert_allclose(found.probabilities, 1 / (1 + np.exp(-found.logits)), rtol=1e-5)  # type: ignore[arg-type]


def test_rows_without_times_have_no_points(store: BackboneStore) -> None:
    words = Features(clip_id="a", view=FACE, presence=PRESENT, values=np.ones((3, 3), np.float32))
    with pytest.raises(ConfigError, match="needs features with rows in time"):
        PointEncoder.pretrained(PointEncoderConfig(), num_outputs=2, store=store, example=words)
    with pytest.raises(ValueError, match="have no times"):
        encoder_of(PointEncoderConfig()).at_points(words, np.array([0]))
    made = PointEncoder.pretrained(PointEncoderConfig(steps=3), num_outputs=8, store=store, example=clip("a", 3, [0.0]))
    assert made.architecture == {"input_dim": 3}
    assert made.hidden[0].in_features == 9


@pytest.mark.parametrize(
    "setting", [{"steps": 2}, {"steps": 0}, {"step_s": 0.0}, {"hidden_dim": -1}, {"dropout": 1.0}], ids=str
)
def test_settings_out_of_range_are_named(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        PointEncoderConfig(**setting)  # type: ignore[arg-type]


def test_by_position_the_first_point_has_the_first_row_and_the_last_the_last() -> None:
    features = clip("a", 5, [0.0, 7.0, 9.0])  # whenever they are
    v = values_of(features)
    seen = encoder_of(PointEncoderConfig(alignment="linear", by="position")).at_points(features, np.array([2, 1, 0]))
    np.testing.assert_allclose(seen, v[[4, 2, 0]], atol=1e-6)
    seen = encoder_of(PointEncoderConfig(by="position")).at_points(features, np.array([0, 2]))
    np.testing.assert_array_equal(seen, v[[0, 3]])  # 2 * 5 / 3, rounded down


@pytest.mark.parametrize(("columns", "seen"), [((None, -1), [0, 1]), ((-1, None), [2]), ((1, 2), [1])])
def test_a_linear_head_over_some_columns_by_hand(columns: tuple[int | None, int | None], seen: list[int]) -> None:
    encoder = PointEncoder(
        PointEncoderConfig(columns=columns, standardize=False, hidden_dim=0),
        num_outputs=2,
        architecture={"input_dim": 3},
    ).eval()
    features = clip("a", 4, [0.1, 0.3])
    with torch.no_grad():
        output = encoder(encoder.collate_points([features], [np.array([0, 1])], "cpu"))
    rows = values_of(features)[[1, 3]][:, seen]
    weight, bias = (value.detach().numpy() for value in (encoder.classifier.weight, encoder.classifier.bias))
    np.testing.assert_allclose(output.logits.numpy(), rows @ weight.T + bias, rtol=1e-5)
    np.testing.assert_array_equal(output.embedding.numpy(), rows)
    assert encoder.embedding_dim == len(seen)
    assert {name for name, _ in encoder.named_parameters()} == {"classifier.weight", "classifier.bias"}


def test_columns_that_leave_nothing_and_windows_by_position_are_refused() -> None:
    with pytest.raises(ConfigError, match="leave nothing of rows of 3"):
        PointEncoder(PointEncoderConfig(columns=(3, None)), num_outputs=2, architecture={"input_dim": 3})
    for options in ({"steps": 3}, {"alignment": "mean"}):
        with pytest.raises(ConfigError, match="By position a point is one row"):
            PointEncoderConfig(by="position", **options)  # pyright: ignore[reportArgumentType]


def test_of_two_classes_one_number_may_be_learned() -> None:
    """Keras's Dense(1, sigmoid): the logits are 0 and z, so the last class's probability is the sigmoid of z."""
    features = clip("a", 4, [0.0, 0.1])
    torch.manual_seed(0)
    config = PointEncoderConfig(standardize=False, hidden_dim=2, one_logit=True)
    encoder = PointEncoder(config, num_outputs=2, architecture={"input_dim": 3}).eval()
    rows = torch.from_numpy(values_of(features)[:2])
    z = encoder.classifier(encoder.hidden(rows))
    (found,) = embed(encoder, [features])
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities[:, 1], z[:, 0].sigmoid().detach().numpy(), rtol=1e-6)
    with pytest.raises(ConfigError, match="one_logit is for two classes"):
        encoder_of(PointEncoderConfig(one_logit=True), outputs=3)


def test_scores_of_a_model_that_was_trained_before_are_taken_as_they_are() -> None:
    """HSEmotion's filter: softmax of the raw scores in the task's order; nothing is learned."""
    features = clip("a", 4, [0.0, 0.3])
    config = PointEncoderConfig(columns=(1, None), logits_of=(1, 0))
    taken = PointEncoder(config, num_outputs=2, architecture={"input_dim": 3}).eval()
    assert not list(taken.parameters())
    (found,) = embed(taken, [features])
    v = values_of(features)[[0, 3]]
    expected = np.exp(v[:, [2, 1]]) / np.exp(v[:, [2, 1]]).sum(axis=1, keepdims=True)
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-6)
    with pytest.raises(ConfigError, match="logits_of must name one of 2 columns"):
        PointEncoder(
            PointEncoderConfig(columns=(1, None), logits_of=(2, 0)), num_outputs=2, architecture={"input_dim": 3}
        )


def test_answers_may_be_interpolated_rather_than_rows() -> None:
    """Against SciPy: of a frame without a face the probabilities lie between its neighbours'; before the first: its."""
    from scipy.interpolate import interp1d

    rows_s, points_s = np.array([0.2, 0.3, 0.7]), [0.0, 0.2, 0.25, 0.5, 0.7, 0.9]
    features = replace(clip("a", 3, points_s), times_s=rows_s)
    encoder = encoder_of(PointEncoderConfig(between="answers"))
    (at_rows,) = embed(encoder, [replace(features, points_s=rows_s)])
    (found,) = embed(encoder, [features])
    assert at_rows.probabilities is not None
    assert found.probabilities is not None
    assert found.logits is not None
    inside = np.clip(points_s, rows_s[0], rows_s[-1])
    between = cast("npt.NDArray[np.float64]", cast(Any, interp1d)(rows_s, at_rows.probabilities, axis=0)(inside))
    np.testing.assert_allclose(found.probabilities, between, atol=1e-6)
    exponentials = np.exp(found.logits)
    np.testing.assert_allclose(exponentials / exponentials.sum(axis=1, keepdims=True), found.probabilities, atol=1e-6)
    with pytest.raises(ConfigError, match="told by time"):
        PointEncoderConfig(between="answers", by="position")

"""The encoder of a clip's statistics: HSEmotion's STAT by hand, whatever else is in the batch."""

import numpy as np
import pytest
import torch

from twominds.encoders.statistics import Pooling, StatisticsEncoder, StatisticsEncoderConfig, statistics
from twominds.errors import ConfigError
from twominds.records import PRESENT, Features, Modality

RNG = np.random.default_rng(0)


def clip(name: str, rows: int) -> Features:
    values = RNG.standard_normal((rows, 5)).astype(np.float32)
    return Features(clip_id=name, view=Modality.FACE, presence=PRESENT, values=values, times_s=np.arange(rows) / 10)


def test_mean_deviation_least_and_most_in_this_order_by_hand() -> None:
    rows = np.array([[1.0, 10.0], [3.0, 10.0], [8.0, 40.0]])
    # Column 1: mean 4, squares off 9 + 1 + 16 = 26, over three 8.667. Column 2: mean 20, 100 + 100 + 400 = 600, 200.
    expected = [4, 20, (26 / 3) ** 0.5, 200**0.5, 1, 10, 8, 40]
    np.testing.assert_allclose(statistics(rows, "stat"), expected, rtol=1e-6)
    assert statistics(rows, "mean").tolist() == [4, 20]
    np.testing.assert_allclose(statistics(rows, "mean_std"), expected[:4], rtol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "mean_std", "stat"])
def test_a_linear_head_over_the_scores_of_a_descriptor(pooling: Pooling) -> None:
    config = StatisticsEncoderConfig(columns=(-2, None), pooling=pooling, standardize=False, hidden_dim=0)
    encoder = StatisticsEncoder(config, num_outputs=3, architecture={"input_dim": 5}).eval()
    clips = [clip("a", 4), clip("b", 9)]
    with torch.no_grad():
        together = encoder(encoder.collate(clips))
        alone = encoder(encoder.collate(clips[1:]))
    values = clips[1].values
    assert values is not None
    seen = statistics(values[:, 3:], pooling)
    weight, bias = (value.detach().numpy() for value in (encoder.classifier.weight, encoder.classifier.bias))
    np.testing.assert_allclose(alone.logits[0].numpy(), weight @ seen + bias, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(together.logits[1], alone.logits[0])
    assert encoder.embedding_dim == len(seen) == {"mean": 2, "mean_std": 4, "stat": 8}[pooling]


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ConfigError, match="hidden_dim"):
        StatisticsEncoderConfig(hidden_dim=-1)
    with pytest.raises(ConfigError, match="dropout"):
        StatisticsEncoderConfig(dropout=1.0)
    with pytest.raises(ConfigError, match="leave nothing"):
        StatisticsEncoder(StatisticsEncoderConfig(columns=(9, None)), num_outputs=2, architecture={"input_dim": 5})

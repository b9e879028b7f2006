import numpy as np
import torch

from twominds.encoders.padding import pad_sequences
from twominds.encoders.pooling import masked_mean, masked_mean_std


def test_mean_and_population_std_worked_by_hand() -> None:
    # Equations 2 and 3: of 1, 3, 8 the mean is 4 and the population variance (9 + 1 + 16) / 3.
    values = torch.tensor([[[1.0], [3.0], [8.0]]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    torch.testing.assert_close(masked_mean(values, mask), torch.tensor([[4.0]]))
    torch.testing.assert_close(masked_mean_std(values, mask), torch.tensor([[4.0, (26 / 3) ** 0.5]]))


def test_padding_is_never_seen_whatever_it_holds() -> None:
    values = torch.tensor([[[1.0], [3.0], [8.0], [torch.nan], [torch.inf]]])
    mask = torch.tensor([[True, True, True, False, False]])
    torch.testing.assert_close(masked_mean(values, mask), torch.tensor([[4.0]]))
    torch.testing.assert_close(masked_mean_std(values, mask), torch.tensor([[4.0, (26 / 3) ** 0.5]]))


def test_one_step_has_no_spread() -> None:
    mask = torch.ones(1, 1, dtype=torch.bool)
    assert masked_mean_std(torch.tensor([[[2.0, -1.0]]]), mask).tolist() == [[2.0, -1.0, 0.0, 0.0]]


def test_padded_agrees_with_numpy_row_by_row() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(length, 7)).astype(np.float32) for length in (3, 30, 1)]
    pooled = masked_mean_std(*pad_sequences(rows)).numpy()
    for row, result in zip(rows, pooled, strict=True):
        np.testing.assert_allclose(result, np.concatenate([row.mean(axis=0), row.std(axis=0)]), atol=1e-6)


def test_pad_sequences_pads_on_the_right_with_the_value_given() -> None:
    padded, mask = pad_sequences([np.array([5, 6, 7]), np.array([8])], 1)
    assert padded.tolist() == [[5, 6, 7], [8, 1, 1]]
    assert padded.dtype == torch.int64
    assert mask.tolist() == [[True, True, True], [True, False, False]]

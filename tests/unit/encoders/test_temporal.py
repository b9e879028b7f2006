from collections.abc import Callable

import pytest
import torch
from torch import nn

from twominds.encoders.temporal import LSTMEncoder, MambaEncoder, TransformerEncoder, sinusoidal_positions

ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "mamba": lambda: MambaEncoder(8, num_layers=2, state_dim=4, conv_kernel=4, expand=2, dropout=0.1),
    "transformer": lambda: TransformerEncoder(8, num_layers=2, num_heads=2, feed_forward_dim=16, dropout=0.1),
    "lstm": lambda: LSTMEncoder(8, num_layers=2, dropout=0.1),
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_real_steps_do_not_depend_on_padding_or_neighbours(kind: str) -> None:
    torch.manual_seed(0)
    encoder = ENCODERS[kind]().eval()
    long, short = torch.randn(1, 45, 8), torch.randn(1, 13, 8)
    batch = torch.full((2, 45, 8), 7.0)
    batch[0], batch[1, :13] = long[0], short[0]
    mask = torch.arange(45) < torch.tensor([[45], [13]])
    with torch.no_grad():
        together = encoder(batch, mask)
        torch.testing.assert_close(together[:1], encoder(long, mask[:1]), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together[1:, :13], encoder(short, mask[1:, :13]), atol=1e-5, rtol=1e-5)
    assert together.shape == batch.shape


def test_mamba_layers_are_residual_with_post_norm() -> None:
    encoder = MambaEncoder(8, num_layers=1, state_dim=4, conv_kernel=4, expand=2, dropout=0.5).eval()
    x = torch.randn(2, 9, 8)
    expected = nn.functional.layer_norm(x + encoder.mixers[0](x), (8,))
    torch.testing.assert_close(encoder(x, torch.ones(2, 9, dtype=torch.bool)), expected)


def test_positions_are_sines_and_cosines() -> None:
    positions = sinusoidal_positions(3, 4)
    assert positions[0].tolist() == [0.0, 1.0, 0.0, 1.0]
    expected = torch.tensor([2.0, 2.0, 2 / 100, 2 / 100])
    torch.testing.assert_close(positions[2, ::2], expected[::2].sin())
    torch.testing.assert_close(positions[2, 1::2], expected[1::2].cos())

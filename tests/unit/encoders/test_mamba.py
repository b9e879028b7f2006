"""The selective scan against the recurrence of the Mamba paper, worked out step by step in float64."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from twominds.encoders.mamba import CHUNK_STEPS, MambaMixer, cuda_selective_scan, selective_scan

Array = npt.NDArray[np.float64]
LENGTHS = [1, 3, CHUNK_STEPS, CHUNK_STEPS + 1, 2 * CHUNK_STEPS + 5]


def mixer(seed: int = 0) -> MambaMixer:
    torch.manual_seed(seed)
    made = MambaMixer(20, state_dim=8, conv_kernel=4, expand=2)
    with torch.no_grad():  # off the symmetric start: every state, skip and bias its own
        made.D.normal_()
        made.A_log.add_(0.3 * torch.randn_like(made.A_log))
    return made


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def recurrence(weights: dict[str, Array], x: Array) -> Array:
    """One clip [T, D] through a Mamba layer, one scalar recurrence per channel and state."""
    steps, inner = len(x), len(weights["D"])
    state_dim = weights["A_log"].shape[1]
    rank = weights["dt_proj.weight"].shape[1]
    projected = x @ weights["in_proj.weight"].T
    before_conv, gate = projected[:, :inner], projected[:, inner:]
    kernel, width = weights["conv1d.weight"][:, 0], weights["conv1d.weight"].shape[2]
    u = np.zeros((steps, inner))
    for t in range(steps):
        u[t] = weights["conv1d.bias"]
        for k in range(width):
            if (past := t - (width - 1) + k) >= 0:
                u[t] += kernel[:, k] * before_conv[past]
    u = u * sigmoid(u)
    a = -np.exp(weights["A_log"])
    h = np.zeros((inner, state_dim))
    y = np.zeros((steps, inner))
    for t in range(steps):
        selected = weights["x_proj.weight"] @ u[t]
        raw_dt, b, c = selected[:rank], selected[rank : rank + state_dim], selected[rank + state_dim :]
        dt = np.log1p(np.exp(weights["dt_proj.weight"] @ raw_dt + weights["dt_proj.bias"]))
        for channel in range(inner):
            a_bar = np.exp(dt[channel] * a[channel])
            b_bar = dt[channel] * b
            h[channel] = a_bar * h[channel] + b_bar * u[t, channel]
            y[t, channel] = c @ h[channel] + weights["D"][channel] * u[t, channel]
    return (y * gate * sigmoid(gate)) @ weights["out_proj.weight"].T


def loop_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, z: Tensor, bias: Tensor) -> Tensor:
    """The scan as a plain loop that autograd follows."""
    dt = torch.log1p(torch.exp(delta + bias[:, None]))
    h = torch.zeros(u.shape[0], *a.shape, dtype=u.dtype)
    outputs: list[Tensor] = []
    for t in range(u.shape[2]):
        h = torch.exp(dt[:, :, t, None] * a) * h + dt[:, :, t, None] * b[:, None, :, t] * u[:, :, t, None]
        outputs.append((h * c[:, None, :, t]).sum(dim=2) + d * u[:, :, t])
    return torch.stack(outputs, dim=2) * z * torch.sigmoid(z)


def scan_inputs(steps: int) -> list[Tensor]:
    torch.manual_seed(steps)
    batch, dim, state = 2, 3, 4
    shapes = [(batch, dim, steps)] * 2 + [(dim, state)] + [(batch, state, steps)] * 2
    tensors = [torch.randn(*shape, dtype=torch.float64) for shape in [*shapes, (dim,), (batch, dim, steps), (dim,)]]
    tensors[2] = -tensors[2].exp()
    return [tensor.requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_forward_is_the_papers_recurrence(steps: int, dtype: torch.dtype, tolerance: float) -> None:
    layer = mixer()
    weights = {name: tensor.double().numpy() for name, tensor in layer.state_dict().items()}
    x = np.random.default_rng(steps).normal(size=(2, steps, 20))
    with torch.no_grad():
        y = layer.to(dtype)(torch.from_numpy(x).to(dtype)).double().numpy()
    np.testing.assert_allclose(y, np.stack([recurrence(weights, clip) for clip in x]), atol=tolerance)


@pytest.mark.parametrize("steps", LENGTHS)
def test_gradients_are_those_of_the_plain_loop(steps: int) -> None:
    ours, theirs = scan_inputs(steps), scan_inputs(steps)
    y, expected = selective_scan(*ours), loop_scan(*theirs)
    torch.testing.assert_close(y, expected)
    weights = torch.randn_like(y)
    (y * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, reference.grad)


def test_gradients_are_those_of_finite_differences() -> None:
    check = cast(Callable[..., bool], torch.autograd.gradcheck)
    assert check(selective_scan, [tensor.detach()[..., :7].requires_grad_() for tensor in scan_inputs(7)])


def test_parameters_are_those_of_mamba_ssm() -> None:
    # Names and shapes of mamba_ssm.Mamba(d_model=256, d_state=8, d_conv=4, expand=2), from its source.
    layer = MambaMixer(256, state_dim=8, conv_kernel=4, expand=2)
    assert {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()} == {
        "in_proj.weight": (1024, 256),
        "conv1d.weight": (512, 1, 4),
        "conv1d.bias": (512,),
        "x_proj.weight": (32, 512),
        "dt_proj.weight": (512, 16),
        "dt_proj.bias": (512,),
        "A_log": (512, 8),
        "D": (512,),
        "out_proj.weight": (256, 512),
    }


def test_a_checkpoint_of_transformers_mixer_gives_the_same() -> None:
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer as TheirMixer

    layer = mixer()
    config = MambaConfig(hidden_size=20, state_size=8, conv_kernel=4, expand=2, num_hidden_layers=1)
    theirs = cast(Any, TheirMixer)(config, 0)
    theirs.load_state_dict(layer.state_dict())
    x = torch.randn(2, 40, 20)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), theirs(x), atol=2e-6, rtol=1e-5)


def test_starts_as_the_paper_says() -> None:
    layer = MambaMixer(256, state_dim=8, conv_kernel=4, expand=2)
    torch.testing.assert_close(layer.A_log.exp()[7], torch.arange(1.0, 9.0))
    assert torch.all(layer.D == 1)
    dt = torch.nn.functional.softplus(layer.dt_proj.bias)
    assert dt.min() > 0.99e-3
    assert dt.max() < 1.01e-1
    assert layer.dt_proj.weight.abs().max() <= 16**-0.5


def test_the_future_and_right_padding_cannot_reach_a_step() -> None:
    layer = mixer()
    x = torch.randn(1, 50, 20)
    changed = torch.cat([x[:, :37], torch.full((1, 90, 20), 1e3)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(layer(changed)[:, :37], layer(x)[:, :37])


def test_autocast_keeps_the_scan_in_float32() -> None:
    inputs = [tensor.detach().float() for tensor in scan_inputs(40)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = selective_scan(*inputs)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, selective_scan(*inputs))


def test_gradients_flow_below_autocast() -> None:
    layer = mixer()
    x = torch.randn(2, 40, 20, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(x).float().square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in [x, *layer.parameters()])


def test_the_scan_is_always_softplus() -> None:
    with pytest.raises(ValueError, match="softplus"):
        selective_scan(*scan_inputs(3), delta_softplus=False)


def test_mamba_ssm_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    cuda_selective_scan.cache_clear()
    monkeypatch.setattr("twominds.encoders.mamba.importlib.import_module", missing)
    assert cuda_selective_scan() is None
    cuda_selective_scan.cache_clear()

"""mamba_ssm's kernels and the scan in plain torch, on the same weights and inputs."""

from typing import Any, cast

import pytest
import torch

from twominds.encoders.mamba import MambaMixer, cuda_selective_scan

pytestmark = pytest.mark.gpu

SIZES = {"state_dim": 8, "conv_kernel": 4, "expand": 2}


@pytest.fixture
def mamba_class() -> Any:
    """`mamba_ssm.Mamba`; it can be neither built nor imported without CUDA, so only these tests ask for it."""
    return pytest.importorskip("mamba_ssm").Mamba


def outputs_and_gradients(layer: torch.nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    layer.zero_grad()
    x = x.clone().requires_grad_()
    y = layer(x)
    y.square().sum().backward()
    gradients = {name: cast(torch.Tensor, p.grad) for name, p in layer.named_parameters()}
    return {"output": y.detach(), "input": cast(torch.Tensor, x.grad), **gradients}


@pytest.mark.parametrize("steps", [1, 31, 500, 1350])
def test_checkpoint_moves_between_mamba_ssm_and_the_mixer(
    steps: int, mamba_class: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    theirs = mamba_class(d_model=256, d_state=8, d_conv=4, expand=2).cuda()
    x = torch.randn(2, steps, 256, device="cuda")
    mixer = MambaMixer(256, **SIZES).cuda()
    mixer.load_state_dict(theirs.state_dict())
    expected = outputs_and_gradients(theirs, x)
    assert cuda_selective_scan() is not None
    with_kernel = outputs_and_gradients(mixer, x)
    monkeypatch.setattr("twominds.encoders.mamba.cuda_selective_scan", lambda: None)
    in_torch = outputs_and_gradients(mixer, x)
    for ours in (with_kernel, in_torch):
        assert ours.keys() == expected.keys()
        for name, reference in expected.items():
            scale = reference.abs().max().item()
            assert (ours[name] - reference).abs().max().item() <= 1e-4 * max(scale, 1e-3), name


def test_plain_scan_on_cuda_agrees_with_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twominds.encoders.mamba.cuda_selective_scan", lambda: None)
    torch.manual_seed(0)
    mixer = MambaMixer(64, **SIZES)
    x = torch.randn(2, 100, 64)
    with torch.no_grad():
        on_cpu = mixer(x)
        on_cuda = mixer.cuda()(x.cuda()).cpu()
    torch.testing.assert_close(on_cuda, on_cpu, atol=1e-4, rtol=1e-3)

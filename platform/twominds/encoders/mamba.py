"""Mamba's selective state space layer (Gu & Dao 2024), on any device.

`MambaMixer` has the parameters of `mamba_ssm.Mamba`, by name and shape, and computes the same: on CUDA with that
package's fused scan where it can be imported, elsewhere with `selective_scan` below. Which one runs is decided by the
input's device at each call, so a checkpoint moves between machines unchanged.

Why a scan of our own: on one CPU thread, for a batch of 8 x 500 steps with 512 channels and 8 states, a training step
takes 60 s with the loop of transformers' mixer, 2.2 s with mambapy's parallel scan and 0.5 s with this one (at 1350
steps mambapy takes 8 s, this one 1.5 s). It works as the CUDA kernel does: it never holds all states [T, B, N, D]
at once, but keeps one per chunk of time and recomputes the rest when the gradient is asked for (section 3.3.2 there).
Transformers' mixer can't be used either way once mamba_ssm is installed: it then calls the CUDA kernel on the CPU too.
"""

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK_STEPS = 32
"""Steps whose states are in memory at once: few enough for the processor's cache, many enough for vectorised work."""


class MambaMixer(nn.Module):
    """[B, T, D] -> [B, T, D], causal: step t sees steps 0..t, so right-padding cannot reach the real ones.

    Args:
        dim: D, the length of a step's vector.
        state_dim: N, states per channel.
        conv_kernel: Width of the causal depthwise convolution before the scan.
        expand: The inner layer has `expand * dim` channels.
    """

    def __init__(self, dim: int, *, state_dim: int, conv_kernel: int, expand: int) -> None:
        super().__init__()
        inner = expand * dim
        self.state_dim = state_dim
        self.dt_rank = math.ceil(dim / 16)
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, conv_kernel, groups=inner, padding=conv_kernel - 1)
        self.x_proj = nn.Linear(inner, self.dt_rank + 2 * state_dim, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, inner)
        self.A_log = nn.Parameter(torch.empty(inner, state_dim))
        self.D = nn.Parameter(torch.empty(inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)
        self.reset_scan()

    @torch.no_grad()
    def reset_scan(self, smallest_dt: float = 1e-3, largest_dt: float = 1e-1) -> None:
        """The paper's start (section 3.6): A is S4D-real, step sizes are log-uniform, D is one."""
        self.A_log.copy_(torch.arange(1, self.state_dim + 1).log().expand_as(self.A_log))
        self.D.fill_(1.0)
        bound = self.dt_rank**-0.5
        self.dt_proj.weight.uniform_(-bound, bound)
        dt = torch.empty_like(self.dt_proj.bias).uniform_(math.log(smallest_dt), math.log(largest_dt)).exp()
        self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus of it is dt

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        u, gate = self.in_proj(x).transpose(1, 2).chunk(2, dim=1)
        u = F.silu(self.conv1d(u)[..., : x.shape[1]])
        sizes = [self.dt_rank, self.state_dim, self.state_dim]
        dt, b, c = self.x_proj(u.transpose(1, 2)).split(sizes, dim=-1)
        scan = (cuda_selective_scan() if x.is_cuda else None) or selective_scan
        y = scan(
            u,
            self.dt_proj.weight @ dt.transpose(1, 2),
            -torch.exp(self.A_log),
            b.transpose(1, 2),
            c.transpose(1, 2),
            self.D,
            z=gate,
            delta_bias=self.dt_proj.bias,
            delta_softplus=True,
        )
        return self.out_proj(y.transpose(1, 2))


@functools.cache
def cuda_selective_scan() -> Callable[..., Tensor] | None:
    """The fused scan of mamba_ssm; None where that package is missing or built for another CUDA or torch."""
    try:
        module: Any = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    except (ImportError, OSError):
        return None
    return cast(Callable[..., Tensor], module.selective_scan_fn)


def selective_scan(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    z: Tensor,
    delta_bias: Tensor,
    *,
    delta_softplus: bool = True,
) -> Tensor:
    """The selective scan in plain torch, called like `mamba_ssm`'s `selective_scan_fn`.

    With dt_t = softplus(delta_t + delta_bias), for each channel and state (Gu & Dao 2024, eq. 2 and 4 with the
    implementation's B_bar = dt B):

        h_t = exp(dt_t A) h_(t-1) + dt_t B_t u_t        y_t = (C_t . h_t + D u_t) silu(z_t)

    Computed in float32 at least, also below autocast; differentiable once.

    Args:
        u: [B, D, T] input.
        delta: [B, D, T] step sizes before bias and softplus.
        a: [D, N], negative.
        b: [B, N, T].
        c: [B, N, T].
        d: [D] skip.
        z: [B, D, T] gate.
        delta_bias: [D].
        delta_softplus: Must be True.

    Returns:
        [B, D, T] of u's dtype.
    """
    if not delta_softplus:
        raise ValueError("delta_softplus must be True")
    working = torch.promote_types(u.dtype, torch.float32)
    with torch.autocast(u.device.type, enabled=False):
        # Time first and channels last: each step of the scan is then one contiguous block.
        u_, delta_, b_, c_, z_ = (x.to(working).permute(2, 0, 1).contiguous() for x in (u, delta, b, c, z))
        dt = F.softplus(delta_ + delta_bias)
        scanned = cast(Tensor, _Scan.apply(u_ * dt, dt, a.T.contiguous(), b_, c_))
        y = (scanned + d * u_) * F.silu(z_)
    return y.permute(1, 2, 0).to(u.dtype)


class _Scan(torch.autograd.Function):
    """y_t = C_t . h_t with h_t = exp(dt_t A) h_(t-1) + B_t x_t.

    x, dt [T, B, D], a [N, D], b, c [T, B, N] -> [T, B, D].
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride] - torch leaves the signature to us
        y = torch.empty_like(x)
        state = x.new_zeros(x.shape[1], *a.shape)
        starts: list[Tensor] = []
        for chunk in _chunks(len(x)):
            starts.append(state)
            states, _ = _states(x[chunk], dt[chunk], a, b[chunk], state)
            y[chunk] = (c[chunk].unsqueeze(2) @ states).squeeze(2)
            state = states[-1].clone()
        ctx.save_for_backward(x, dt, a, b, c, *starts)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride] - as above
        x, dt, a, b, c, *starts = cast(tuple[Tensor, ...], ctx.saved_tensors)
        grad_x, grad_dt, grad_b, grad_c = (torch.empty_like(tensor) for tensor in (x, dt, b, c))
        grad_a = torch.zeros_like(a)
        later = torch.zeros_like(starts[0])  # gradient that reaches a chunk's last state from the steps after it
        with torch.autocast(x.device.type, enabled=False):
            for chunk, start in zip(reversed(_chunks(len(x))), reversed(starts), strict=True):
                states, decay = _states(x[chunk], dt[chunk], a, b[chunk], start)
                grad = c[chunk].unsqueeze(-1) * grad_y[chunk].unsqueeze(2)  # of the states: [K, B, N, D]
                grad[-1] += later
                steps, decays = grad.unbind(), decay.unbind()
                for t in range(len(steps) - 2, -1, -1):
                    steps[t].addcmul_(decays[t + 1], steps[t + 1])
                later = decays[0] * steps[0]
                grad_c[chunk] = (states @ grad_y[chunk].unsqueeze(-1)).squeeze(-1)
                grad_b[chunk] = (grad @ x[chunk].unsqueeze(-1)).squeeze(-1)
                grad_x[chunk] = (b[chunk].unsqueeze(2) @ grad).squeeze(2)
                exponent = decay.mul_(grad)  # gradient of dt_t A: grad_t * decay_t * h_(t-1)
                exponent[0] *= start
                exponent[1:] *= states[:-1]
                grad_dt[chunk] = (exponent * a).sum(dim=2)
                grad_a += (exponent * dt[chunk].unsqueeze(2)).sum(dim=(0, 1))
        return grad_x, grad_dt, grad_a, grad_b, grad_c


def _chunks(steps: int) -> list[slice]:
    return [slice(start, start + CHUNK_STEPS) for start in range(0, steps, CHUNK_STEPS)]


def _states(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """States and decays of one chunk, both [K, B, N, D], from the state [B, N, D] before it."""
    decay = torch.exp(dt.unsqueeze(2) * a)
    states = x.unsqueeze(2) * b.unsqueeze(-1)
    previous = start
    for step, step_decay in zip(states.unbind(), decay.unbind(), strict=True):
        previous = step.addcmul_(step_decay, previous)
    return states, decay

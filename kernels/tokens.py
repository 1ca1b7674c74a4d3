# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators on tokens (B,T,S,h,D) share: batch, latent frame, cell of the frame, head, channel of the head."""

import torch
from torch import Tensor

# Elements of one tensor at a time: what a CPU's cache holds, a bounded buffer on other devices.
_CPU_PORTION, _DEVICE_PORTION = 1 << 17, 1 << 26


def portions(x: Tensor) -> list[slice]:
    """Slices of the frame axis of x (B,T,...) that are worked on at once."""
    frames, portion = x.shape[1], _CPU_PORTION if x.device.type == "cpu" else _DEVICE_PORTION
    step = max(1, portion * frames // x.numel())
    return [slice(start, min(start + step, frames)) for start in range(0, frames, step)]


def rotated(x: Tensor, rotary: Tensor) -> Tensor:
    """Turn adjacent channel pairs of x (B,T,S,h,D) by rotary (T,S,D/2) complex64, in fp32; the result has x's dtype."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotary[:, :, None]).flatten(-2).to(x.dtype)

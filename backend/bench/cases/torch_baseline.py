# SPDX-License-Identifier: GPL-3.0-or-later
"""The same shapes by torch's own operations: plain linears, and softmax attention, which has no kernel of ours."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .case import OperatorCases, Sizes, Timed, working_dtype

# Latent frames that a streaming chunk sees in a softmax block: sink, two chunks before, and itself.
_WINDOW_FRAMES = 10


def _linear(sizes: Sizes, frames: int, device: torch.device, outputs: int) -> Timed:
    dtype = working_dtype(device)
    x = torch.randn(frames * sizes.cells, sizes.width, device=device, dtype=dtype)
    weight = torch.randn(outputs, sizes.width, device=device, dtype=dtype)
    moved = x.element_size() * (x.numel() + weight.numel() + len(x) * outputs)
    return Timed(lambda: F.linear(x, weight), 2 * len(x) * weight.numel(), moved, "bf16")


def _attention(sizes: Sizes, frames: int, device: torch.device) -> Timed:
    dtype = working_dtype(device)
    seen = _WINDOW_FRAMES if frames == sizes.chunk_frames else frames
    q, k, v = (
        torch.randn(1, sizes.heads, count * sizes.cells, sizes.head_dim, device=device, dtype=dtype)
        for count in (frames, seen, seen)
    )
    flop = 4 * q.numel() * k.shape[2]
    moved = q.element_size() * (2 * q.numel() + 2 * k.numel())
    return Timed(lambda: F.scaled_dot_product_attention(q, k, v), flop, moved, "bf16")


CASES = OperatorCases(
    parity={},
    timed={
        "linear, qkv": lambda sizes, frames, device: _linear(sizes, frames, device, 3 * sizes.width),
        "linear, feed-forward up": lambda sizes, frames, device: _linear(
            sizes, frames, device, 2 * sizes.hidden
        ),
        "softmax attention, one branch": _attention,
    },
)

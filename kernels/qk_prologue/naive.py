# SPDX-License-Identifier: GPL-3.0-or-later
"""From a projection to queries or keys, frame by frame in fp32."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..frame_gdn.naive import rotate


def short_convolution(
    x: Tensor, taps: Tensor, chunks: Sequence[slice], tail: Tensor | None, crosses_chunks: bool
) -> Tensor:
    """A causal filter and its mirror image along frames, the centre counted once.

    x (B,T,S,C), taps (C,1,n), tail (B,n-1,S,C) the frames before x or None for zeros -> (B,T,S,C).
    """
    reach, frames = taps.shape[-1] - 1, []
    for chunk in chunks:
        for t in range(chunk.start, chunk.stop):
            total = taps[:, 0, reach] * x[:, t]
            for d in range(1, reach + 1):
                before = t - d
                if before >= (0 if crosses_chunks else chunk.start):
                    total = total + taps[:, 0, reach - d] * x[:, before]
                elif before < 0 and crosses_chunks and tail is not None:
                    total = total + taps[:, 0, reach - d] * tail[:, reach + before]
                if t + d < chunk.stop:
                    total = total + taps[:, 0, reach - d] * x[:, t + d]
            frames.append(total)
    return torch.stack(frames, dim=1)


def prologue(
    x: Tensor,
    weight: Tensor,
    eps: float,
    scale: float = 1.0,
    rectify: bool = False,
    taps: Tensor | None = None,
    chunks: Sequence[slice] | None = None,
    tail: Tensor | None = None,
    crosses_chunks: bool = True,
    rotary: Tensor | None = None,
) -> Tensor:
    """As the package's `prologue`, in fp32."""
    x, weight = x.float(), weight.float()
    if taps is not None:
        tail = None if tail is None else tail.float()
        x = short_convolution(x, taps.float(), chunks or [slice(0, x.shape[1])], tail, crosses_chunks)
    x = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps) * weight * scale
    if rectify:
        x = x.relu()
    if rotary is not None:
        heads = x.unflatten(-1, (-1, 2 * rotary.shape[-1]))
        x = rotate(heads, rotary).flatten(3)
    return x

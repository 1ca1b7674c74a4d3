# SPDX-License-Identifier: GPL-3.0-or-later
"""From a projection to queries or keys in torch. Differentiable; without gradients it works in the memory it has."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tokens import portions, rotated

_CACHED_ELEMENTS = 1 << 16


def scaled(x: Tensor, factor: Tensor) -> Tensor:
    """x * factor in the dtype of x, which is overwritten where no gradients are recorded: new memory is slow."""
    return (x * factor).to(x.dtype) if torch.is_grad_enabled() else x.mul_(factor)


def rms_norm(x: Tensor, weight: Tensor, eps: float, rectify: bool = False) -> Tensor:
    """Over all channels, statistics in fp32, then ReLU if `rectify`; overwrites x where no gradients are recorded."""
    if torch.is_grad_enabled():
        return _normed(x, weight, eps, rectify)
    rows = x.reshape(-1, x.shape[-1])
    # Several passes over a CPU's cache are quicker than several over its memory.
    at_once = max(1, _CACHED_ELEMENTS // x.shape[-1]) if x.device.type == "cpu" else max(1, len(rows))
    for part in rows.split(at_once):
        _normed(part, weight, eps, rectify)
    return rows.view(x.shape)


def _normed(x: Tensor, weight: Tensor, eps: float, rectify: bool) -> Tensor:
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    x = scaled(scaled(x, torch.rsqrt(norm.square() / x.shape[-1] + eps)), weight)
    return F.relu(x, inplace=not torch.is_grad_enabled()) if rectify else x


def short_convolution(
    x: Tensor, taps: Tensor, chunks: Sequence[slice], tail: Tensor | None, crosses_chunks: bool
) -> Tensor:
    """A causal filter and its mirror image along frames; arguments as for the package's `prologue`."""
    reach, given = taps.shape[-1] - 1, 0
    if tail is not None and crosses_chunks:
        x, given = torch.cat([tail, x], dim=1), tail.shape[1]
    before, parts = reach if crosses_chunks else 0, []
    for chunk in chunks:
        begin = chunk.start + given
        first = max(0, begin - before)
        parts.append(_mirrored(x[:, first : chunk.stop + given], taps)[:, begin - first :])
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _mirrored(x: Tensor, taps: Tensor) -> Tensor:
    """One chunk and what it sees before it, zeros around."""
    both = torch.cat([taps, taps[..., :-1].flip(-1)], dim=-1).unsqueeze(-1)
    images = x.permute(0, 3, 1, 2)  # (B,C,T,S), channels last in memory
    out = F.conv2d(images, both, padding=(taps.shape[-1] - 1, 0), groups=len(taps))
    return out.permute(0, 2, 3, 1)


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
    """As the package's `prologue`; without taps and gradients x is overwritten."""
    if taps is not None:
        x = short_convolution(x, taps, chunks or [slice(0, x.shape[1])], tail, crosses_chunks)
    x = rms_norm(x, weight * scale, eps, rectify)
    if rotary is not None:
        heads = x.unflatten(-1, (-1, 2 * rotary.shape[-1]))
        if torch.is_grad_enabled():
            return rotated(heads, rotary).flatten(3)
        for frames in portions(heads):
            heads[:, frames] = rotated(heads[:, frames], rotary[frames])
    return x

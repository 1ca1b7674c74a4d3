# SPDX-License-Identifier: GPL-3.0-or-later
"""From a projection to queries or keys in torch. Differentiable; without gradients it works in the memory it has."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..tokens import portions, rotated, squared_length

_CACHED_ELEMENTS = 1 << 16


def rms_norm(x: Tensor, weight: Tensor, eps: float, rectify: bool = False) -> Tensor:
    """Over all channels, statistics in fp32, then ReLU if `rectify`; overwrites x where no gradients are recorded."""
    if torch.is_grad_enabled():
        normed = _RmsNorm.apply(x, weight, eps)
        return F.relu(normed) if rectify else normed
    rows = x.reshape(-1, x.shape[-1])
    # Several passes over a CPU's cache are quicker than several over its memory.
    at_once = max(1, _CACHED_ELEMENTS // x.shape[-1]) if x.device.type == "cpu" else max(1, len(rows))
    for part in rows.split(at_once):
        part.mul_(_inverse_rms(part, eps)).mul_(weight)
        if rectify:
            F.relu(part, inplace=True)
    return rows.view(x.shape)


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    """(...,C) -> (...,1) fp32."""
    return torch.rsqrt(squared_length(x) / x.shape[-1] + eps)


class _RmsNorm(torch.autograd.Function):
    """x (...,C) * weight (C,) / rms(x), with gradients in few passes over x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        factor = _inverse_rms(x, eps)
        ctx.save_for_backward(x, weight, factor)
        return (x * factor).to(x.dtype).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, out_grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, factor = ctx.saved_tensors
        rows, grads, factor = (tensor.flatten(0, -2).float() for tensor in (x, out_grads, factor))
        products = rows * grads
        weight_grads = (factor.mT @ products)[0].to(weight.dtype)
        # The norm lets nothing through along x itself.
        along = (products @ weight.float())[:, None] * factor.pow(3) / -x.shape[-1]
        x_grads = torch.addcmul((grads * weight).mul_(factor), rows, along).view(x.shape)
        return x_grads.to(x.dtype), weight_grads, None


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

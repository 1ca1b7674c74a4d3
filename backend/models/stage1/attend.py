# SPDX-License-Identifier: GPL-3.0-or-later
"""Softmax attention whose backward pass is quick on any CPU, too."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """q (B,h,N,D), k and v (B,h,M,D) -> (B,h,N,D) in their dtype."""
    emulated = q.dtype == torch.bfloat16 and q.device.type == "cpu" and not _multiplies_bf16()
    if emulated and torch.is_grad_enabled():
        return BackwardInFp32.apply(q, k, v, scale)
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


@cache
def _multiplies_bf16() -> bool:
    """Whether this processor has instructions for products of bf16: AMX, or AVX-512's dot products.

    Those of other makes have not been measured and count as none.
    """
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("amx_bf16") or abilities.get("avx512_bf16"))


class BackwardInFp32(torch.autograd.Function):
    """Forward as ever. Where bf16 is emulated, its backward pass takes six times as long as fp32's, forward included.

    Where it is not, this would take twice as long as the library's own.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.scale = scale
        return F.scaled_dot_product_attention(q, k, v, scale=scale)

    @staticmethod
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            inputs = [x.detach().float().requires_grad_() for x in ctx.saved_tensors]
            out = F.scaled_dot_product_attention(*inputs, scale=ctx.scale)
        found = torch.autograd.grad(out, inputs, grads.float())
        return *(grad.to(torch.bfloat16) for grad in found), None

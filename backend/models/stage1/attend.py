# SPDX-License-Identifier: GPL-3.0-or-later
"""Softmax attention whose backward pass is quick on a CPU, too."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """q (B,h,N,D), k and v (B,h,M,D) -> (B,h,N,D) in their dtype."""
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and torch.is_grad_enabled():
        return _BackwardInFp32.apply(q, k, v, scale)
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


class _BackwardInFp32(torch.autograd.Function):
    """Forward as ever. A CPU's backward pass in bf16 takes six times as long as one in fp32, forward included."""

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

# SPDX-License-Identifier: GPL-3.0-or-later
"""Gradients of pointwise kernels: forward is the kernel, backward is torch's own operations once more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Operator = Callable[..., Tensor]


def recomputed(launch: Operator, again: Operator, *given: Tensor | None) -> Tensor:
    """launch(*given), whose gradients are those of again(*given)."""
    return _Recomputed.apply(launch, again, *given)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, launch: Operator, again: Operator, *given: Tensor | None) -> Tensor:
        ctx.save_for_backward(*given)
        ctx.again = again
        return launch(*given)

    @staticmethod
    def backward(ctx: Any, out_grads: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            given = [
                None if tensor is None else tensor.detach().requires_grad_() for tensor in ctx.saved_tensors
            ]
            out = ctx.again(*given)
        there = [tensor for tensor in given if tensor is not None]
        found = iter(torch.autograd.grad(out, there, out_grads, allow_unused=True))
        return None, None, *(None if tensor is None else next(found) for tensor in given)

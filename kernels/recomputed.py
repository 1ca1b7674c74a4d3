# SPDX-License-Identifier: GPL-3.0-or-later
"""Gradients of pointwise kernels: forward is the kernel, backward is torch's own operations once more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Outputs = Tensor | tuple[Tensor, ...]
Operator = Callable[..., Outputs]


def recomputed(launch: Operator, again: Operator, *given: Tensor | None) -> Outputs:
    """launch(*given), whose gradients are those of again(*given)."""
    return _Recomputed.apply(launch, again, *given)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, launch: Operator, again: Operator, *given: Tensor | None) -> Outputs:
        ctx.save_for_backward(*given)
        ctx.again = again
        return launch(*given)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *out_grads: Tensor) -> tuple[Tensor | None, ...]:
        is_wanted = ctx.needs_input_grad[2:]
        given = [tensor if tensor is None else tensor.detach() for tensor in ctx.saved_tensors]
        wanted = [tensor.requires_grad_() for tensor, wants in zip(given, is_wanted, strict=True) if wants]
        with torch.enable_grad():
            out = ctx.again(*given)
        found = iter(torch.autograd.grad(out, wanted, out_grads, allow_unused=True))
        return None, None, *(next(found) if wants else None for wants in is_wanted)

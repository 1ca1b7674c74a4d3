# SPDX-License-Identifier: GPL-3.0-or-later
"""Frame-wise Gated DeltaNet in torch: products of every frame, a short serial scan, one read per frame.

Works in fp32 on a few frames at a time, so that fp32 copies of q, k and v never exist whole. Differentiable.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..tokens import heads_apart, in_portions, rotated


def products(keys: Tensor, values: Tensor | None, beta: Tensor, decay: Tensor) -> list[tuple[Tensor, Tensor]]:
    """How each frame changes the state: G -> G transition + update, value axis first.

    The transition is symmetric, so this is the recurrence of the naive version transposed; a denominator's state is
    then one row, which multiplies faster than a column.

    keys (B,t,S,h,D), values (B,t,S,h,E) or None for a one at each token, beta (B,t,S,h), decay (B,t,h), all fp32
    -> for each frame transition (B,h,D,D) = decay (1 - keys^T beta keys) and update (B,h,E,D) = values^T beta keys.
    """
    transitions, updates = _Products.apply(keys, values, beta, decay)
    return list(zip(transitions.unbind(1), updates.unbind(1), strict=True))


class _Products(torch.autograd.Function):
    """The frames' products in one; its gradients, as the README has them, come as rows of tokens."""

    @staticmethod
    def forward(
        ctx: Any, keys: Tensor, values: Tensor | None, beta: Tensor, decay: Tensor
    ) -> tuple[Tensor, Tensor]:
        weighted = keys * beta[..., None]
        if values is None:
            update = weighted.sum(dim=2).unsqueeze(-2)
        else:
            update = _columns(values) @ weighted.transpose(2, 3)
        gram = _columns(weighted) @ keys.transpose(2, 3)
        ctx.save_for_backward(keys, values, beta, decay, gram)
        transition = gram * -decay[..., None, None]
        transition.diagonal(dim1=-2, dim2=-1).add_(decay[..., None])
        return transition, update

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, transition_grads: Tensor, update_grads: Tensor) -> tuple[Tensor | None, ...]:
        keys, values, beta, decay, gram = ctx.saved_tensors
        rows, rates = keys.transpose(2, 3), beta.mT[..., None]
        gram_grads = (transition_grads + transition_grads.mT) * -decay[..., None, None]
        of_gram = rows @ gram_grads
        of_update = update_grads if values is None else values.transpose(2, 3) @ update_grads
        key_grads = (of_gram + of_update).mul_(rates).transpose(2, 3)
        value_grads = None if values is None else (rows @ update_grads.mT).mul_(rates).transpose(2, 3)
        beta_grads = torch.add(of_update, of_gram, alpha=0.5).mul_(rows).sum(dim=-1).mT
        diagonal = transition_grads.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
        decay_grads = diagonal - (transition_grads * gram).sum(dim=(-2, -1))
        return key_grads, value_grads, beta_grads, decay_grads


def _columns(x: Tensor) -> Tensor:
    """(B,t,S,h,D) -> (B,t,h,D,S)."""
    return x.permute(0, 1, 3, 4, 2)


def scan(
    frames: list[tuple[Tensor, Tensor]], chunks: Sequence[slice] | None, start: Tensor | None
) -> tuple[list[Tensor], Tensor]:
    """Forward (inclusive) plus backward (exclusive, within its chunk) state of every frame, and the last forward one.

    frames: transition (B,h,D,D) and update (B,h,E,D) of each; start (B,h,D,E), or None for zeros.
    Returns T states (B,h,E,D), value axis first, and one (B,h,D,E), key axis first as `start`.
    """

    def step(state: Tensor, t: int) -> Tensor:
        transition, update = frames[t]
        flat = (x.flatten(0, 1) for x in (update, state, transition))
        return torch.baddbmm(*flat).view_as(update)

    total = [frames[0][1] if start is None else step(start.mT, 0)]
    for t in range(1, len(frames)):
        total.append(step(total[-1], t))
    last = total[-1].mT.contiguous()
    for chunk in chunks or [slice(0, len(frames))]:
        state = None
        for t in reversed(range(chunk.start + 1, chunk.stop)):
            state = frames[t][1] if state is None else step(state, t)
            total[t - 1] = total[t - 1] + state
    return total, last


def read(queries: Tensor, states: list[Tensor]) -> Tensor:
    """queries (B,t,S,h,D) and a state (B,h,E,D) for each of their frames -> (B,t,S,h,E), heads outermost in memory."""
    together = torch.stack(states, dim=1)
    if together.shape[-2] == 1:
        return (together @ _columns(queries)).permute(0, 1, 4, 2, 3)
    return (queries.transpose(2, 3) @ together.mT).transpose(2, 3)


def frame_gdn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    decay: Tensor,
    rotary: Tensor,
    chunks: Sequence[slice] | None = None,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """As the package's `frame_gdn`."""
    numerator, denominator = [], []
    for frames, keys, values, rates, fading in in_portions(k, v, beta, decay):
        keys, gates = heads_apart(keys), (rates.float(), fading)
        denominator += products(keys, None, *gates)
        numerator += products(rotated(keys, rotary[frames]), heads_apart(values), *gates)
    of_values, of_ones = start or (None, None)
    numerator, of_values = scan(numerator, chunks, of_values)
    denominator, of_ones = scan(denominator, chunks, of_ones)
    parts = []
    for frames, queries in in_portions(q):
        queries = heads_apart(queries)
        factor = (read(queries, denominator[frames]) + 1e-8).reciprocal()
        parts.append((read(rotated(queries, rotary[frames]), numerator[frames]) * factor).to(v.dtype))
    return torch.cat(parts, dim=1), (of_values, of_ones)

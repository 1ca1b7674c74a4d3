# SPDX-License-Identifier: GPL-3.0-or-later
"""Frame-wise Gated DeltaNet where the frames of a clip lie in several processes, each with a stretch of them.

Over a stretch the state changes by an affine map, G -> A G + U. Every process computes the map of its own frames from
nothing but them, for both directions; the maps, not the frames, are gathered and composed to the states that reach the
stretch from either side. That is exact, and 4 h D^2 numbers for each process however long its stretch is.
Differentiable, fp32; shapes as in `vectorized`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Gather = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Stretch:
    """Where a process's frames lie.

    Attributes:
        rank: of this process, counted along the clip.
        chunks: slices of its own frames.
        continued: whether its last chunk has frames in the next process.
        gather: (...) -> (processes, ...), differentiable; every process calls it in the same order.
    """

    rank: int
    chunks: Sequence[slice]
    continued: bool
    gather: Gather


def frame_gdn(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor, rotary: Tensor, stretch: Stretch
) -> Tensor:
    """Main branch: numerator over rotated q and k, denominator over un-rotated ones. (B,T,S,h,D) in v's dtype."""
    queries, keys, values, weights = (by_head(x) for x in (q, k, v, beta.unsqueeze(-1)))
    turned = _rotated(keys, rotary)
    numerator = states(turned, values, weights, decay, stretch)
    denominator = states(keys, torch.ones_like(values[..., :1]), weights, decay, stretch)
    out = (_rotated(queries, rotary) @ numerator) / (queries @ denominator + 1e-8)
    return out.transpose(2, 3).to(v.dtype)


def by_head(x: Tensor) -> Tensor:
    """(B,T,S,h,D) -> fp32 (B,T,h,S,D)."""
    return x.transpose(2, 3).float()


def _rotated(x: Tensor, rotary: Tensor) -> Tensor:
    """x (B,T,h,S,D), rotary (T,S,D/2)."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rotary[:, None]).flatten(-2)


def states(keys: Tensor, values: Tensor, beta: Tensor, decay: Tensor, stretch: Stretch) -> Tensor:
    """What the queries of the own frames read, (B,T,h,D,E): forward inclusive, backward exclusive."""
    weighted = (keys * beta).transpose(-1, -2)
    gram, update = (weighted @ keys).unbind(1), (weighted @ values).unbind(1)
    gates = decay[..., None, None].unbind(1)
    frames = len(gram)

    def step(state: Tensor, t: int) -> Tensor:
        return torch.addcmul(update[t], gates[t], state - gram[t] @ state)

    def moved(map_: Tensor, t: int) -> Tensor:
        return gates[t] * (map_ - gram[t] @ map_)

    start, end = _reaching(step, moved, frames, torch.zeros_like(update[0]), stretch)
    total, state = [], start
    for t in range(frames):
        state = step(state, t)
        total.append(state)
    for chunk in stretch.chunks:
        state = end if chunk.stop == frames else torch.zeros_like(start)
        total[chunk.stop - 1] = total[chunk.stop - 1] + state
        for t in reversed(range(chunk.start + 1, chunk.stop)):
            state = step(state, t)
            total[t - 1] = total[t - 1] + state
    return torch.stack(total, dim=1)


def _reaching(
    step: Callable[[Tensor, int], Tensor],
    moved: Callable[[Tensor, int], Tensor],
    frames: int,
    zero: Tensor,
    stretch: Stretch,
) -> tuple[Tensor, Tensor]:
    """The forward state before the own frames, and the backward state that their last frame reads; (B,h,D,E) each."""
    width = zero.shape[-2]
    identity = torch.eye(width, device=zero.device).expand(*zero.shape[:-2], width, width)
    forward, forward_map = zero, identity
    for t in range(frames):
        forward, forward_map = step(forward, t), moved(forward_map, t)
    # Backward a chunk that ends within the stretch lets nothing through.
    first = stretch.chunks[0]
    passes = len(stretch.chunks) == 1 and stretch.continued
    backward, backward_map = zero, identity if passes else torch.zeros_like(identity)
    for t in reversed(range(first.stop)):
        backward, backward_map = step(backward, t), moved(backward_map, t)
    summary = torch.cat([forward_map, backward_map, forward, backward], dim=-1)
    everyones = [
        part.split([width, width, zero.shape[-1], zero.shape[-1]], dim=-1)
        for part in stretch.gather(summary).unbind(0)
    ]
    start, end = zero, zero
    for map_, _, change, _ in everyones[: stretch.rank]:
        start = map_ @ start + change
    for _, map_, _, change in reversed(everyones[stretch.rank + 1 :]):
        end = map_ @ end + change
    # What comes back from the next process is of another chunk, if the own last chunk ends here. A product, so that
    # every process takes part in the gather's backward pass.
    return start, end * float(stretch.continued)

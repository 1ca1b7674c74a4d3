# SPDX-License-Identifier: GPL-3.0-or-later
"""From a projection to queries or keys in Triton: one token in a program, one pass over memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from ..recomputed import recomputed
from . import vectorized

_WARPS = 8


@triton.jit
def prologue_kernel(
    x, taps, tail, firsts, stops, weight, rotary, out, T, S, C, x_row, tail_row, eps, scale,
    BLOCK: tl.constexpr, REACH: tl.constexpr, HAS_TAIL: tl.constexpr, RECTIFY: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """out (B,T,S,C). firsts, stops (T,): the frames that a frame sees, from the first to before the last; REACH 0
    is without convolution, PAIRS 0 without rotation."""
    token = tl.program_id(0).to(tl.int64)
    frame, batch = token // S % T, token // (S * T)
    channel = tl.arange(0, BLOCK)
    seen = channel < C
    value = tl.load(x + token * x_row + channel, mask=seen, other=0.0).to(tl.float32)
    if REACH > 0:
        taps += channel * (REACH + 1)
        value *= tl.load(taps + REACH, mask=seen, other=0.0).to(tl.float32)
        first, stop = tl.load(firsts + frame), tl.load(stops + frame)
        for d in tl.static_range(1, REACH + 1):
            before = seen & (frame - d >= first) & (frame >= d)
            near = tl.load(x + (token - d * S) * x_row + channel, mask=before, other=0.0).to(tl.float32)
            if HAS_TAIL:
                row = (batch * REACH + REACH + frame - d) * S + token % S
                earlier = seen & (frame - d >= first) & (frame < d)
                near += tl.load(tail + row * tail_row + channel, mask=earlier, other=0.0).to(tl.float32)
            after = seen & (frame + d < stop)
            near += tl.load(x + (token + d * S) * x_row + channel, mask=after, other=0.0).to(tl.float32)
            value += tl.load(taps + REACH - d, mask=seen, other=0.0).to(tl.float32) * near
    inverse_rms = tl.rsqrt(tl.sum(value * value, axis=0) / C + eps)
    value *= inverse_rms * scale * tl.load(weight + channel, mask=seen, other=0.0).to(tl.float32)
    if RECTIFY:
        value = tl.maximum(value, 0.0)
    if PAIRS > 0:
        even, odd = tl.split(tl.reshape(value, (BLOCK // 2, 2)))
        pair = tl.arange(0, BLOCK // 2)
        turn = rotary + (token % (T * S)) * (2 * PAIRS) + 2 * (pair % PAIRS)
        cosine = tl.load(turn, mask=2 * pair < C, other=0.0)
        sine = tl.load(turn + 1, mask=2 * pair < C, other=0.0)
        value = tl.reshape(tl.join(even * cosine - odd * sine, even * sine + odd * cosine), (BLOCK,))
    tl.store(out + token * C + channel, value.to(out.dtype.element_ty), mask=seen)


@lru_cache(maxsize=64)
def _sight(
    bounds: tuple[tuple[int, int], ...], crosses_chunks: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(T,) int32: from which frame on and up to which each frame sees others; frames before 0 are the tail's."""
    firsts = [-(1 << 20) if crosses_chunks else begin for begin, end in bounds for _ in range(begin, end)]
    stops = [end for begin, end in bounds for _ in range(begin, end)]
    return tuple(torch.tensor(row, dtype=torch.int32).to(device) for row in (firsts, stops))


def _launch(
    x: Tensor,
    weight: Tensor,
    eps: float,
    scale: float,
    rectify: bool,
    taps: Tensor | None,
    chunks: Sequence[slice] | None,
    tail: Tensor | None,
    crosses_chunks: bool,
    rotary: Tensor | None,
) -> Tensor:
    batch, frames, cells, channels = x.shape
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    bounds = ((0, frames),) if chunks is None else tuple((chunk.start, chunk.stop) for chunk in chunks)
    firsts = stops = None
    if taps is not None:
        taps = taps.contiguous()
        firsts, stops = _sight(bounds, crosses_chunks, x.device)
        tail = _rows(tail) if tail is not None and crosses_chunks else None
    x = _rows(x)
    prologue_kernel[(batch * frames * cells,)](
        x, taps, tail, firsts, stops, weight, None if rotary is None else torch.view_as_real(rotary).contiguous(),
        out, frames, cells, channels, x.stride(2), 0 if tail is None else tail.stride(2), eps, scale,
        BLOCK=triton.next_power_of_2(channels), REACH=0 if taps is None else taps.shape[-1] - 1,
        HAS_TAIL=taps is not None and tail is not None, RECTIFY=rectify,
        PAIRS=0 if rotary is None else rotary.shape[-1], num_warps=_WARPS,
    )  # fmt: skip
    return out


def _rows(x: Tensor) -> Tensor:
    """x (B,T,S,C) itself if its tokens lie in even steps, as in slices of one projection; else a copy."""
    _, frames, cells, _ = x.shape
    step = x.stride(2)
    even = x.stride(-1) == 1 and x.stride(1) == cells * step and x.stride(0) == frames * cells * step
    return x if even else x.contiguous()


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
    """As the package's `prologue`."""
    settings = {"eps": eps, "scale": scale, "rectify": rectify, "chunks": chunks}
    settings |= {"crosses_chunks": crosses_chunks, "rotary": rotary}

    def launch(x: Tensor, weight: Tensor, taps: Tensor | None, tail: Tensor | None) -> Tensor:
        return _launch(x, weight, taps=taps, tail=tail, **settings)

    def again(x: Tensor, weight: Tensor, taps: Tensor | None, tail: Tensor | None) -> Tensor:
        return vectorized.prologue(x, weight, taps=taps, tail=tail, **settings)

    return recomputed(launch, again, x, weight, taps, tail)


def builds() -> list[Build]:
    """For the released width, with and without the short convolution and rotation."""
    pointers = {name: "*bf16" for name in ("x", "taps", "tail", "weight", "out")}
    types = {**pointers, "rotary": "*fp32", "firsts": "*i32", "stops": "*i32", "eps": "fp32", "scale": "fp32"}
    types |= dict.fromkeys(("T", "S", "C", "x_row", "tail_row"), "i32")
    return [
        Build(
            f"prologue of {name}",
            prologue_kernel,
            types,
            {"BLOCK": 4096, "REACH": reach, "HAS_TAIL": reach > 0, "RECTIFY": pairs == 0, "PAIRS": pairs},
            dict.fromkeys((80, 90, 100, 120), ""),
            _WARPS,
            aligned=("C", "x_row", "tail_row"),
        )
        for name, reach, pairs in (("queries", 0, 0), ("keys", 3, 0), ("softmax queries and keys", 0, 56))
    ]

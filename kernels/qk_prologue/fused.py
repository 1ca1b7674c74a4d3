# SPDX-License-Identifier: GPL-3.0-or-later
"""From a projection to queries or keys in Triton: two frames of one token in a program, one pass over memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from ..recomputed import recomputed
from ..rows import divided, even_rows
from . import vectorized

_FRAMES, _WARPS = 2, 4


@triton.jit
def _convolved(
    x, tail, taps, row, tail_token, frame, is_frame, first, stop, S, C, x_row, tail_row, channel,
    REACH: tl.constexpr, HAS_TAIL: tl.constexpr,
):  # fmt: skip
    """Some channels of some frames of a token, fp32, summed up with the frames that each of them sees."""
    seen = (channel < C)[None, :]
    x += row[:, None] * x_row + channel[None, :]
    value = tl.load(x, mask=is_frame[:, None] & seen, other=0.0).to(tl.float32)
    if REACH > 0:
        taps += channel[None, :]
        value *= tl.load(taps + REACH * C, mask=seen, other=0.0).to(tl.float32)
        step = (row * 0 + S)[:, None] * x_row  # from frame to frame, in 64 bits
        for d in tl.static_range(1, REACH + 1):
            before = x - d * step
            if HAS_TAIL:
                carried = tail + (tail_token + (REACH + frame - d) * S)[:, None] * tail_row + channel[None, :]
                before = tl.where((frame < d)[:, None], carried, before)
            is_seen = (frame - d >= first)[:, None]
            near = tl.load(before, mask=is_seen & seen, other=0.0).to(tl.float32)
            is_seen = (frame + d < stop)[:, None]
            near += tl.load(x + d * step, mask=is_seen & seen, other=0.0).to(tl.float32)
            value += tl.load(taps + (REACH - d) * C, mask=seen, other=0.0).to(tl.float32) * near
    return value


@triton.jit
def _finish(
    value, factor, weight, rotary, out, row, turned_row, is_frame, C, channel,
    RECTIFY: tl.constexpr, HEAD: tl.constexpr,
):  # fmt: skip
    """Weight, ReLU and rotation of some channels, and where they go."""
    in_row = (channel < C)[None, :]
    seen = is_frame[:, None] & in_row
    value *= factor[:, None]
    value *= tl.load(weight + channel[None, :], mask=in_row, other=0.0).to(tl.float32)
    if RECTIFY:
        value = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)
    if HEAD > 0:
        turns = rotary + turned_row[:, None] * HEAD + (channel % HEAD)[None, :]
        turn = tl.load(turns, mask=seen, other=0.0)
        pairs: tl.constexpr = (value.shape[0], value.shape[1] // 2, 2)
        even, odd = tl.split(tl.reshape(value, pairs))
        cosine, sine = tl.split(tl.reshape(turn, pairs))
        value = tl.interleave(even * cosine - odd * sine, even * sine + odd * cosine)
    tl.store(out + row[:, None] * C + channel[None, :], value.to(out.dtype.element_ty), mask=seen)


@triton.jit
def prologue_kernel(
    x, taps, tail, firsts, stops, weight, rotary, out, T, S, C, x_row, tail_row, turned_rows, eps, scale,
    FRAMES: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr, REACH: tl.constexpr, HAS_TAIL: tl.constexpr,
    RECTIFY: tl.constexpr, HEAD: tl.constexpr,
):  # fmt: skip
    """out (B,T,S,C), FRAMES frames of one token in a program, its channels in two tiles.

    firsts, stops (T,): the frames that a frame sees, from the first, which may be the tail's, to before the last;
    taps (n,C). REACH 0 is without convolution, HEAD 0 without rotation.
    """
    # Counts of tokens fit into 32 bits, in which dividing is cheap; places in memory do not.
    tiles = tl.cdiv(T, FRAMES)
    token = tl.program_id(0) // tiles
    batch, cell = (token // S).to(tl.int64), token % S
    frame = tl.program_id(0) % tiles * FRAMES + tl.arange(0, FRAMES)
    is_frame = frame < T
    row, turned_row = batch * T * S + (frame * S + cell), (frame * S + cell) % turned_rows
    tail_token = batch * REACH * S + cell
    first, stop = frame, frame
    if REACH > 0:
        first = tl.load(firsts + frame, mask=is_frame, other=T + FRAMES)  # beyond the last: nothing
        stop = tl.load(stops + frame, mask=is_frame, other=0)
    channel, more = tl.arange(0, MAIN), MAIN + tl.arange(0, REST if REST > 0 else 1)
    main = _convolved(
        x, tail, taps, row, tail_token, frame, is_frame, first, stop, S, C, x_row, tail_row, channel,
        REACH, HAS_TAIL,
    )  # fmt: skip
    squares = tl.sum(main * main, axis=1)
    if REST > 0:
        rest = _convolved(
            x, tail, taps, row, tail_token, frame, is_frame, first, stop, S, C, x_row, tail_row, more,
            REACH, HAS_TAIL,
        )  # fmt: skip
        squares += tl.sum(rest * rest, axis=1)
    factor = tl.rsqrt(squares / C + eps) * scale
    _finish(main, factor, weight, rotary, out, row, turned_row, is_frame, C, channel, RECTIFY, HEAD)
    if REST > 0:
        _finish(rest, factor, weight, rotary, out, row, turned_row, is_frame, C, more, RECTIFY, HEAD)


@lru_cache(maxsize=64)
def _sight(
    bounds: tuple[tuple[int, int], ...], before: int | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(T,) int32: from which frame on and up to which each frame sees others.

    Args:
        bounds: of the chunks.
        before: the first frame of all that is seen, the tail's below 0; None for that of each frame's own chunk.
    """
    firsts = [begin if before is None else before for begin, end in bounds for _ in range(begin, end)]
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
    out, rows = torch.empty(x.shape, dtype=x.dtype, device=x.device), even_rows(x)
    # Without convolution frames and tokens are all the same.
    frames, cells, tokens, channels = len(rows), 1, 1, x.shape[-1]
    reach = firsts = stops = tail_rows = None
    if taps is not None:
        _, frames, cells, _ = x.shape
        tokens, reach = len(rows) // frames, taps.shape[-1] - 1
        bounds = ((0, frames),) if chunks is None else tuple((chunk.start, chunk.stop) for chunk in chunks)
        tail_rows = even_rows(tail) if tail is not None and crosses_chunks else None
        before = None if not crosses_chunks else 0 if tail_rows is None else -reach
        firsts, stops = _sight(bounds, before, x.device)
        taps = taps.squeeze(1).T.contiguous()
    main, rest = divided(channels)
    prologue_kernel[(tokens * triton.cdiv(frames, _FRAMES),)](
        rows, taps, tail_rows, firsts, stops, weight,
        None if rotary is None else torch.view_as_real(rotary).contiguous(), out, frames, cells, channels,
        rows.stride(0), 0 if tail_rows is None else tail_rows.stride(0),
        1 if rotary is None else rotary.shape[0] * rotary.shape[1], eps, scale,
        FRAMES=_FRAMES, MAIN=main, REST=rest, REACH=reach or 0, HAS_TAIL=tail_rows is not None, RECTIFY=rectify,
        HEAD=0 if rotary is None else 2 * rotary.shape[-1], num_warps=_WARPS,
    )  # fmt: skip
    return out


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
    """For the released width: what is launched for each of its inputs."""
    pointers = dict.fromkeys(("x", "taps", "tail", "weight", "out"), "*bf16")
    pointers |= {"rotary": "*fp32", "firsts": "*i32", "stops": "*i32"}
    sizes = dict.fromkeys(("T", "S", "C", "x_row", "tail_row", "turned_rows"), "i32")
    main, rest = divided(2240)
    of_conv, of_turns = ("taps", "tail", "firsts", "stops"), ("rotary",)
    found = []
    for name, reach, head, absent in (
        ("queries", 0, 0, (*of_conv, *of_turns)),
        ("keys", 3, 0, of_turns),
        ("softmax queries and keys", 0, 112, of_conv),
    ):
        tiles = {"FRAMES": _FRAMES, "MAIN": main, "REST": rest}
        flags = {"REACH": reach, "HAS_TAIL": reach > 0, "RECTIFY": head == 0, "HEAD": head}
        # Tensors that are not there and sizes of 1 are constants of a launch.
        fixed = dict.fromkeys(absent) | ({} if head else {"turned_rows": 1}) | ({} if reach else {"S": 1})
        types = {**pointers, **sizes, "eps": "fp32", "scale": "fp32"}
        found.append(
            Build(
                f"prologue of {name}",
                prologue_kernel,
                {key: kind for key, kind in types.items() if key not in fixed},
                {**tiles, **flags, **fixed},
                dict.fromkeys((80, 90, 100, 120), ""),
                _WARPS,
                aligned=("C", "x_row", "tail_row"),
            )
        )
    return found

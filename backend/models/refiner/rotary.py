# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotary position embedding of the refiner: time in seconds, rows and columns in pixels, at the cells' midpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .config import RefinerConfig

STRIDE = (8, 32, 32)  # pixel frames, rows and columns of a latent cell
_TOKENS_AT_ONCE = 16384

# Cosines and sines (heads, N, head_dim / 2) in fp32, tokens ordered (frame, row, column).
Rotary = tuple[Tensor, Tensor]


def rotary_tables(
    config: RefinerConfig,
    frames: Sequence[int],
    height: int,
    width: int,
    fps: float,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Rotary:
    """Tables for some latent frames by their places in the clip.

    Frame 0 holds one pixel frame, every other latent frame eight. Angles of all three axes are interleaved from the
    lowest frequency to the highest and then dealt out to the heads in that order, so the first heads see only low
    ones; what is missing to the full width is an identity in front.

    Args:
        frames: indices of the latent frames, 0 the clip's first.
        fps: of the model's time, not of the file that is written.
        dtype: to compute the angles in; the released model uses fp32, which after a minute is off by 0.005 in a
            cosine.
    """
    starts = torch.tensor(list(frames), dtype=dtype, device=device)
    begin = (STRIDE[0] * starts + 1 - STRIDE[0]).clamp(min=0)
    end = (STRIDE[0] * (starts + 1) + 1 - STRIDE[0]).clamp(min=0)
    time = (begin / fps + end / fps) / 2 / config.longest_s
    rows = (torch.arange(height, dtype=dtype, device=device) + 0.5) * STRIDE[1] / config.tallest_px
    columns = (torch.arange(width, dtype=dtype, device=device) + 0.5) * STRIDE[2] / config.widest_px
    grid = torch.stack(torch.meshgrid(time, rows, columns, indexing="ij"), -1).flatten(0, 2)  # (N, 3)

    per_axis = config.hidden_size // 6
    exponents = torch.linspace(0, 1, per_axis, dtype=torch.float64, device=device)
    frequencies = (config.rope_theta**exponents * (math.pi / 2)).float().to(dtype)
    angles = ((2 * grid - 1)[:, None, :] * frequencies[:, None]).flatten(1)  # (N, 3 per_axis)
    identity = angles.new_zeros(len(angles), config.hidden_size // 2 - 3 * per_axis)
    angles = torch.cat([identity, angles], dim=1)
    angles = angles.unflatten(1, (config.num_heads, -1)).transpose(0, 1)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Turn x (B, heads, N, head_dim), channel c with channel c + head_dim / 2; in fp32, some tokens at a time."""
    cos, sin = rotary
    out = torch.empty_like(x)
    for start in range(0, x.shape[2], _TOKENS_AT_ONCE):
        part = slice(start, start + _TOKENS_AT_ONCE)
        first, second = x[:, :, part].float().chunk(2, dim=-1)
        c, s = cos[:, part], sin[:, part]
        out[:, :, part] = torch.cat([first * c - second * s, second * c + first * s], dim=-1)
    return out

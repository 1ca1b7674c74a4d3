# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotary tables over (frame, row, column)."""

import torch
from torch import Tensor

THETA = 10_000.0


def axis_pairs(pairs: int) -> tuple[int, int, int]:
    """How `pairs` rotated channel pairs are divided between frame, row and column."""
    spatial = pairs // 3
    return pairs - 2 * spatial, spatial, spatial


def rotary_tables(
    grid: tuple[int, int, int], head_dim: int, device: torch.device, first_frame: int = 0
) -> tuple[Tensor, Tensor]:
    """Unit complex numbers e^{i angle} for every token.

    Each axis restarts its frequencies at 1. The camera branch rotates half as many channels with the first
    frequencies of each axis, not with frequencies of its own.

    Args:
        grid: (T, H, W) in latent cells.
        first_frame: the latent frame of the clip that the grid begins with.

    Returns:
        main (T, H*W, head_dim / 2) and camera (T, H*W, head_dim / 4), complex64.
    """
    frames, height, width = grid
    main, camera = [], []
    pairs = zip(grid, axis_pairs(head_dim // 2), axis_pairs(head_dim // 4), strict=True)
    for axis, (length, count, camera_count) in enumerate(pairs):
        exponent = torch.arange(count, dtype=torch.float64, device=device) / count
        place = torch.arange(length, dtype=torch.float64, device=device) + (0 if axis else first_frame)
        angle = place[:, None] * THETA**-exponent
        turn = torch.polar(torch.ones_like(angle), angle).to(torch.complex64)
        shape = [1, 1, 1, count]
        shape[axis] = length
        turn = turn.view(shape).expand(frames, height, width, count)
        main.append(turn)
        camera.append(turn[..., :camera_count])
    return torch.cat(main, dim=-1).flatten(1, 2), torch.cat(camera, dim=-1).flatten(1, 2)

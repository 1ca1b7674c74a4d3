# SPDX-License-Identifier: GPL-3.0-or-later
"""CameraPath -> what stage 1 reads: a 20-vector per latent frame and Plücker rays per pixel frame.

Conventions of the released model: poses relative to frame 0, focal lengths and centres in latent cells, cells at
integer coordinates without a half-pixel offset, latent frame j at pixel frame 8 j.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..protocol.camera_path import CameraPath
from ..protocol.limits import TEMPORAL_STRIDE


def pixel_frames(latents: slice) -> slice:
    """The pixel frames that a clip's latent frames hold: frame 0 the first, every other latent eight."""
    first = TEMPORAL_STRIDE * (latents.start - 1) + 1 if latents.start else 0
    return slice(first, TEMPORAL_STRIDE * (latents.stop - 1) + 1)


def relative_c2w(path: CameraPath, samples: slice | np.ndarray = slice(None)) -> np.ndarray:
    """Poses (F,4,4) float64, all or some, seen from the path's first one, which becomes exactly the identity."""
    first = path.c2w[0]
    inverse = np.eye(4)
    inverse[:3, :3] = first[:3, :3].T
    inverse[:3, 3] = -first[:3, :3].T @ first[:3, 3]
    relative = inverse @ path.c2w[samples]
    relative[np.arange(len(path))[samples] == 0] = np.eye(4)
    return relative


def camera_tokens(path: CameraPath, grid: tuple[int, int, int], latents: slice | None = None) -> Tensor:
    """(T,20) fp32: row-major c2w, then fx, fy, cx, cy in latent cells, at every eighth pixel frame.

    Args:
        path: already fitted to the model's image size.
        grid: (T, H, W) of the clip's latents; F must be 8 (T - 1) + 1.
        latents: which of the T frames; None for all.
    """
    _check_length(path, grid)
    samples = np.arange(0, len(path), TEMPORAL_STRIDE)[latents or slice(None)]
    poses = relative_c2w(path, samples).reshape(-1, 16)
    rows = np.concatenate([poses, _latent_intrinsics(path, grid, samples)], axis=1)
    return torch.from_numpy(rows).float()


def chunk_plucker(path: CameraPath, grid: tuple[int, int, int], latents: slice | None = None) -> Tensor:
    """(48,T,H,W) fp32: direction and moment of the ray of each cell, for 8 pixel frames per latent frame.

    Latent frame j >= 1 stacks pixel frames 8 j - 7 ... 8 j; latent frame 0 looks ahead and stacks 0 ... 7.

    Args:
        path: already fitted to the model's image size.
        grid: (T, H, W) of the clip's latents; F must be 8 (T - 1) + 1.
        latents: which of the T frames; None for all.
    """
    _check_length(path, grid)
    frames, height, width = grid
    chosen = np.arange(frames)[latents or slice(None)]
    first = np.maximum(TEMPORAL_STRIDE * chosen - TEMPORAL_STRIDE + 1, 0)
    stacked = np.minimum(first[:, None] + np.arange(TEMPORAL_STRIDE), len(path) - 1)
    samples, place = np.unique(stacked, return_inverse=True)
    c2w = relative_c2w(path, samples)
    fx, fy, cx, cy = (number[:, None, None] for number in _latent_intrinsics(path, grid, samples).T)
    x = np.broadcast_to((np.arange(width) - cx) / fx, (len(samples), height, width))
    y = np.broadcast_to((np.arange(height)[:, None] - cy) / fy, (len(samples), height, width))
    direction = np.stack([x, y, np.ones_like(x)], axis=-1)
    direction = np.einsum("fij,fhwj->fhwi", c2w[:, :3, :3], direction)
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    moment = np.cross(c2w[:, None, None, :3, 3], direction)
    rays = np.concatenate([direction, moment], axis=-1)
    chunks = (
        rays[place.reshape(stacked.shape)].transpose(1, 4, 0, 2, 3).reshape(-1, len(chosen), height, width)
    )
    return torch.from_numpy(np.ascontiguousarray(chunks)).float()


def _latent_intrinsics(path: CameraPath, grid: tuple[int, int, int], samples: np.ndarray) -> np.ndarray:
    """fx, fy, cx, cy of the samples in latent cells."""
    across, down = grid[2] / path.image_size[0], grid[1] / path.image_size[1]
    return path.intrinsics[samples] * [across, down, across, down]


def _check_length(path: CameraPath, grid: tuple[int, int, int]) -> None:
    expected = TEMPORAL_STRIDE * (grid[0] - 1) + 1
    if len(path) != expected:
        raise ValueError(
            f"The camera path has {len(path)} samples, but {grid[0]} latent frames need {expected}; "
            "cut the path to 8 k + 1 samples first."
        )

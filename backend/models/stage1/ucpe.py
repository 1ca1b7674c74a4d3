# SPDX-License-Identifier: GPL-3.0-or-later
"""The rays of unified camera positional encoding (UCPE): every token has coordinates of its own."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_FLOOR = 1e-6


class RayTransforms(NamedTuple):
    """What the camera branches of all blocks share; `kernels.camera_gdn` encodes and decodes with it.

    Attributes:
        to_ray: P (B,T,S,4,4) fp32, world to ray.
        from_ray: its inverse (B,T,S,4,4) fp32.
        rotary: camera table (T,S,head_dim/4) complex64.
    """

    to_ray: Tensor
    from_ray: Tensor
    rotary: Tensor


def ray_matrices(camera: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """World-to-ray matrices of every latent cell, and their inverses.

    A ray's z axis is its direction, its x axis is orthogonal to z and to the camera's down axis. Cells are at
    integer coordinates, without a half-pixel offset, as the released model was trained.

    Args:
        camera: (B,T,20): row-major c2w relative to frame 0, then fx, fy, cx, cy in latent cells.

    Returns:
        P and its inverse, (B,T,height*width,4,4) fp32.
    """
    camera = camera.float()
    c2w = camera[..., :16].unflatten(-1, (4, 4))
    rotation, center = c2w[..., :3, :3], c2w[..., :3, 3]
    fx, fy, cx, cy = (number[..., None, None] for number in camera[..., 16:].unbind(-1))
    u = torch.arange(width, device=camera.device, dtype=torch.float32)
    v = torch.arange(height, device=camera.device, dtype=torch.float32)[:, None]
    x, y = torch.broadcast_tensors((u - cx) / fx, (v - cy) / fy)
    direction = F.normalize(torch.stack([x, y, torch.ones_like(x)], dim=-1).flatten(2, 3), dim=-1)

    z_axis = F.normalize(direction @ rotation.transpose(-1, -2), dim=-1, eps=_FLOOR)
    down = rotation[..., 1].unsqueeze(2).expand_as(z_axis)
    x_axis = F.normalize(torch.linalg.cross(down, z_axis), dim=-1, eps=_FLOOR)
    y_axis = F.normalize(torch.linalg.cross(z_axis, x_axis), dim=-1, eps=_FLOOR)
    ray_rotation = torch.stack([x_axis, y_axis, z_axis], dim=-2)
    offset = -(ray_rotation @ center[:, :, None, :, None])
    to_ray = _rigid(ray_rotation, offset)
    inverse_rotation = ray_rotation.transpose(-1, -2)
    from_ray = _rigid(inverse_rotation, -(inverse_rotation @ offset))
    broken = to_ray.isnan().any(-1).any(-1)[..., None, None]
    identity = torch.eye(4, device=camera.device)
    return torch.where(broken, identity, to_ray), torch.where(broken, identity, from_ray)


def _rigid(rotation: Tensor, translation: Tensor) -> Tensor:
    upper = torch.cat([rotation, translation], dim=-1)
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], device=upper.device).expand(*upper.shape[:-2], 1, 4)
    return torch.cat([upper, last], dim=-2)

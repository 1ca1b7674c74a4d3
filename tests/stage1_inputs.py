# SPDX-License-Identifier: GPL-3.0-or-later
"""Random weights and inputs for a small stage 1."""

import math

import torch


def randn(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def randomize(model: torch.nn.Module, seed: int) -> None:
    """Weights that leave no branch at zero: diffusers' own start makes all Gated DeltaNet keys vanish."""
    state = model.state_dict()
    for index, name in enumerate(sorted(state)):
        z = randn(state[name].shape, seed + index)
        if name.endswith(("norm.weight", "norm_cam.weight")):
            value = 1 + 0.2 * z
        elif name.endswith("A_log"):
            value = 0.5 * z
        elif name.endswith("dt_bias"):
            value = -2 + 0.5 * z
        elif name.endswith("recall_gate"):
            value = 0 * z
        elif name.endswith("scale_shift_table"):
            value = 0.3 * z
        elif name.endswith(".bias"):
            value = 0.1 * z
        else:
            value = z / math.sqrt(math.prod(z.shape[1:]))
        state[name].copy_(value)


def camera_poses(grid: tuple[int, int, int], batch: int = 1) -> torch.Tensor:
    """(B,T,20): a path that turns and moves, another one for each batch entry."""
    frames, height, width = grid
    rows = []
    for entry in range(batch):
        for i in range(frames):
            c2w = turned(0.15 * i * (1 + entry), -0.05 * i)
            c2w[:3, 3] = torch.tensor([0.3 * i, -0.1 * i, 0.8 * i * (1 - entry / 3)])
            lens = torch.tensor([0.9 * width, 1.05 * height, width / 2, height / 2])
            rows.append(torch.cat([c2w.flatten(), lens]))
    return torch.stack(rows).view(batch, frames, 20).float()


def turned(yaw: float, pitch: float) -> torch.Tensor:
    """Pose (4,4) float64 at the origin, turned by radians."""
    pose = torch.eye(4, dtype=torch.float64)
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    pose[:3, :3] = torch.tensor([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]], dtype=torch.float64) @ torch.tensor(
        [[1, 0, 0], [0, cp, -sp], [0, sp, cp]], dtype=torch.float64
    )
    return pose

# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 1 beside diffusers' SanaWMTransformer3DModel: the same randomised weights in both, and inputs for both."""

import math

import torch
from diffusers import SanaWMTransformer3DModel

from backend.models.stage1 import Stage1Config, Stage1Transformer, load

TINY = {
    "in_channels": 8,
    "num_layers": 4,
    "hidden_size": 48,
    "num_attention_heads": 4,
    "linear_head_dim": 24,
    "caption_channels": 20,
    "chunk_plucker_post_attn_blocks": 4,
}


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


def make_pair(
    entries: dict, seed: int, **switches: bool
) -> tuple[SanaWMTransformer3DModel, Stage1Transformer]:
    """diffusers' model and ours with equal weights, ours renormalising as diffusers does unless told otherwise."""
    reference = SanaWMTransformer3DModel(**entries)
    randomize(reference, seed)
    switches = {"cam_renorm_gdn": True, "cam_renorm_softmax": True, **switches}
    config = Stage1Config.from_diffusers(dict(reference.config), **switches)
    return reference.eval(), load(reference.state_dict(), config)


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


def pipeline_loop(model, scheduler, latents, first, text, mask, camera, plucker, steps):
    """What the released diffusers pipeline does between its encoders and its decoder."""
    scheduler.set_timesteps(steps)
    pinned = torch.zeros_like(latents)
    pinned[:, :, 0] = 1
    latents = torch.where(pinned > 0, first, latents)
    for t in scheduler.timesteps:
        per_token = torch.minimum(t.expand(pinned.shape), 1000 * (1 - pinned))
        velocity = model(
            torch.cat([latents] * 2), torch.cat([per_token[:, :1, :, 0, 0]] * 2), text,
            mask=mask, camera_conditions=camera, chunk_plucker=plucker, return_dict=False,
        )[0]  # fmt: skip
        negative, conditional = velocity.chunk(2)
        velocity = negative + 5.0 * (conditional - negative)
        flat = (1, latents.shape[1], -1)
        stepped = scheduler.step(
            -velocity.reshape(flat).transpose(1, 2), t, latents.reshape(flat).transpose(1, 2),
            per_token_timesteps=per_token.reshape(flat)[:, 0], return_dict=False,
        )[0]  # fmt: skip
        stepped = stepped.transpose(1, 2).reshape(latents.shape)
        latents = torch.where(t / 1000 - 1e-6 < 1 - pinned, stepped, latents)
    return latents

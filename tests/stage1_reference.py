# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 1 beside diffusers' SanaWMTransformer3DModel: the same randomised weights in both, and inputs for both."""

import torch
from diffusers import SanaWMTransformer3DModel

from backend.models.stage1 import Stage1Config, Stage1Transformer, load
from tests.stage1_inputs import camera_poses, randn, randomize, turned

__all__ = ["TINY", "camera_poses", "make_pair", "pipeline_loop", "randn", "randomize", "turned"]

TINY = {
    "in_channels": 8,
    "num_layers": 4,
    "hidden_size": 48,
    "num_attention_heads": 4,
    "linear_head_dim": 24,
    "caption_channels": 20,
    "chunk_plucker_post_attn_blocks": 4,
}


def make_pair(
    entries: dict, seed: int, **switches: bool
) -> tuple[SanaWMTransformer3DModel, Stage1Transformer]:
    """diffusers' model and ours with equal weights, ours renormalising as diffusers does unless told otherwise."""
    reference = SanaWMTransformer3DModel(**entries)
    randomize(reference, seed)
    switches = {"cam_renorm_gdn": True, "cam_renorm_softmax": True, **switches}
    config = Stage1Config.from_diffusers(dict(reference.config), **switches)
    return reference.eval(), load(reference.state_dict(), config)


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

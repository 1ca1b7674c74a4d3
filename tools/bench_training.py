# SPDX-License-Identifier: GPL-3.0-or-later
"""Training steps of stage 1 beside the same model trained through diffusers' SanaWMTransformer3DModel.

Equal weights, inputs, loss and optimiser, one thread, fp32, in turns in one process. Each side does what a trainer
would write for it: forward, mean square error, backward, clipped gradients, AdamW.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.stage1_reference import camera_poses, make_pair, randn

from .bench_stage1 import in_turns

# Half the width of the forward's bench: a step costs three forwards, and keeps everything for the backward pass.
ENTRIES = {
    "in_channels": 128,
    "num_layers": 8,
    "hidden_size": 224,
    "num_attention_heads": 2,
    "linear_head_dim": 112,
    "caption_channels": 256,
    "chunk_plucker_post_attn_blocks": 8,
}
GRID, PROMPT_TOKENS, CLIPS = (11, 11, 20), 40, 1
REPEATS = 5
TARGET = 1.5


def run(quick: bool) -> list[dict]:
    """`training_rate_ratio`: samples a second, ours over theirs."""
    torch.set_flush_denormal(True)
    reference, ours = make_pair(ENTRIES, 1)
    given = _inputs()
    latents, timesteps, text, mask, camera, plucker = given
    target = randn(tuple(latents.shape), 5)

    def theirs() -> Tensor:
        made = reference(latents, timesteps, text, mask=mask, camera_conditions=camera, chunk_plucker=plucker)
        return (made[0] - target).square().mean()

    steps = (
        _trainer(ours.requires_grad_(True).train(), lambda: (ours(*given) - target).square().mean()),
        _trainer(reference.train(), theirs),
    )
    own_s, their_s = in_turns(*steps, 2 if quick else REPEATS)
    return [
        {
            "name": "training_rate_ratio",
            "value": their_s / own_s,
            "unit": "ratio",
            "ours": CLIPS / own_s,
            "theirs": CLIPS / their_s,
            "target": TARGET,
            "conditions": f"training steps with a batch of {CLIPS}, {GRID[0]} latent frames of {GRID[1]} x {GRID[2]}, "
            f"8 blocks, width {ENTRIES['hidden_size']}, fp32, one thread; sides in samples a CPU second, more is "
            "better; softmax attention is in bf16 on both sides, but for our backward pass where bf16 is emulated",
        }
    ]


def _trainer(model: nn.Module, loss_of: Callable[[], Tensor]) -> Callable[[], None]:
    # Steps so small that the weights, and with them the work, stay what they are.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-8)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    step()
    return step


def _inputs() -> tuple[Tensor, ...]:
    timesteps = torch.full((CLIPS, 1, GRID[0]), 623.0)
    timesteps[..., 0] = 0
    mask = torch.zeros(CLIPS, 300)
    mask[:, :PROMPT_TOKENS] = 1
    text, plucker = randn((CLIPS, 1, 300, 256), 2), randn((CLIPS, 48, *GRID), 3)
    return randn((CLIPS, 128, *GRID), 1), timesteps, text, mask, camera_poses(GRID, CLIPS), plucker

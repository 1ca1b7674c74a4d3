# SPDX-License-Identifier: GPL-3.0-or-later
"""Four clips of a few numbers, and a stage 1 that is small enough to learn them in seconds."""

import torch

from backend.models.stage1 import Stage1Config, Stage1Transformer
from backend.training.batch import Batch
from tests.stage1_inputs import camera_poses, randn

FRAMES, CELLS, CHANNELS = 7, (1, 2), 4
ARCHITECTURE = {
    "in_channels": CHANNELS, "out_channels": CHANNELS, "num_layers": 1, "softmax_every_n": 0, "hidden_size": 48,
    "head_dim": 24, "num_cross_heads": 2, "caption_channels": 8, "mlp_ratio": 1.0, "softmax_in_bf16": False,
}  # fmt: skip


class TinyClips:
    """Smooth random clips, each with a prompt of its own; see ClipSource. Others begin at another `first`."""

    def __init__(
        self, count: int = 4, frames: int = FRAMES, channels: int = CHANNELS, first: int = 0
    ) -> None:
        grid = (frames, *CELLS)
        time = torch.linspace(0, 1, frames).view(1, 1, -1, 1, 1)
        self._clips = []
        for index in range(first, first + count):
            start, end = randn((2, 1, channels, 1, *CELLS), 10 + index)
            self._clips.append(
                Batch(
                    torch.lerp(start, end, time).contiguous(),
                    camera_poses(grid),
                    0.1 * randn((1, 48, *grid), 20 + index),
                    randn((1, 1, 2, 8), 30 + index),
                    torch.ones(1, 2),
                )
            )

    def __len__(self) -> int:
        return len(self._clips)

    def clip(self, index: int) -> Batch:
        return self._clips[index]

    def no_text(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(1, 1, 2, 8), torch.ones(1, 2)

    def pictures(self, latents: torch.Tensor) -> torch.Tensor:
        return (latents[:3].transpose(0, 1) / 4 + 0.5).clamp(0, 1)


def tiny_model(seed: int = 0, **changes) -> Stage1Transformer:
    torch.manual_seed(seed)
    return Stage1Transformer(Stage1Config(**{**ARCHITECTURE, **changes}))

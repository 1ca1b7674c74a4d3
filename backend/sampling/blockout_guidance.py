# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the sampled state to the projected preview, where the preview is known to be seen.

A preview z and the start noise eps have a state of their own at every noise level, (1 - sigma) z + sigma eps. After
a step to sigma, the sampler's state is moved towards it by `strength` in the cells that the first frame shows; the
others are left to the model, which sees what stands around them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..protocol.limits import TEMPORAL_STRIDE

# Latents of some of the clip's latent frames (B,C,t,H,W), and the cells (B,1,t,H,W) bool to be followed in them.
Preview = tuple[Tensor, Tensor]
# A cell is followed if the first frame shows at least this share of the pixels that it stands for; the rest of it
# is what the preview has been completed with.
SEEN_SHARE = 0.5


@dataclass(frozen=True)
class BlockoutGuidance:
    """One clip's guidance, for any of the samplers.

    Attributes:
        preview: of a slice of the clip's latent frames; asked for what is being sampled and nothing else.
        strength: how far the state is moved, 0..1.
        end_sigma: states below this noise level are left to the model, 0..1.
    """

    preview: Callable[[slice], Preview]
    strength: float
    end_sigma: float

    def drawn(self, state: Tensor, noise: Tensor, sigma: Tensor, frames: slice) -> Tensor:
        """The state after a step, drawn to the preview.

        Args:
            state: (B,C,t,H,W).
            noise: the same shape, the noise that the sampler started these frames from.
            sigma: (t,), noise level of each frame after its step; NaN for frames that did not move in it.
            frames: which of the clip's latent frames these are; the clip's first one is given and stays.

        Returns:
            In the dtype of `state`; bit-equal to it where nothing is followed.
        """
        follows = sigma >= self.end_sigma
        follows[: 1 if frames.start == 0 else 0] = False
        if not follows.any():
            return state
        preview, seen = self.preview(frames)
        level = sigma[:, None, None]
        target = (1 - level) * preview.float() + level * noise.float()
        drawn = torch.lerp(state.float(), target, self.strength).to(state.dtype)
        return torch.where(seen & follows[:, None, None], drawn, state)


def seen_cells(visible: Tensor, patch: int, begins: bool, share: float = SEEN_SHARE) -> Tensor:
    """Latent cells that the first frame shows for the greater part.

    Args:
        visible: (F,1,H,W), share of each pixel that the first frame shows, 0..1; the frames of whole latents.
        patch: side of a cell in pixels: 8 for the embedded codec, 32 for SANA-WM's.
        begins: whether the clip's first frame, which is a latent by itself, is among them; else F is 8 k.
        share: of a cell's pixels, over all of its frames, that must be seen.

    Returns:
        (1,1,T,H/patch,W/patch) bool.
    """
    shares = functional.avg_pool2d(visible.float(), patch)[:, 0]
    moving = shares[1:] if begins else shares
    steps = moving.unflatten(0, (-1, TEMPORAL_STRIDE)).mean(1)
    # Sums of many small numbers may miss the share by rounding.
    return (torch.cat([shares[:1], steps]) if begins else steps)[None, None] >= share - 1e-6

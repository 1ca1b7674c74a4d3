# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded network as the recipes of stage 1 train it: a model of the velocity."""

from __future__ import annotations

from torch import Tensor

from ..stage1 import Carry, Conditioning, Stage1Transformer
from ..vae.linear_codec import CHANNELS

# Below it, what is left of the noise is too little to divide by.
LOWEST_SIGMA = 1e-3


class EmbeddedVelocity(Stage1Transformer):
    """The network of `EmbeddedModel`, with the same parameters.

    It reads noisy latents with the condition channels behind them, (B, 400, T, h/8, w/8), changes the base latents,
    which are the first 128 of these, and gives (noisy - clean) / sigma, (B, 128, T, h/8, w/8).
    """

    def denoise(
        self,
        latents: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        carry: Carry | None = None,
        save: bool = False,
    ) -> Tensor:
        """Arguments as for `Stage1Transformer.denoise`."""
        change = super().denoise(latents, timesteps, conditioning, carry, save)
        noisy, base = latents[:, :CHANNELS], latents[:, CHANNELS : 2 * CHANNELS]
        return velocity(noisy, base + change, timesteps)


def velocity(noisy: Tensor, clean: Tensor, timesteps: Tensor) -> Tensor:
    """noise - data, (B, C, T, h, w), of frames whose clean latents are known; timesteps (B, 1, T), 0..1000."""
    return (noisy - clean) / (timesteps / 1000)[..., None, None].clamp(min=LOWEST_SIGMA)

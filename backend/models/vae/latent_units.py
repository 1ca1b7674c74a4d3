# SPDX-License-Identifier: GPL-3.0-or-later
"""Between the latents of a video autoencoder and those that the transformers see."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def normalized(latents: Tensor, vae: nn.Module) -> Tensor:
    """Latents (B,C,T,h,w) of the encoder -> as the transformers see them: without mean, in units of their spread."""
    mean, std = _statistics(vae, latents)
    return (latents - mean) * vae.config.scaling_factor / std


def denormalized(latents: Tensor, vae: nn.Module) -> Tensor:
    """`normalized` reversed, for the decoder."""
    mean, std = _statistics(vae, latents)
    return latents * std / vae.config.scaling_factor + mean


def _statistics(vae: nn.Module, latents: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = (
        statistic.to(latents.device, torch.float32).view(1, -1, 1, 1, 1)
        for statistic in (vae.latents_mean, vae.latents_std)
    )
    return mean, std

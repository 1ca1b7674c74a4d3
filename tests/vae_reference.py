# SPDX-License-Identifier: GPL-3.0-or-later
"""A tiny LTX-2 video autoencoder as diffusers builds it, and a folder that holds it."""

from pathlib import Path

import torch
from diffusers import AutoencoderKLLTX2Video

# Of the released one everything but the channels and the number of layers.
TINY = {
    "block_out_channels": (8, 16, 32, 32),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_block_out_channels": (8, 16, 32),
    "decoder_layers_per_block": (1, 1, 1, 1),
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}


def tiny_vae(latent_channels: int, causal: bool, seed: int = 2) -> AutoencoderKLLTX2Video:
    """With random weights and statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = AutoencoderKLLTX2Video(**TINY, latent_channels=latent_channels, decoder_causal=causal)
        vae.latents_mean.normal_()
        vae.latents_std.uniform_(0.5, 2)
    return vae.requires_grad_(False).eval()


def write_vae(folder: Path, latent_channels: int, causal: bool, seed: int = 2) -> Path:
    """Save it as released: config.json and one safetensors file."""
    tiny_vae(latent_channels, causal, seed).save_pretrained(folder)
    return folder

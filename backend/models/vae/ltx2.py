# SPDX-License-Identifier: GPL-3.0-or-later
"""The LTX-2 video autoencoder: diffusers' modules, loaded strictly, and the first frame through its encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers import AutoencoderKLLTX2Video
from torch import Tensor, nn

from ...protocol.limits import TEMPORAL_STRIDE
from ..checkpoint import file_entries, fill, read_config, require_match
from .latent_units import normalized

SPATIAL_STRIDE = 32
# What the released autoencoder fixes; LTX-2.3's differs in some of it.
_FIXED = {
    "patch_size": 4,
    "patch_size_t": 1,
    "timestep_conditioning": False,
    "encoder_causal": True,
    "encoder_spatial_padding_mode": "zeros",
    "decoder_spatial_padding_mode": "reflect",
    "spatial_compression_ratio": SPATIAL_STRIDE,
    "temporal_compression_ratio": TEMPORAL_STRIDE,
}


def load_vae(
    folder: Path,
    part: Literal["encoder", "decoder"],
    causal: bool,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
) -> AutoencoderKLLTX2Video:
    """One half of a video autoencoder in the diffusers layout; the other half is checked and not read.

    Args:
        causal: whether the decoder was trained to look back only: that of the streaming release was, that of the
            bidirectional one was not. The two differ in their weights but in no shape.

    Raises:
        FileNotFoundError: config.json or the checkpoint is missing.
        ValueError: it is another autoencoder, has no statistics, or tensors do not fit.
    """
    entries = file_entries(folder, "video autoencoder")
    with torch.device("meta"):
        vae = AutoencoderKLLTX2Video(**_settings(folder, causal))
    require_match(entries, vae, "video autoencoder")
    unused = "decoder" if part == "encoder" else "encoder"
    setattr(vae, unused, None)
    needed = {name: entry for name, entry in entries.items() if not name.startswith(f"{unused}.")}
    fill(vae, needed, device, lambda name: dtype)
    if not vae.latents_mean.any() or bool((vae.latents_std == 1).all()):
        raise ValueError(
            f"The video autoencoder in {folder} holds no statistics of its latents, so they would come out in wrong "
            "colours; download it again."
        )
    return vae


@torch.no_grad()
def encode_first_frame(vae: nn.Module, image: np.ndarray) -> Tensor:
    """The image as a video of one frame -> the mode of its latents.

    Args:
        vae: with its encoder.
        image: (H, W, 3) float32, sRGB 0..1, sides multiples of 32.

    Returns:
        (1, C, 1, H/32, W/32) float32, normalised.
    """
    return encode_frames(vae, torch.from_numpy(image).permute(2, 0, 1)[None, :, None])


@torch.no_grad()
def encode_frames(vae: nn.Module, video: Tensor) -> Tensor:
    """A clip -> the mode of its latents.

    Args:
        vae: with its encoder.
        video: (B, 3, 8k + 1, H, W), sRGB 0..1, sides multiples of 32.

    Returns:
        (B, C, k + 1, H/32, W/32) float32, normalised, on the encoder's device.
    """
    video = video.to(vae.encoder.conv_in.conv.weight) * 2 - 1
    return normalized(vae.encode(video).latent_dist.mode().float(), vae)


def _settings(folder: Path, causal: bool) -> dict:
    """What to build the class with; its defaults are not the released settings."""
    entries = read_config(folder, "video autoencoder")
    for name, value in _FIXED.items():
        if entries.get(name, value) != value:
            raise ValueError(
                f"The video autoencoder in {folder} has {name} = {entries[name]!r} instead of {value!r}; "
                "SANA-WM uses that of LTX-2."
            )
    if entries.get("decoder_causal", causal) != causal:
        wanted, found = ("streaming", "bidirectional") if causal else ("bidirectional", "streaming")
        raise ValueError(
            f"The video autoencoder in {folder} is the one of the {found} release; this model needs the {wanted} one's."
        )
    named = {name: value for name, value in entries.items() if not name.startswith("_")}
    return {**named, **_FIXED, "decoder_causal": causal}

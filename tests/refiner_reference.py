# SPDX-License-Identifier: GPL-3.0-or-later
"""A tiny refiner of the released architecture as diffusers builds it, and a folder that holds it."""

from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.transformers.transformer_sana_wm_refiner import SanaWMLTX2RefinerTransformer3DModel
from diffusers.pipelines.sana_wm.refiner import SanaWMLTX2Refiner

CHANNELS, CAPTION = 16, 24
TINY = {
    "in_channels": CHANNELS, "out_channels": CHANNELS, "num_attention_heads": 2, "attention_head_dim": 16,
    "cross_attention_dim": 32, "caption_channels": CAPTION, "num_layers": 2, "audio_in_channels": 4,
    "audio_out_channels": 4, "audio_num_attention_heads": 2, "audio_attention_head_dim": 8,
    "audio_cross_attention_dim": 16, "rope_type": "split",
}  # fmt: skip


def tiny_refiner(seed: int = 0) -> SanaWMLTX2RefinerTransformer3DModel:
    """With random weights in every tensor, norms and biases too."""
    generator = torch.Generator().manual_seed(seed)
    model = SanaWMLTX2RefinerTransformer3DModel(**TINY).requires_grad_(False).eval()
    for name, tensor in model.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith(("norm_q.weight", "norm_k.weight")):
            tensor.copy_(1 + 0.2 * noise)
        elif tensor.ndim > 1 and "table" not in name:
            tensor.copy_(noise / tensor.shape[-1] ** 0.5)
        else:
            tensor.copy_(0.2 * noise)
    return model


def write_refiner(folder: Path, seed: int = 0) -> Path:
    """Save it as released: config.json and one safetensors file, the audio stream included."""
    tiny_refiner(seed).save_pretrained(folder)
    return folder


def library_refined(
    model: torch.nn.Module, text: torch.Tensor, mask: torch.Tensor | None, latents: torch.Tensor, **settings
) -> torch.Tensor:
    """Latents refined by diffusers' pipeline; the prompt's states are handed in instead of a text encoder."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    pipeline = SanaWMLTX2Refiner(model, None, None, None, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    pipeline._encode_prompt = lambda prompt, device, dtype: (text, mask)
    return pipeline(latents, "", fps=16, output_type="latent", **settings)

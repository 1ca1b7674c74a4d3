# SPDX-License-Identifier: GPL-3.0-or-later
"""A refiner's folder -> its video stream, strictly."""

from __future__ import annotations

from pathlib import Path

import torch

from ..checkpoint import file_entries, fill, read_config, require_match
from .config import RefinerConfig
from .transformer import RefinerTransformer

# What the names of all tensors of the audio stream, and of those between the streams, contain.
_AUDIO = ("audio_", "audio.", "video_to_audio", "av_cross_attn", "video_a2v_cross_attn")
# Of LTX-2.3 only.
_LATER_MODEL = ("to_gate_logits", "prompt_adaln", "prompt_scale_shift_table")


def is_audio(name: str) -> bool:
    """Whether a tensor of a released checkpoint takes no part in the video."""
    return any(part in name for part in _AUDIO)


def load_refiner(
    folder: Path,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    streamed: bool = False,
) -> RefinerTransformer:
    """Build the refiner and fill it from a folder in the diffusers layout; audio tensors are not read.

    Args:
        streamed: leave the blocks' weights on the disk or in host memory and let them visit the device.

    Raises:
        FileNotFoundError: config.json or the checkpoint is missing.
        ValueError: it is another model, or tensors are missing, unknown or of another shape.
    """
    config = RefinerConfig.from_diffusers(read_config(folder, "refiner"))
    entries = {name: entry for name, entry in file_entries(folder, "refiner").items() if not is_audio(name)}
    later = next((name for name in entries if any(part in name for part in _LATER_MODEL)), None)
    if later is not None:
        raise ValueError(f"{folder} is a checkpoint of LTX-2.3 ({later}); SANA-WM refines with LTX-2.")
    with torch.device("meta"):
        model = RefinerTransformer(config)
    require_match(entries, model, "refiner")
    return fill(model, entries, device, lambda name: dtype, "transformer_blocks" if streamed else "")

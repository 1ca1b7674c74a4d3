# SPDX-License-Identifier: GPL-3.0-or-later
"""A refiner's folder -> its video stream, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from ..checkpoint import Entry, file_entries, fill, read_config, require_match
from ..lora import Adapter, inject, read_adapter, require_fit
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
    adapter: Path | None = None,
    strength: float = 1.0,
) -> RefinerTransformer:
    """Build the refiner and fill it from a folder in the diffusers layout; audio tensors are not read.

    Args:
        streamed: leave the blocks' weights on the disk or in host memory and let them visit the device.
        adapter: a LoRA file that works beside the weights, unmerged.
        strength: of the adapter.

    Raises:
        FileNotFoundError: config.json, the checkpoint or the adapter is missing.
        ValueError: it is another model, tensors are missing, unknown or of another shape, or the adapter does not fit.
    """
    model, entries = matched(folder)
    if adapter is not None:
        entries = inject(model, entries, matching_adapter(adapter, entries), strength)
    return fill(model, entries, device, lambda name: dtype, "transformer_blocks" if streamed else "")


def matching_adapter(path: Path, entries: Mapping[str, Entry]) -> Adapter:
    """A LoRA file that fits the refiner; what it has for sound and for the text connectors is left out.

    Args:
        entries: of the refiner's tensors, from `matched`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no adapter, or one of another model.
    """
    adapter = read_adapter(path, lambda module: is_audio(f"{module}.") or "connector" in module)
    require_fit(adapter, {name: shape for name, (shape, _) in entries.items()}, "refiner")
    return adapter


def matched(folder: Path) -> tuple[RefinerTransformer, dict[str, Entry]]:
    """The refiner of a folder on the meta device, and the entries of its tensors, which match; errors as above."""
    config = RefinerConfig.from_diffusers(read_config(folder, "refiner"))
    entries = {name: entry for name, entry in file_entries(folder, "refiner").items() if not is_audio(name)}
    later = next((name for name in entries if any(part in name for part in _LATER_MODEL)), None)
    if later is not None:
        raise ValueError(f"{folder} is a checkpoint of LTX-2.3 ({later}); SANA-WM refines with LTX-2.")
    with torch.device("meta"):
        model = RefinerTransformer(config)
    require_match(entries, model, "refiner")
    return model, entries

# SPDX-License-Identifier: GPL-3.0-or-later
"""A refiner's folder -> its video stream, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from ...quantization.loading import quantize_linears, require_plain, stored_dtypes
from ...quantization.recipe import REFINER
from ..checkpoint import Entry, file_entries, fill, read_config, require_match
from ..lora import Adapter, inject, merged, read_adapter, require_fit
from .config import RefinerConfig
from .transformer import RefinerTransformer

# What the names of all tensors of the audio stream, and of those between the streams, contain.
_AUDIO = ("audio_", "audio.", "video_to_audio", "av_cross_attn", "video_a2v_cross_attn")
# How adapters in Lightricks' spelling begin the names of modulations between the streams.
_BETWEEN_STREAMS = "av_ca_"
_CONNECTORS = ("connector", "text_embedding_projection", "text_proj_in")
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
    format: str | None = None,
    reference: Path | None = None,
) -> RefinerTransformer:
    """Build the refiner and fill it from a folder in the diffusers layout; audio tensors are not read.

    Args:
        streamed: leave the blocks' weights on the disk or in host memory and let them visit the device.
        adapter: a LoRA file that works beside the weights, unmerged; merged into those that are quantised here.
        strength: of the adapter.
        format: "nvfp4" or "fp8" for the linears of the blocks; None to leave them as they are.
        reference: folder of the plain weights, which quantised ones are held against; None if it is not there.

    Raises:
        FileNotFoundError: config.json, the checkpoint or the adapter is missing.
        ValueError: it is another model, tensors are missing, unknown or of another shape, or the adapter does not fit.
    """
    model, entries = described(folder) if format and adapter is None else matched(folder)
    if adapter is not None:
        change = matching_adapter(adapter, entries)
        join = merged if format else partial(inject, model)
        entries = join(entries, change, strength)
    if format is not None:
        plain = None if reference is None else file_entries(reference, "refiner")
        entries = quantize_linears(model, entries, REFINER, format, device, plain)
    require_match(entries, model, "refiner")
    packed = stored_dtypes(model)
    return fill(
        model,
        entries,
        device,
        lambda name: packed.get(name) or dtype,
        "transformer_blocks" if streamed else "",
    )


def matching_adapter(path: Path, entries: Mapping[str, Entry]) -> Adapter:
    """A LoRA file that fits the refiner; what it has for sound and for the text connectors is left out.

    Args:
        entries: of the refiner's tensors, from `matched`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no adapter, or one of another model.
    """
    adapter = read_adapter(path, lambda module: _is_unheard(module) or _is_of_connectors(module))
    require_fit(adapter, {name: shape for name, (shape, _) in entries.items()}, "refiner")
    return adapter


def not_applied(adapter: Adapter) -> str:
    """What of an adapter is lost, as a sentence; "" if all that concerns the picture is there."""
    lost = [module for module in adapter.left_out if not _is_unheard(module)]
    if not lost:
        return ""
    named = f"{lost[0]} and {len(lost) - 1} more" if len(lost) > 1 else lost[0]
    return f"{adapter.name} also changes the text connectors ({named}), which is not applied."


def _is_unheard(module: str) -> bool:
    return is_audio(f"{module}.") or module.startswith(_BETWEEN_STREAMS)


def _is_of_connectors(module: str) -> bool:
    return any(part in module for part in _CONNECTORS)


def matched(folder: Path) -> tuple[RefinerTransformer, dict[str, Entry]]:
    """As `described`, of plain weights, and the two match; errors as in `load_refiner`."""
    model, entries = described(folder)
    require_plain(entries, "refiner")
    require_match(entries, model, "refiner")
    return model, entries


def described(folder: Path) -> tuple[RefinerTransformer, dict[str, Entry]]:
    """The model on the meta device, without quantised linears, and the entries of its video stream.

    Raises:
        FileNotFoundError, ValueError: as in `load_refiner`, but that the two need not match yet.
    """
    config = RefinerConfig.from_diffusers(read_config(folder, "refiner"))
    entries = {name: entry for name, entry in file_entries(folder, "refiner").items() if not is_audio(name)}
    later = next((name for name in entries if any(part in name for part in _LATER_MODEL)), None)
    if later is not None:
        raise ValueError(f"{folder} is a checkpoint of LTX-2.3 ({later}); SANA-WM refines with LTX-2.")
    with torch.device("meta"):
        return RefinerTransformer(config), entries

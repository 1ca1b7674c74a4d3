# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a preset's weights are there and may be used, in one sentence."""

from __future__ import annotations

from pathlib import Path

from .preset import QUANTIZED, Preset
from .weights_folder import find, find_quantized, unconverted
from .weights_licences import unaccepted
from .weights_registry import COMPONENTS, needed_for

# A prompt that was encoded before needs none of these.
TEXT_ENCODERS = ("gemma_2_2b", "gemma_3_12b")


def places_of(root: Path, preset: Preset) -> dict[str, Path]:
    """Where each part that the preset needs lies; those that are not there are left out.

    A part that was quantised to the preset's precision goes before the plain one.
    """
    found = {}
    for id in needed_for(preset):
        quantized = find_quantized(root, id, preset.precision) if preset.precision in QUANTIZED else None
        place = quantized or find(root, id)
        if place is not None:
            found[id] = place
    return found


def loras_of(root: Path, preset: Preset) -> dict[str, Path]:
    """Where the adapters that the preset names lie or should lie, by the part that they are for: stage1, refiner."""
    named = {"stage1": preset.stage1_lora, "refiner": preset.refiner_lora}
    return {part: root / "loras" / name for part, name in named.items() if name}


def why_not_ready(root: Path | None, preset: Preset) -> str:
    """What is missing, or which licence was not accepted, and what to do; "" if the preset can run.

    Text encoders do not count here, because prompts may be cached.

    Args:
        root: the weights folder; None if none was chosen.
    """
    needed = needed_for(preset)
    if not needed:
        return ""
    if root is None:
        return (
            f"{preset.name} needs the weights of SANA-WM; choose their folder with --weights DIR, or in Blender's "
            "preferences."
        )
    places = places_of(root, preset)
    missing = [COMPONENTS[id].title for id in needed if id not in places and id not in TEXT_ENCODERS]
    pickle = next((path for id in needed if id not in places and (path := unconverted(root, id))), None)
    if pickle is not None:
        return (
            f"{preset.name} needs {pickle.name} of {pickle.parent} converted, once; press Convert in Blender's "
            "preferences, or run weights convert --weights DIR."
        )
    if missing:
        return (
            f"{preset.name} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not in {root}; "
            "download the weights in Blender's preferences or with weights download, or choose the folder that has "
            "them."
        )
    for lora in loras_of(root, preset).values():
        if not lora.is_file():
            return (
                f"{preset.name} needs the adapter {lora.name}, which is not in {lora.parent}; put it there."
            )
    refused = unaccepted(root, places)
    if refused:
        return (
            f"The licence of {' and '.join(licence.title for licence in refused)} was not accepted for {root}; read "
            "and accept it in Blender's preferences or with weights accept."
        )
    return ""

# SPDX-License-Identifier: GPL-3.0-or-later
"""A refiner and an adapter -> a refiner that has the adapter's change in its weights."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..models.lora import Adapter
from ..models.refiner.loading import is_audio, matched, matching_adapter
from ..protocol import ProtocolError
from ..protocol.weights_folder import weight_files
from ..protocol.weights_registry import Component
from .notices import write_modified


def merge(
    source: Path,
    component: Component,
    lora: Path,
    strength: float,
    target: Path,
    on_file: Callable[[str, float], None],
) -> Adapter:
    """Write the merged refiner as a folder of its own, file by file, that appears as a whole or not at all.

    Product and sum are taken in fp32 and rounded once, to the number format of the weight. Tensors of the audio stream
    are left out: nothing reads them.

    Args:
        source: a refiner's folder.
        lora: the adapter's file.
        strength: factor of the adapter's change.
        target: the new folder.
        on_file: called with the name of each file and the fraction that is done.

    Raises:
        ProtocolError: the target exists, or the weights are quantised.
        OSError, ValueError: from the loaders; refiner or adapter are not what they should be.
    """
    if target.exists():
        raise ProtocolError(f"{target} exists already; name a new folder.")
    if not target.parent.is_dir():
        raise ProtocolError(f"There is no folder {target.parent}; make it first.")
    _, entries = matched(source)
    adapter = matching_adapter(lora, entries)
    files = weight_files(source, component)
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        places: dict[str, str] = {}
        for index, file in enumerate(files):
            on_file(file.name, index / len(files))
            tensors = _merged(file, adapter, strength)
            save_file(tensors, partial / file.name, {"format": "pt"})
            places |= dict.fromkeys(tensors, file.name)
        if len(files) > 1:
            size = sum(path.stat().st_size for path in partial.iterdir())
            table = {"metadata": {"total_size": size}, "weight_map": places}
            (partial / f"{component.weights[0]}.index.json").write_text(json.dumps(table), encoding="utf-8")
        shutil.copy(source / "config.json", partial)
        change = f"{target.name} has the adapter {adapter.name} merged in, at strength {strength:g}."
        write_modified(partial, component, change)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return adapter


def _merged(file: Path, adapter: Adapter, strength: float) -> dict[str, Tensor]:
    tensors = {}
    with safe_open(file, framework="pt") as archive:
        for name in archive.keys():
            if is_audio(name):
                continue
            weight = archive.get_tensor(name)
            layer = adapter.layers.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
            if layer is not None:
                if not weight.is_floating_point() or weight.itemsize == 1:
                    raise ProtocolError(
                        f"{file.name} is quantised ({name} is {weight.dtype}); merge the adapter into the original "
                        "weights, and quantise afterwards."
                    )
                weight = (weight.float() + layer.change(strength)).to(weight.dtype)
            tensors[name] = weight.contiguous()
    return tensors

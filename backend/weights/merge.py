# SPDX-License-Identifier: GPL-3.0-or-later
"""A refiner and an adapter -> a refiner that has the adapter's change in its weights."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ..models.lora import Adapter, LowRank
from ..models.refiner.loading import is_audio, matched, matching_adapter
from ..models.tensor_file import FileTensor, mapped, write
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
    """Write the merged refiner as a folder of its own, tensor by tensor, that appears as a whole or not at all.

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
            write(partial / file.name, tensors)
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


def _merged(file: Path, adapter: Adapter, strength: float) -> dict[str, FileTensor]:
    """The file's tensors without sound, changed when they are read."""
    return {
        name: _changed(name, tensor, adapter.layers.get(name.removesuffix(".weight")), strength)
        if name.endswith(".weight")
        else tensor
        for name, tensor in mapped(file).items()
        if not is_audio(name)
    }


def _changed(name: str, tensor: FileTensor, layer: LowRank | None, strength: float) -> FileTensor:
    if layer is None:
        return tensor
    if not tensor.dtype.is_floating_point or tensor.dtype.itemsize == 1:
        raise ProtocolError(
            f"{name} is quantised ({tensor.dtype}); merge the adapter into the original weights, and quantise "
            "afterwards."
        )
    return tensor._replace(read=lambda: layer.changed(tensor.read(), strength).to(tensor.dtype))

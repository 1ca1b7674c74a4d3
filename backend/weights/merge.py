# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 1 or a refiner, and an adapter -> the same model with the adapter's change in its weights."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ..models.lora import Adapter, LowRank
from ..models.refiner import loading as refiner
from ..models.stage1 import loading as stage1
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
    """Write the merged model as a folder of its own, tensor by tensor, that appears as a whole or not at all.

    Product and sum are taken in fp32 and rounded once, to the number format of the weight. Tensors of the audio stream
    are left out: nothing reads them.

    Args:
        source: file or folder of stage 1, or a refiner's folder.
        lora: the adapter's file.
        strength: factor of the adapter's change.
        target: the new folder.
        on_file: called with the name of each file and the fraction that is done.

    Raises:
        ProtocolError: the target exists, or the weights are quantised.
        OSError, ValueError: from the loaders; model or adapter are not what they should be.
    """
    if target.exists():
        raise ProtocolError(f"{target} exists already; name a new folder.")
    if not target.parent.is_dir():
        raise ProtocolError(f"There is no folder {target.parent}; make it first.")
    is_stage1 = component.id.startswith("stage1")
    if is_stage1:
        adapter = stage1.matching_adapter(lora, stage1.described(source)[1])
    else:
        adapter = refiner.matching_adapter(lora, refiner.matched(source)[1])
    files = weight_files(source, component)
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        places: dict[str, str] = {}
        for index, file in enumerate(files):
            on_file(file.name, index / len(files))
            tensors = (_of_stage1 if is_stage1 else _of_refiner)(file, adapter, strength)
            write(partial / file.name, tensors)
            places |= dict.fromkeys(tensors, file.name)
        if len(files) > 1:
            size = sum(path.stat().st_size for path in partial.iterdir())
            table = {"metadata": {"total_size": size}, "weight_map": places}
            (partial / f"{component.weights[0]}.index.json").write_text(json.dumps(table), encoding="utf-8")
        if (source / "config.json").exists():
            shutil.copy(source / "config.json", partial)
        change = f"{target.name} has the adapter {adapter.name} merged in, at strength {strength:g}."
        write_modified(partial, component, change)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return adapter


def _of_stage1(file: Path, adapter: Adapter, strength: float) -> dict[str, FileTensor]:
    """The file's tensors under their own names, changed when they are read."""
    return {
        name: _merged(stage1.canonical(name), tensor, adapter, strength)
        for name, tensor in mapped(file).items()
    }


def _of_refiner(file: Path, adapter: Adapter, strength: float) -> dict[str, FileTensor]:
    """The same, without sound."""
    return {
        name: _merged(name, tensor, adapter, strength)
        for name, tensor in mapped(file).items()
        if not refiner.is_audio(name)
    }


def _merged(name: str, tensor: FileTensor, adapter: Adapter, strength: float) -> FileTensor:
    layer = adapter.layers.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
    return _changed(name, tensor, layer, strength)


def _changed(name: str, tensor: FileTensor, layer: LowRank | None, strength: float) -> FileTensor:
    if layer is None:
        return tensor
    if not tensor.dtype.is_floating_point or tensor.dtype.itemsize == 1:
        raise ProtocolError(
            f"{name} is quantised ({tensor.dtype}); merge the adapter into the original weights, and quantise "
            "afterwards."
        )
    return tensor._replace(read=lambda: layer.changed(tensor.read(), strength).to(tensor.dtype))

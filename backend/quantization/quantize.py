# SPDX-License-Identifier: GPL-3.0-or-later
"""A checkpoint with plain weights -> a folder with quantised ones, once, for `python -m backend weights quantize`.

The folder has ModelOpt's names: `weight`, `weight_scale` (row by row) and, for NVFP4, `weight_scale_2`; what is
quantised and what is not stands in `hf_quant_config.json`. Linears that the model has as one, such as queries, keys
and values of stage 1, are quantised as one and share a tensor scale.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from kernels import fp8, nvfp4

from ..models.checkpoint import Entry, file_entries, require_match
from ..models.refiner.loading import described as described_refiner
from ..models.stage1.loading import described as described_stage1
from ..models.stage1.loading import stored_dtype
from ..models.tensor_file import FileTensor, write
from .importers import format_of
from .linear import KINDS
from .recipe import REFINER, STAGE1, Recipe

_LORA = (".lora_A", ".lora_B", ".lora_down", ".lora_up")


def quantize_checkpoint(
    source: Path,
    target: Path,
    format: str,
    file_name: str,
    is_refiner: bool,
    on_tensor: Callable[[int, int], None] = lambda done, of: None,
) -> None:
    """Write `target`, a folder that appears as a whole or not at all. Memory: one weight and its quantised form.

    Args:
        source: the file of stage 1, or the refiner's folder.
        format: "nvfp4" or "fp8".
        file_name: of the weights in the folder.
        on_tensor: called with the tensors that are written, and their number.

    Raises:
        FileNotFoundError: there is no source.
        FileExistsError: there is a target.
        ValueError: the source is quantised already, holds a LoRA, or is something else.
        OSError: it cannot be written.
    """
    recipe = REFINER if is_refiner else STAGE1
    if target.exists():
        raise FileExistsError(
            f"{target} is there already; remove it to make it anew, or name another folder."
        )
    _refuse_unsuitable(source, recipe)
    model, entries = described_refiner(source) if is_refiner else described_stage1(source)
    require_match(entries, model, recipe.what)
    names = recipe.names(model)
    planned = _planned(entries, names, format)
    total = len(planned)
    counted = {
        name: FileTensor(shape, dtype, partial(_count, on_tensor, number + 1, total, make))
        for number, (name, (shape, dtype, make)) in enumerate(planned.items())
    }
    settings = _settings(entries, names, format)
    partial_folder = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir(parents=True)
    try:
        config = source / "config.json" if source.is_dir() else source.parent / "config.json"
        if config.is_file():
            shutil.copyfile(config, partial_folder / "config.json")
        record = json.dumps({"producer": {"name": "sana_wm_shots"}, "quantization": settings}, indent=1)
        (partial_folder / "hf_quant_config.json").write_text(f"{record}\n", encoding="utf-8")
        metadata = {**_metadata(source), "quantization": json.dumps(settings)}
        with torch.no_grad():
            write(partial_folder / file_name, counted, metadata)
        os.replace(partial_folder, target)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)


def _refuse_unsuitable(source: Path, recipe: Recipe) -> None:
    names = file_entries(source, recipe.what)
    stored = format_of(names)
    if stored:
        raise ValueError(
            f"{source} is quantised in {stored} already; quantising again would lose more. Name the plain weights."
        )
    if any(mark in name for name in names for mark in _LORA):
        raise ValueError(
            f"{source} holds a LoRA beside the weights; merge it into them first, because it cannot be merged into "
            "quantised ones."
        )


def _planned(entries: dict[str, Entry], names: list[str], format: str) -> dict[str, FileTensor]:
    """The tensors of the file, in the order in which they are made."""
    kind, listed = KINDS[format], {f"{name}.weight" for name in names}
    planned: dict[str, FileTensor] = {}
    for name, (shape, read) in entries.items():
        if name not in listed:
            dtype = stored_dtype(name)
            planned[name] = FileTensor(shape, dtype, partial(_cast, read, dtype))
            continue
        size = shape[0], shape[1]
        waiting: dict[str, Tensor] = {}
        for end, (own_shape, dtype) in kind.layout(size[1], size[0]).items():
            is_scale = format == "nvfp4" and end == "weight_scale"
            own_shape = (size[0], size[1] // nvfp4.BLOCK) if is_scale else own_shape
            make = partial(_take, end, waiting, kind, read, size)
            planned[f"{name.removesuffix('weight')}{end}"] = FileTensor(own_shape, dtype, make)
    return planned


def _cast(read: Callable[[], Tensor], dtype: torch.dtype) -> Tensor:
    return read().to(dtype)


def _take(end: str, waiting: dict[str, Tensor], kind, read: Callable[[], Tensor], size: tuple[int, int]):
    if not waiting:
        waiting.update(kind.quantized(read().reshape(size)))
    tensor = waiting.pop(end)
    if kind.format == "nvfp4" and end == "weight_scale":
        return nvfp4.unswizzle(tensor, size[0], size[1] // nvfp4.BLOCK)
    return tensor


def _count(
    on_tensor: Callable[[int, int], None], done: int, total: int, make: Callable[[], Tensor]
) -> Tensor:
    tensor = make()
    on_tensor(done, total)
    return tensor


def _settings(entries: dict[str, Entry], names: list[str], format: str) -> dict:
    """As ModelOpt writes them."""
    layers = {name.rpartition(".")[0] for name, (shape, _) in entries.items() if len(shape) > 1}
    return {
        "quant_algo": format.upper(),
        "group_size": nvfp4.BLOCK if format == "nvfp4" else fp8.BLOCK,
        "exclude_modules": sorted(layers - set(names)),
    }


def _metadata(source: Path) -> dict[str, str]:
    """Of the source, such as the steps that the streaming student was trained with."""
    if source.is_dir():
        return {}
    with safe_open(source, framework="pt") as archive:
        return archive.metadata() or {}

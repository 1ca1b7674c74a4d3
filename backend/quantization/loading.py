# SPDX-License-Identifier: GPL-3.0-or-later
"""A model's listed linears become quantised ones, whatever the checkpoint holds: plain or quantised weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ..models.checkpoint import Entry, require_match
from .importers import Layout, check_against, check_layout, format_of, layout_of
from .linear import KINDS, NVFP4Linear, QuantizedLinear
from .recipe import Recipe


def require_plain(entries: Mapping[str, Entry], what: str) -> None:
    """
    Raises:
        ValueError: the checkpoint is quantised.
    """
    stored = format_of(entries)
    if stored:
        raise ValueError(
            f"The checkpoint of the {what} is quantised in {stored}; choose a preset in {stored}, or the plain weights."
        )


def quantize_linears(
    model: nn.Module,
    entries: Mapping[str, Entry],
    recipe: Recipe,
    format: str,
    device: torch.device | str = "cpu",
    reference: Mapping[str, Entry] | None = None,
) -> dict[str, Entry]:
    """Replace the listed linears of a model on the meta device, and give the checkpoint's entries for them.

    Weights that are plain in the checkpoint are quantised whenever they are read, one by one.

    Args:
        entries: under the model's names.
        format: "nvfp4" or "fp8".
        device: quantises what is plain.
        reference: the plain weights, to hold the first quantised layer against; None if they are not there.

    Raises:
        ValueError: the checkpoint is quantised in another format, or does not hold what it should.
    """
    stored, names, kind = format_of(entries), recipe.names(model), KINDS[format]
    if stored not in (None, format):
        raise ValueError(f"The checkpoint of the {recipe.what} is quantised in {stored}, not in {format}.")
    if stored is None:
        require_match(entries, model, recipe.what)
    layout = layout_of(entries)
    entries = dict(entries)
    for name in names:
        plain = model.get_submodule(name)
        shape = plain.weight.shape[0], plain.weight.shape[1]
        if layout and f"{name}.weight_scale" in entries:
            check_layout(layout, entries, name, shape)
            if reference and f"{name}.weight" in reference:
                check_against(layout, entries, name, reference[f"{name}.weight"][1]())
                reference = None
            ends = (layout.numbers, "weight_scale", layout.tensor_scale, *layout.unused)
            own = {f"{name}.{end}": entries.pop(f"{name}.{end}", None) for end in ends}
            entries |= _made_once(kind, name, shape, partial(_imported, layout, own, name, shape))
        elif f"{name}.weight_scale" not in entries and f"{name}.weight" in entries:
            read = entries.pop(f"{name}.weight")[1]
            entries |= _made_once(kind, name, shape, partial(_quantized, kind, read, shape, device))
        _replace(model, name, kind, shape, plain.bias is not None)
    return entries


def stored_dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    """The dtypes, by name, of tensors that make up quantised weights: they are what they are in memory too."""
    return {
        f"{name}.{end}": tensor.dtype
        for name, module in model.named_modules()
        if isinstance(module, QuantizedLinear)
        for end, tensor in module.named_parameters()
        if end != "bias"
    }


def _made_once(
    kind: type[QuantizedLinear], name: str, shape: tuple[int, int], make: Callable[[], dict[str, Tensor]]
) -> dict[str, Entry]:
    """Entries of a quantised weight (N, K): made when the first of them is asked for, forgotten when it was taken."""
    waiting: dict[str, Tensor] = {}

    def take(end: str) -> Tensor:
        if end not in waiting:
            waiting.update(make())
        return waiting.pop(end).cpu()

    tensors = kind.layout(shape[1], shape[0])
    return {f"{name}.{end}": (size, partial(take, end)) for end, (size, _) in tensors.items()}


def _quantized(
    kind: type[QuantizedLinear],
    read: Callable[[], Tensor],
    shape: tuple[int, int],
    device: torch.device | str,
) -> dict[str, Tensor]:
    return kind.quantized(read().detach().to(device).reshape(shape))


def _imported(
    layout: Layout, entries: Mapping[str, Entry], name: str, shape: tuple[int, int]
) -> dict[str, Tensor]:
    return NVFP4Linear.tensors(layout.read(entries, name, shape))


def _replace(
    model: nn.Module, name: str, kind: type[QuantizedLinear], shape: tuple[int, int], has_bias: bool
) -> None:
    parent, _, child = name.rpartition(".")
    with torch.device("meta"):
        setattr(model.get_submodule(parent), child, kind(shape[1], shape[0], has_bias))

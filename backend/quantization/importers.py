# SPDX-License-Identifier: GPL-3.0-or-later
"""Quantised checkpoints as others write them, read into the layout that the kernels take.

| | numbers | first of two in | block scales | tensor scale |
|---|---|---|---|---|
| ModelOpt, and ours | `weight` | the low four bits | row by row | `weight_scale_2`, multiplies |
| ComfyUI | `weight`, rows and columns padded to 16 | the high four bits | swizzled | `weight_scale_2`, multiplies |
| compressed-tensors | `weight_packed` | the low four bits | row by row | `weight_global_scale`, divides |

Nothing in a file says which of these it follows, but for its names, and a wrong one gives noise without an error.
So a layer is held against the plain weight where that is there.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels import nvfp4

from ..models.checkpoint import Entry

# A right weight is above, for 4 bits leave an error of a tenth; a wrong order of anything is far below.
_CORRELATION = 0.99
_FP8_MARK = ".weight_scale"


@dataclass(frozen=True)
class Layout:
    """How a file holds NVFP4 weights.

    Attributes:
        name: of the program that writes it.
        mark: the end of a tensor name that only such files have.
        numbers, tensor_scale: what it calls them.
        high_first: the first of two numbers is in the high four bits of a byte.
        swizzled: block scales are in the order of tensor cores.
        divides: the tensor scale is that of the encoder.
        unused: tensors beside a weight that are not needed; activations are scaled anew in every call.
    """

    name: str
    mark: str
    numbers: str
    tensor_scale: str
    high_first: bool
    swizzled: bool
    divides: bool
    unused: tuple[str, ...]

    def read(self, entries: Mapping[str, Entry], linear: str, shape: tuple[int, int]) -> nvfp4.Quantized:
        """A linear's weight; shape (N, K)."""
        rows, columns = shape
        packed, scales, scale = (
            entries[f"{linear}.{name}"][1]() for name in (self.numbers, "weight_scale", self.tensor_scale)
        )
        packed = packed[:rows, : columns // 2]
        if self.high_first:
            packed = packed << 4 | packed >> 4
        if not self.swizzled:
            scales = nvfp4.swizzle(scales[:rows, : columns // nvfp4.BLOCK])
        scale = scale.float().reshape(())
        return nvfp4.Quantized(packed.contiguous(), scales.flatten(), 1 / scale if self.divides else scale)

    def shapes(self, shape: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], ...]]:
        """The shapes that tensors of a weight (N, K) may have."""
        (rows, columns), blocks = shape, shape[1] // nvfp4.BLOCK
        padded = -(-rows // 128) * 128, -(-blocks // 4) * 4
        scales = (padded, (padded[0] * padded[1],)) if self.swizzled else ((rows, blocks),)
        return {
            self.numbers: ((rows, columns // 2),),
            "weight_scale": scales,
            self.tensor_scale: ((), (1,)),
        }


MODELOPT = Layout(
    "ModelOpt", ".weight_scale_2", "weight", "weight_scale_2", False, False, False, ("input_scale",)
)
COMFYUI = Layout(
    "ComfyUI", ".comfy_quant", "weight", "weight_scale_2", True, True, False, ("input_scale", "comfy_quant")
)
COMPRESSED_TENSORS = Layout(
    "compressed-tensors",
    ".weight_packed",
    "weight_packed",
    "weight_global_scale",
    False,
    False,
    True,
    ("input_global_scale",),
)


def format_of(names: Iterable[str]) -> str | None:
    """The format that a checkpoint is quantised in, by the names of its tensors; None if it is plain."""
    names = list(names)
    if layout_of(names):
        return "nvfp4"
    return "fp8" if any(name.endswith(_FP8_MARK) for name in names) else None


def layout_of(names: Iterable[str]) -> Layout | None:
    """Whose NVFP4 layout a checkpoint has, by the names of its tensors; None if it is not in NVFP4."""
    names = list(names)
    for layout in (COMFYUI, COMPRESSED_TENSORS, MODELOPT):
        if any(name.endswith(layout.mark) for name in names):
            return layout
    return None


def plain_shapes(entries: Mapping[str, Entry]) -> dict[str, tuple[int, ...]]:
    """The shapes that a checkpoint's tensors have where nothing is packed."""
    layout = layout_of(entries)
    if layout is None:
        return {name: shape for name, (shape, _) in entries.items()}
    shapes = {}
    for name, (shape, _) in entries.items():
        linear, _, last = name.rpartition(".")
        if last == layout.numbers and f"{linear}.weight_scale" in entries:
            shapes[f"{linear}.weight"] = (shape[0], 2 * shape[1])
        else:
            shapes[name] = shape
    return shapes


def check_layout(layout: Layout, entries: Mapping[str, Entry], linear: str, shape: tuple[int, int]) -> None:
    """
    Raises:
        ValueError: a tensor of a weight (N, K) is missing or of another shape, or it is quantised in a way that is
            not known.
    """
    if f"{linear}.pre_quant_scale" in entries:
        raise ValueError(
            f"{linear} was quantised together with a scale for its inputs (pre_quant_scale), which is not supported; "
            "quantise the plain weights with weights quantize."
        )
    if f"{linear}.comfy_quant" in entries:
        _check_comfy_quant(linear, entries[f"{linear}.comfy_quant"][1]())
    for name, allowed in layout.shapes(shape).items():
        found = entries.get(f"{linear}.{name}", (None, None))[0]
        if found not in allowed:
            raise ValueError(
                f"{linear}.{name} should be {' or '.join(map(str, allowed))} in a file of {layout.name}, and is "
                f"{'missing' if found is None else found}."
            )


def check_against(layout: Layout, entries: Mapping[str, Entry], linear: str, weight: Tensor) -> None:
    """Hold a linear, read as `layout` says, against its plain weight (N, K).

    Raises:
        ValueError: they do not agree; the sentence names the convention that the file does not follow.
    """
    if _agrees(layout, entries, linear, weight):
        return
    switches = {
        "high_first": "the order of two numbers in a byte",
        "swizzled": "the order of block scales",
        "divides": "the direction of the tensor scale",
    }
    for count in (1, 2, 3):
        for changed in itertools.combinations(switches, count):
            other = replace(layout, **{name: not getattr(layout, name) for name in changed})
            if _agrees(other, entries, linear, weight):
                raise ValueError(
                    f"The quantised file is not as {layout.name} writes it: {' and '.join(map(switches.get, changed))} "
                    f"of {linear} {'is' if count == 1 else 'are'} the other way round. Get another copy, or quantise "
                    "the plain weights with weights quantize."
                )
    raise ValueError(
        f"{linear} of the quantised file is not the plain weight in fewer bits, in any known layout; it is of other "
        "weights, or damaged. Quantise the plain weights with weights quantize."
    )


def _agrees(layout: Layout, entries: Mapping[str, Entry], linear: str, weight: Tensor) -> bool:
    plain = weight.float().flatten(1)
    try:
        got = nvfp4.dequantize(layout.read(entries, linear, tuple(plain.shape)))
    except RuntimeError:  # as many scales as the layout needs are not there
        return False
    if not torch.isfinite(got).all():
        return False
    correlation = (got * plain).sum() / (got.norm() * plain.norm())
    return bool(correlation > _CORRELATION and 0.9 < got.norm() / plain.norm() < 1.1)


def _check_comfy_quant(linear: str, settings: Tensor) -> None:
    try:
        record = json.loads(bytes(settings.tolist()))
        kind = record.get("format")
    except (ValueError, AttributeError):
        kind = None
    if kind != "nvfp4":
        raise ValueError(
            f"{linear} is in ComfyUI's format {kind or 'of an unreadable name'}; only nvfp4 is supported."
        )

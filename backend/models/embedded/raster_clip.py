# SPDX-License-Identifier: GPL-3.0-or-later
"""What the embedded network sees of a projected clip: the frames averaged down to its small raster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class RasterClip:
    """All images float32, one entry per frame; the frames of a clip or of a part of it.

    Attributes:
        base: (F, 3, h, w), projected frames with filled holes, sRGB 0..1.
        guide: (F, 3, h, w), the blockout in viewport colours, sRGB 0..1.
        visible: (F, 1, h, w), share of the pixel that the first frame shows.
        inverse_depth: (F, 1, h, w), 1/m, 0 in the sky.
        sky: (F, 1, h, w), share of sky.
        unit_m: the clip's length unit: the median depth of what the clip's first frame shows, 1 m if that is only
            sky; found here if the first entry is that frame. Depths and camera offsets enter the network in this
            unit, so a scene's scale does not matter.
    """

    base: Tensor
    guide: Tensor
    visible: Tensor
    inverse_depth: Tensor
    sky: Tensor
    unit_m: float | None = None

    def __post_init__(self) -> None:
        if self.unit_m is None:
            solid = self.inverse_depth[0][self.sky[0] < 0.5]
            object.__setattr__(self, "unit_m", float(1 / solid.median()) if len(solid) else 1.0)

    def __len__(self) -> int:
        return len(self.base)

    @property
    def nearness(self) -> Tensor:
        """(F, 1, h, w), 0 at infinity, 0.5 at `unit_m`, 1 at the lens."""
        scaled = self.inverse_depth * self.unit_m
        return scaled / (1 + scaled)

    def part(self, frames: slice) -> RasterClip:
        """Some of the frames, in the same unit."""
        images = (self.base, self.guide, self.visible, self.inverse_depth, self.sky)
        return RasterClip(*(image[frames] for image in images), self.unit_m)

    def to(self, device: torch.device | str) -> RasterClip:
        images = (self.base, self.guide, self.visible, self.inverse_depth, self.sky)
        return RasterClip(*(image.to(device) for image in images), self.unit_m)


class RasterClipBuilder:
    """Collects projected frames of any size, in their order; a frame may be forgotten after `add`.

    Args:
        size: (width, height) of the raster in pixels, multiples of 8.
        unit_m: the clip's, for frames that do not begin it.
    """

    def __init__(self, size: tuple[int, int], unit_m: float | None = None) -> None:
        self._size, self._unit_m = size, unit_m
        self._frames: list[tuple[Tensor, ...]] = []

    def add(
        self,
        base: np.ndarray,
        guide: np.ndarray,
        visible: np.ndarray,
        inverse_depth: np.ndarray,
        is_sky: np.ndarray,
    ) -> None:
        """base, guide (H, W, 3); visible, inverse_depth, is_sky (H, W); float32 or bool."""
        self._frames.append(
            tuple(self._reduced(image) for image in (base, guide, visible, inverse_depth, is_sky))
        )

    def build(self) -> RasterClip:
        """The clip of all frames added since the last call."""
        clip = RasterClip(*(torch.stack(images) for images in zip(*self._frames, strict=True)), self._unit_m)
        self._frames.clear()
        self._unit_m = clip.unit_m
        return clip

    def _reduced(self, image: np.ndarray) -> Tensor:
        values = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
        planes = values[None] if values.ndim == 2 else values.permute(2, 0, 1)
        width, height = self._size
        return functional.interpolate(planes[None], size=(height, width), mode="area")[0]

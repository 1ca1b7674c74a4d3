# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a clip lies in its camera's picture: it was cut from the middle, so it fits into the picture whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ACROSS, UP = 0, 1  # the axes of a region


@dataclass(frozen=True)
class Rectangle:
    """In pixels, from the lower left corner of a region or a picture."""

    left: float
    bottom: float
    right: float
    top: float

    def contains(self, x: float, y: float) -> bool:
        return self.left <= x <= self.right and self.bottom <= y <= self.top

    def share(self, axis: int, place: float) -> float:
        """Where a coordinate lies between the left and the right or the lower and the upper edge, 0..1."""
        low, high = self._extent(axis)
        return min(max((place - low) / max(high - low, 1e-6), 0.0), 1.0)

    def at(self, axis: int, share: float) -> float:
        """The coordinate at a share: `share` reversed."""
        low, high = self._extent(axis)
        return low + share * (high - low)

    def part(self, axis: int, share: float) -> Rectangle:
        """The left or the lower part."""
        end = self.at(axis, share)
        if axis == ACROSS:
            return Rectangle(self.left, self.bottom, end, self.top)
        return Rectangle(self.left, self.bottom, self.right, end)

    def corners(self) -> list[tuple[float, float]]:
        """From the lower left one, against the clock."""
        return [
            (self.left, self.bottom), (self.right, self.bottom), (self.right, self.top), (self.left, self.top),
        ]  # fmt: skip

    def _extent(self, axis: int) -> tuple[float, float]:
        return (self.left, self.right) if axis == ACROSS else (self.bottom, self.top)


WHOLE = Rectangle(0.0, 0.0, 1.0, 1.0)


def clip_area(size: tuple[float, float], clip_size: tuple[int, int]) -> Rectangle:
    """Where the clip lies in a picture of `size` pixels; Blender's FIT does the same."""
    scale = min(size[0] / clip_size[0], size[1] / clip_size[1])
    width, height = clip_size[0] * scale, clip_size[1] * scale
    left, bottom = (size[0] - width) / 2, (size[1] - height) / 2
    return Rectangle(left, bottom, left + width, bottom + height)


def clip_rectangle(corners: np.ndarray, clip_size: tuple[int, int]) -> Rectangle:
    """Where the clip lies in a region.

    Args:
        corners: (4, 2) of the camera's frame in the region, pixels.
    """
    (left, bottom), (right, top) = corners.min(0), corners.max(0)
    inner = clip_area((right - left, top - bottom), clip_size)
    return Rectangle(left + inner.left, bottom + inner.bottom, left + inner.right, bottom + inner.top)

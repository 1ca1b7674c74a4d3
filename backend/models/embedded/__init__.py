# SPDX-License-Identifier: GPL-3.0-or-later
"""The small model that ships with the extension: network, the raster it looks at, and how it films a shot."""

from .film import EmbeddedFilm, EmbeddedStudent
from .model import (
    EmbeddedConditioning,
    EmbeddedConfig,
    EmbeddedModel,
    camera_inputs,
    condition_channels,
    null_text,
    projection_size,
)
from .raster_clip import RasterClip, RasterClipBuilder

__all__ = [
    "EmbeddedConditioning",
    "EmbeddedConfig",
    "EmbeddedFilm",
    "EmbeddedModel",
    "EmbeddedStudent",
    "RasterClip",
    "RasterClipBuilder",
    "camera_inputs",
    "condition_channels",
    "null_text",
    "projection_size",
]

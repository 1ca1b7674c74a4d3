# SPDX-License-Identifier: GPL-3.0-or-later
"""The small model that ships with the extension, and the raster at which it looks at a projected clip."""

from .model import (
    EmbeddedConditioning,
    EmbeddedConfig,
    EmbeddedModel,
    camera_inputs,
    condition_channels,
    null_text,
    path_in_units,
    projection_size,
)
from .raster_clip import RasterClip, RasterClipBuilder
from .velocity import EmbeddedVelocity

__all__ = [
    "EmbeddedConditioning",
    "EmbeddedConfig",
    "EmbeddedModel",
    "EmbeddedVelocity",
    "RasterClip",
    "RasterClipBuilder",
    "camera_inputs",
    "condition_channels",
    "null_text",
    "path_in_units",
    "projection_size",
]

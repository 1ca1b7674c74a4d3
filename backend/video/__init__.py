# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames to a clip that plays while it grows."""

from .provenance import tags, versions
from .writer import ClipWriter, VideoError

__all__ = ["ClipWriter", "VideoError", "tags", "versions"]

# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames to a clip that plays while it grows, and back."""

from .provenance import tags, versions
from .reader import read_frames
from .writer import ClipWriter, VideoError

__all__ = ["ClipWriter", "VideoError", "read_frames", "tags", "versions"]

# SPDX-License-Identifier: GPL-3.0-or-later
"""Rays into the blockout, and the first frame seen from every pose of the camera path."""

from .projected import ProjectedFrame, Projection, project
from .unseen import hatched

__all__ = ["ProjectedFrame", "Projection", "hatched", "project"]

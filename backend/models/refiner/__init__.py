# SPDX-License-Identifier: GPL-3.0-or-later
"""After the codec: a small pixel filter, and the compositing of its result into the holes."""

from .composite import composite
from .pixel_filter import PixelFilter

__all__ = ["PixelFilter", "composite"]

# SPDX-License-Identifier: GPL-3.0-or-later
"""The second stage of SANA-WM: LTX-2's video stream, which gives the latents of stage 1 their detail."""

from .config import RefinerConfig
from .loading import load_refiner
from .run import RefinerRun
from .transformer import RefinerTransformer

__all__ = ["RefinerConfig", "RefinerRun", "RefinerTransformer", "load_refiner"]

# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 1 of SANA-WM: the camera-controlled video diffusion transformer."""

from .carry import Carry, CarryPlan
from .conditioning import BlockConditioning, Conditioning
from .config import Stage1Config
from .loading import load
from .transformer import Stage1Transformer

__all__ = [
    "BlockConditioning",
    "Carry",
    "CarryPlan",
    "Conditioning",
    "Stage1Config",
    "Stage1Transformer",
    "load",
]

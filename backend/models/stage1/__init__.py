# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 1 of SANA-WM: the camera-controlled video diffusion transformer."""

from .config import Stage1Config
from .loading import load
from .transformer import Conditioning, Stage1Transformer

__all__ = ["Conditioning", "Stage1Config", "Stage1Transformer", "load"]

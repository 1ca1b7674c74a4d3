# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the clip follow its camera? Measured against the blockout, in degrees and metres."""

from .match import match_camera
from .paper import PaperErrors, paper_errors

__all__ = ["PaperErrors", "match_camera", "paper_errors"]

# SPDX-License-Identifier: GPL-3.0-or-later
"""How a verdict looks and what it is called, wherever one is shown; and the match that a job's folder holds."""

from __future__ import annotations

from ..backend.protocol import CameraMatch, JobFolder
from .clip_records import clip_of

# Okabe and Ito's colours, which the colour-blind tell apart as well; sRGB 0..1.
COLOURS = {
    "good": (0.0, 0.62, 0.45, 1.0),
    "look": (0.94, 0.89, 0.26, 1.0),
    "bad": (0.84, 0.37, 0.0, 1.0),
    "unmeasured": (0.5, 0.5, 0.5, 1.0),
}
ICONS = {"good": "CHECKMARK", "look": "INFO", "bad": "ERROR", "unmeasured": "QUESTION"}
WORDS = {
    "good": "Follows the camera",
    "look": "Look at it",
    "bad": "Does not follow the camera",
    "unmeasured": "Not measured",
}


def sentence(match: CameraMatch) -> str:
    """The word, and in the same breath what it rests on."""
    word, reason = WORDS[match.verdict()], match.in_words()
    return reason if reason.startswith(word) else f"{word}. {reason}"


def match_of(job: JobFolder) -> CameraMatch | None:
    """The camera match beside a clip; None if there is no clip, or it was made before matches were measured."""
    clip = clip_of(job)
    return clip.match if clip else None

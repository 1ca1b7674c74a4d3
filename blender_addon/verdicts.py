# SPDX-License-Identifier: GPL-3.0-or-later
"""How a verdict looks and what it is called, wherever one is shown; and the match that a job's folder holds."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ..backend.protocol import CameraMatch, Clip, JobFolder, ProtocolError

# Okabe and Ito's colours, which the colour-blind tell apart as well; sRGB 0..1.
COLOURS = {
    "good": (0.0, 0.62, 0.45, 1.0),
    "look": (0.90, 0.62, 0.0, 1.0),
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


def match_of(job: JobFolder) -> CameraMatch | None:
    """The camera match beside a clip; None if there is no clip, or it was made before matches were measured."""
    try:
        changed_ns = job.clip_json.stat().st_mtime_ns
    except OSError:
        return None
    return _read(job.clip_json, changed_ns)


@lru_cache(maxsize=256)
def _read(clip_json: Path, _changed_ns: int) -> CameraMatch | None:
    """Read once for every state of the file: panels and bands ask with each redraw."""
    try:
        return Clip.load(clip_json).match
    except (ProtocolError, OSError):
        return None

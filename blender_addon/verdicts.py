# SPDX-License-Identifier: GPL-3.0-or-later
"""How a verdict looks and what it is called, wherever one is shown; and the match that a job's folder holds."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ..backend.protocol import CameraMatch, Clip, JobFolder, ProtocolError
from ..backend.protocol.camera_match import Verdict

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
    return _read(job.clip_json, _changed_ns(job))[0]


def seconds_of(job: JobFolder) -> list[Verdict]:
    """The verdict of every second of a clip; empty if nothing was measured."""
    return _read(job.clip_json, _changed_ns(job))[1]


def _changed_ns(job: JobFolder) -> int:
    try:
        return job.clip_json.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=256)
def _read(clip_json: Path, _changed_ns: int) -> tuple[CameraMatch | None, list[Verdict]]:
    """Read and graded once for every state of the file: panels and bands ask with each redraw."""
    try:
        match = Clip.load(clip_json).match
    except (ProtocolError, OSError):
        match = None
    return match, match.per_second() if match else []

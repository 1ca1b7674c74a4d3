# SPDX-License-Identifier: GPL-3.0-or-later
"""A long clip ten seconds at a time: one average over a minute would hide where it goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...backend.protocol import FPS, CameraMatch
from ...backend.protocol.camera_match import Verdict, worst

STRETCH_S = 10


@dataclass(frozen=True)
class Stretch:
    """The worst of some seconds of a clip; a value is None where the camera was lost all the time."""

    start_s: int
    heading_deg: float | None
    position_m: float | None
    slide_px: float | None
    verdict: Verdict

    def in_words(self) -> str:
        if self.heading_deg is None:
            return "The camera cannot be told"
        numbers = [f"{self.heading_deg:.1f}°"]
        if self.position_m is not None:
            numbers.append(f"{self.position_m:.2f} m")
        if self.slide_px is not None:
            numbers.append(f"{self.slide_px:.0f} px")
        return "   ".join(numbers)


def stretches(match: CameraMatch, grades: Sequence[Verdict]) -> list[Stretch]:
    """Every ten seconds of a clip; the last stretch may be shorter.

    Args:
        grades: of every second of the clip.
    """
    found = []
    for start in range(0, len(grades), STRETCH_S):
        end = min(start + STRETCH_S, len(grades))
        frames = slice(start * FPS, end * FPS)
        worst_of = (
            max((value for value in numbers[frames] if value is not None), default=None)
            for numbers in (match.heading_deg, match.position_scaled_m, match.slide_px)
        )
        found.append(Stretch(start, *worst_of, worst(grades[start:end])))
    return found

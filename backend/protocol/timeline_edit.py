# SPDX-License-Identifier: GPL-3.0-or-later
"""Shots in their places on a timeline: what OTIO and EDL files hold."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .errors import ProtocolError
from .shot_list import ShotRow


@dataclass(frozen=True)
class Placed:
    """A shot that begins `start` frames after the timeline does and lasts as long as its range."""

    row: ShotRow
    start: int

    @property
    def duration(self) -> int:
        """Frames of the shot."""
        return self.row.frame_end - self.row.frame_start + 1

    @property
    def end(self) -> int:
        """The first frame after it."""
        return self.start + self.duration


@dataclass(frozen=True)
class Edit:
    """One track of shots.

    Attributes:
        name: free text.
        fps: frames per second of the timeline and of every range, such as 24000 / 1001.
        shots: in the order of time; none begins before the one before it has ended.
    """

    name: str
    fps: float
    shots: tuple[Placed, ...]

    def __post_init__(self) -> None:
        if not 0 < self.fps < 1000:
            raise ProtocolError(f"The timeline's frame rate must be positive, not {self.fps:g}.")
        end, before = 0, "the timeline's beginning"
        for shot in self.shots:
            if shot.start < end:
                raise ProtocolError(
                    f"The shot {shot.row.code} begins before {before}; one track cannot hold both, "
                    "so place the shots one after another."
                )
            end, before = shot.end, f"the end of {shot.row.code}"

    @classmethod
    def one_after_another(cls, name: str, fps: float, rows: Iterable[ShotRow]) -> Edit:
        """The shots in the list's order, without gaps; ProtocolError if one has no range."""
        shots, end = [], 0
        for row in _with_ranges(rows):
            shots.append(Placed(row, end))
            end = shots[-1].end
        return cls(name, fps, tuple(shots))

    @classmethod
    def as_filmed(cls, name: str, fps: float, rows: Iterable[ShotRow]) -> Edit:
        """Every shot at its own scene frames, the earliest at the beginning.

        Raises:
            ProtocolError: a shot has no range, or two overlap.
        """
        rows = sorted(_with_ranges(rows), key=lambda row: row.frame_start)
        return cls(name, fps, tuple(Placed(row, row.frame_start - rows[0].frame_start) for row in rows))


def _with_ranges(rows: Iterable[ShotRow]) -> list[ShotRow]:
    rows = list(rows)
    for row in rows:
        if row.frame_start is None:
            raise ProtocolError(f"The shot {row.code} has no frame range, so it has no length on a timeline.")
    return rows


def row_for_cut(label: str, taken: Collection[str], start: int, duration: int, first_frame: int) -> ShotRow:
    """A shot for a cut that another program made: the scene's frames are the timeline's from `first_frame` on.

    The label becomes the name, and the code too, with what a code cannot hold replaced and a number appended
    if it is among those `taken`.
    """
    base = code = re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_") or "shot"
    number = 1
    while code in taken:
        number += 1
        code = f"{base}_{number}"
    frame_start = first_frame + start
    return ShotRow(code, label, frame_start=frame_start, frame_end=frame_start + duration - 1)

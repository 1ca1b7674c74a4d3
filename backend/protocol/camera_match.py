# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the clip follow its camera? What was measured, and what a person should think of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np

from .camera_path import FPS
from .errors import ProtocolError
from .records import from_record

Verdict = Literal["good", "look", "bad", "unmeasured"]
# From best to worst; what could not be measured says nothing about the clip.
SEVERITY: tuple[Verdict, ...] = ("unmeasured", "good", "look", "bad")

# (good up to, worth a look up to); beyond that it is bad.
HEADING_DEG = (1.0, 4.0)
MOVES_OFF = (0.05, 0.15)
POSITION_OF_PATH = (0.02, 0.08)
LAG_S = (0.1, 0.3)
SLIDE_PX = (5.0, 25.0)
SOFTER = (0.10, 0.30)
LENS_OFF = (0.03, 0.08)
KEPT_LEAST = 0.3
# Below this share of the asked motion the picture stands still.
STILL_BELOW = 0.1


@dataclass(frozen=True)
class Judged:
    """One number as a person reads it: "Heading", "off by up to 3.1° at 0:05", "look"; and its moment if it has one."""

    name: str
    words: str
    verdict: Verdict
    at_s: float | None = None


@dataclass(frozen=True)
class CameraMatch:
    """How the camera that the clip shows differs from the camera that was asked for.

    Lists have one entry per delivered frame; an entry is None where tracking was lost. Heading, position and slide
    compare with the planned camera after the lag is taken out. A value of None says that it could not be measured.

    Attributes:
        unmeasured: why nothing could be measured, in a sentence; empty if it was.
        path_length_m: length of the planned path over the clip.
        resolution_m: the camera's place is not told more exactly than this: so large a shift moves the picture by two
            pixels of what is tracked. An error below it is judged good.
        lag_s: how late the clip is; negative if it is early. None if the camera, planned or seen, stands still.
        path_scale: 1.0 moves the full way, 0.9 falls short by a tenth. None if the path hardly moves.
        turn_scale: the same for turning. None if the camera hardly turns.
        focal_scale: measured focal length / planned one; above 1 the picture is narrower. None if it cannot be told.
        heading_deg: angle between the camera that is seen and the planned one.
        position_m: distance between the two, as it is: a path of another scale is far off in the end.
        position_scaled_m: distance to the planned path drawn at `path_scale`, which is reported beside it.
        slide_px: how far the set has slid in the picture: median over tracked points, in pixels of 1080 lines.
        kept: share of the points seeded on the blockout that still fit it within 2 pixels; 0 where it is lost.
        sharpness: fine detail of the picture relative to the first second of the clip.
        revisit_db: PSNR between frames where the path comes back to the same view. None if it never does.
        matches_until_s: until then the picture shows the blockout; the clip's duration if it does to the end.
        lost_from_s: from then on the camera cannot be told any more. None if it always can.
        softer: share of its sharpness that the clip loses from its first to its last 10 s (thirds if shorter).
        estimated: rows of the (3, 4) camera to world of every frame, 12 numbers; axes and metres as in CameraPath.
    """

    unmeasured: str = ""
    path_length_m: float = 0.0
    resolution_m: float = 0.0
    lag_s: float | None = None
    path_scale: float | None = None
    turn_scale: float | None = None
    focal_scale: float | None = None
    heading_deg: list[float | None] = field(default_factory=list)
    position_m: list[float | None] = field(default_factory=list)
    position_scaled_m: list[float | None] = field(default_factory=list)
    slide_px: list[float | None] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    sharpness: list[float | None] = field(default_factory=list)
    revisit_db: float | None = None
    matches_until_s: float | None = None
    lost_from_s: float | None = None
    softer: float | None = None
    estimated: list[list[float] | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        frames = len(self.heading_deg)
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "unmeasured":
                continue
            if not item.type.startswith("list"):
                well_formed = _is_number(value) or (value is None and "None" in item.type)
            elif item.name == "estimated":
                well_formed = isinstance(value, list) and all(
                    row is None or (isinstance(row, list) and len(row) == 12 and all(map(_is_number, row)))
                    for row in value
                )
            else:
                well_formed = isinstance(value, list) and all(v is None or _is_number(v) for v in value)
            if not well_formed or (isinstance(value, list) and len(value) != frames):
                raise ProtocolError(f"The camera match's {item.name} is damaged; measure the clip again.")

    @property
    def frame_count(self) -> int:
        return len(self.heading_deg)

    @property
    def duration_s(self) -> float:
        """From the first frame to the end of the last."""
        return self.frame_count / FPS

    @property
    def estimated_c2w(self) -> np.ndarray:
        """(F, 4, 4) float64, camera to world of every delivered frame; nan where tracking was lost."""
        c2w = np.full((self.frame_count, 4, 4), np.nan)
        for frame, rows in enumerate(self.estimated):
            if rows is not None:
                c2w[frame] = np.vstack([np.reshape(rows, (3, 4)), [0, 0, 0, 1]])
        return c2w

    def judged(self) -> list[Judged]:
        """Every number that was measured, in words and with its verdict."""
        return [] if self.unmeasured else list(self._judged())

    def verdict(self) -> Verdict:
        """The worst of all numbers."""
        return worst(number.verdict for number in self.judged())

    def per_second(self) -> list[Verdict]:
        """One verdict per second of the clip, the last of which may be shorter; empty if nothing was measured."""
        if self.unmeasured:
            return []
        frames = [self._frame_verdict(frame) for frame in range(self.frame_count)]
        return [worst(frames[start : start + FPS]) for start in range(0, self.frame_count, FPS)]

    def in_words(self) -> str:
        """One short sentence."""
        if self.unmeasured:
            return f"Not measured: {self.unmeasured}"
        if self.stands_still():
            return "Does not follow the camera: the picture stands still."
        verdict = self.verdict()
        if verdict == "good":
            parts = [f"heading within {max(0.1, *_known(self.heading_deg)):.1f}°"]
            if self.path_scale is not None:
                parts.append(f"moves at {self.path_scale:.0%}".replace("%", " %"))
            return f"Follows the camera: {', '.join(parts)}."
        off = [number for number in self.judged() if number.verdict in ("look", "bad")]
        # That the set slides is what the other numbers lead to.
        causes = [number for number in off if number.name != "Set"] or off
        start = "Does not follow the camera" if verdict == "bad" else "Nearly follows the camera"
        return f"{start}: {'; '.join(f'{number.name.lower()} {number.words}' for number in causes[:2])}."

    def stands_still(self) -> bool:
        """Whether the picture hardly moves although the camera was to."""
        asked = [scale for scale in (self.path_scale, self.turn_scale) if scale is not None]
        return bool(asked) and max(asked) < STILL_BELOW

    def to_record(self) -> dict[str, Any]:
        """A JSON object that `from_record` turns into an equal match."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Any) -> CameraMatch:
        """The inverse of `to_record`.

        Raises:
            ProtocolError: entries unknown or of the wrong type, or lists of different lengths.
        """
        return from_record(cls, record, "The camera match")

    def _judged(self) -> Iterator[Judged]:
        if self.lost_from_s is not None:
            yield Judged(
                "Camera", f"cannot be told from {clock(self.lost_from_s)} on", "bad", self.lost_from_s
            )
        elif None in self.heading_deg:
            lost_s = self.heading_deg.count(None) / FPS
            yield Judged("Camera", f"cannot be told for {lost_s:.1f} s", "look")
        if self.lag_s is not None:
            late = f"{'late' if self.lag_s > 0 else 'early'} by {abs(self.lag_s):.2f} s"
            on_time = abs(self.lag_s) < 0.005
            yield Judged("Timing", "on time" if on_time else late, grade(abs(self.lag_s), LAG_S))
        if self.path_scale is not None:
            words = f"at {100 * self.path_scale:.0f} % of the path"
            yield Judged("Moves", words, self._grade_share(abs(self.path_scale - 1), MOVES_OFF))
        heading, at = _worst(self.heading_deg)
        if heading is not None:
            words = f"off by up to {heading:.1f}° at {clock(at)}"
            yield Judged("Heading", words, grade(heading, HEADING_DEG), at)
        position, at = _worst(self.position_scaled_m)
        if position is not None and self.path_scale is not None:
            share = position / self.path_length_m
            words = f"off by up to {position:.2f} m ({100 * share:.1f} % of the path) at {clock(at)}"
            yield Judged("Position", words, self._grade_share(share, POSITION_OF_PATH), at)
        slide, at = _worst(self.slide_px)
        if slide is not None:
            yield Judged("Set", f"slid by up to {slide:.0f} px at {clock(at)}", grade(slide, SLIDE_PX), at)
        if self.focal_scale is not None:
            off = abs(self.focal_scale - 1)
            words = f"{100 * off:.0f} % {'narrower' if self.focal_scale > 1 else 'wider'} than asked"
            yield Judged("Lens", words if off >= 0.005 else "as asked", grade(off, LENS_OFF))
        if self.matches_until_s is not None:
            whole = self.matches_until_s >= self.duration_s - 1e-3
            words = "matches the whole clip" if whole else f"matches until {clock(self.matches_until_s)}"
            until = None if whole else self.matches_until_s
            yield Judged("Blockout", words, "good" if whole else "bad", until)
        if self.softer is not None:
            words = f"softer by {100 * self.softer:.0f} %" if self.softer > 0 else "as sharp as at the start"
            yield Judged("Picture", words, grade(self.softer, SOFTER))

    def _frame_verdict(self, frame: int) -> Verdict:
        if self.heading_deg[frame] is None:
            return "look" if self.lost_from_s is None or frame < self.lost_from_s * FPS else "bad"
        if self.kept[frame] < KEPT_LEAST:
            return "bad"
        verdicts = [grade(self.heading_deg[frame], HEADING_DEG)]
        if self.slide_px[frame] is not None:
            verdicts.append(grade(self.slide_px[frame], SLIDE_PX))
        if self.path_scale is not None and self.position_scaled_m[frame] is not None:
            share = self.position_scaled_m[frame] / self.path_length_m
            verdicts.append(self._grade_share(share, POSITION_OF_PATH))
        return worst(verdicts)

    def _grade_share(self, share: float, limits: tuple[float, float]) -> Verdict:
        """As `grade`, of a share of the path; what is too small to be told is good."""
        return "good" if share * self.path_length_m <= self.resolution_m else grade(share, limits)


def grade(value: float, limits: tuple[float, float]) -> Verdict:
    """Good up to the first limit, worth a look up to the second, then bad."""
    return "good" if value <= limits[0] else "look" if value <= limits[1] else "bad"


def worst(verdicts: Any) -> Verdict:
    """The worst of some verdicts; "unmeasured" if there is none."""
    return max(verdicts, key=SEVERITY.index, default="unmeasured")


def clock(seconds: float) -> str:
    """Minutes and seconds: 0:05."""
    return f"{math.floor(seconds) // 60}:{math.floor(seconds) % 60:02d}"


def _known(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _worst(values: list[float | None]) -> tuple[float | None, float]:
    """The largest value and its time in seconds."""
    known = [(value, frame) for frame, value in enumerate(values) if value is not None]
    if not known:
        return None, 0.0
    value, frame = max(known)
    return value, frame / FPS


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

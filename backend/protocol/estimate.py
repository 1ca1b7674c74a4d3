# SPDX-License-Identifier: GPL-3.0-or-later
"""About how long a clip will take and how much memory, before it is made.

A finished clip of one's own machine says best how long the next one takes. Where there is none, figures of the
embedded model stand in, measured with `backend.worker.run_job` on one thread of an AVX2 server processor that had other
work besides, each job in a process of its own. CPU seconds, and peak resident memory:

    Final 640x352       49 frames   19.4 s   445 MB        Draft 640x352      49 frames   29.8 s   563 MB
    Final 1280x704      49 frames   66.9 s   778 MB        Draft 1280x704     49 frames   87.9 s   904 MB
    Preview 320x192    145 frames   14.8 s   353 MB        Teacher 640x352    97 frames   54.6 s   691 MB

The lines below go through them to within a tenth. Other models were not measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .clip import Clip
from .preset import Preset

_MEASURED_MODEL = "embedded"
# Seconds for each frame, and more for each of its pixels; without the network less.
_FRAME_S, _PIXEL_S = 0.21, 1.75e-6
_PLAIN_PIXEL_S = 1.62e-6
# Memory of the process with its libraries, and more for each pixel of a frame, of which a few chunks are held.
_BASE_MB, _PIXEL_MB = 365.0, 5.8e-4
# What streaming keeps instead of the whole clip, which the other variants keep small and grow with.
_CARRY_MB, _FRAME_MB = 100.0, 1.9
_PLAIN_BASE_MB = 290.0


@dataclass(frozen=True)
class Estimate:
    """What a clip is likely to need.

    Attributes:
        seconds: of making it; None if nobody has measured its preset.
        memory_mb: of main memory at the peak; None as above.
        is_own: the time is scaled from a clip that was made here, else from our measurement on one CPU core.
    """

    seconds: float | None
    memory_mb: float | None
    is_own: bool = False


def estimate(preset: Preset, frames: int, finished: Iterable[Clip]) -> Estimate:
    """What a clip of so many frames is likely to need.

    Args:
        finished: clips that were made here, the newest first.
    """
    measured = _measured(preset, frames)
    for clip in finished:
        took_s = sum(clip.duration_s.values())
        if took_s and clip.frame_count and clip.preset.get("name") == preset.name:
            return replace(measured, seconds=took_s * frames / clip.frame_count, is_own=True)
    return measured


def _measured(preset: Preset, frames: int) -> Estimate:
    if preset.model != _MEASURED_MODEL:
        return Estimate(None, None)
    pixels = preset.image_size[0] * preset.image_size[1]
    if not preset.network_blend:
        return Estimate(frames * pixels * _PLAIN_PIXEL_S, _PLAIN_BASE_MB + pixels * _PIXEL_MB)
    kept_mb = _CARRY_MB if preset.variant == "streaming" else frames * _FRAME_MB
    return Estimate(frames * (_FRAME_S + pixels * _PIXEL_S), _BASE_MB + pixels * _PIXEL_MB + kept_mb)

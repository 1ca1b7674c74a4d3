# SPDX-License-Identifier: GPL-3.0-or-later
"""About how long a clip will take and how much memory, before it is made.

Figures were measured on one thread of an AVX2 server processor with `backend.worker.run_job`, models warm: CPU seconds
of 49 frames at 640x352 and 1280x704 and of 73 at 320x192, and the peak of resident memory of a process that ran only
this job. A line over the pixels of a frame goes through them. A finished clip of one's own machine is worth more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .clip import Clip
from .preset import Preset

# Seconds for each frame, and more for each pixel of it.
_FRAME_S, _PIXEL_S = 0.10, 1.85e-6
# Without the network, which the preview leaves out.
_PREVIEW_FRAME_S, _PREVIEW_PIXEL_S = 0.02, 1.2e-6
# Peak memory of the process, and more for each pixel of a frame; only a few chunks of frames are held at a time.
_MEMORY_MB, _PIXEL_MB = 400.0, 9.0e-4
_MEASURED_MODEL = "embedded"


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
    pixels = preset.image_size[0] * preset.image_size[1]
    memory_mb = _MEMORY_MB + pixels * _PIXEL_MB if preset.model == _MEASURED_MODEL else None
    for clip in finished:
        took_s = sum(clip.duration_s.values())
        if took_s and clip.frame_count and clip.preset.get("name") == preset.name:
            return Estimate(took_s * frames / clip.frame_count, memory_mb, is_own=True)
    if preset.model != _MEASURED_MODEL:
        return Estimate(None, None)
    frame_s, pixel_s = (_FRAME_S, _PIXEL_S) if preset.network_blend else (_PREVIEW_FRAME_S, _PREVIEW_PIXEL_S)
    return Estimate(frames * (frame_s + pixels * pixel_s), memory_mb)

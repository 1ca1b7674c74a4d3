# SPDX-License-Identifier: GPL-3.0-or-later
"""What a shot will cost in time and memory, from the clips of the open file or from measurements."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ..backend.protocol import Clip, ProtocolError
from ..backend.protocol.estimate import estimate
from . import session, shots
from .properties import SANAWM_PG_shot, presets


def in_words(settings: SANAWM_PG_shot) -> str:
    """A sentence; empty if the shot's length does not fit its preset, which the panel says elsewhere."""
    preset = presets().get(settings.preset)
    try:
        frames = shots.sample_count(settings, preset) if preset else 0
    except ProtocolError:
        frames = 0
    if not frames:
        return ""
    expected = estimate(preset, frames, _finished_clips())
    if expected.seconds is None:
        return f"Nobody has measured the preset {preset.name} yet: time and memory are unknown."
    needs = f"Takes {_time_in_words(expected.seconds)}"
    if expected.memory_mb is not None:
        needs += f" and {expected.memory_mb / 1000:.1f} GB of memory"
    origin = "as your last clip with this preset" if expected.is_own else "measured on one CPU core"
    return f"{needs} ({origin})."


def _time_in_words(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds / 5) * 5)} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def _finished_clips() -> list[Clip]:
    done = [job for job in session.supervisor.jobs.values() if job.is_done]
    clips = []
    for job in sorted(done, key=lambda job: -job.record.submitted):
        try:
            clips.append(_clip(job.folder.clip_json, job.folder.clip_json.stat().st_mtime_ns))
        except (OSError, ProtocolError):
            continue
    return clips


@lru_cache(maxsize=256)
def _clip(clip_json: Path, _changed_ns: int) -> Clip:
    """Read once for every state of the file: the panel asks with each redraw."""
    return Clip.load(clip_json)

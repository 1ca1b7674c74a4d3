# SPDX-License-Identifier: GPL-3.0-or-later
"""What a shot will cost in time and memory, from the clips of the open file or from measurements."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ..backend.protocol import Clip, ProtocolError
from ..backend.protocol.estimate import Estimate, estimate
from . import session, shots
from .properties import SANAWM_PG_shot, presets


def expected(settings: SANAWM_PG_shot) -> Estimate | None:
    """Of the clip of a shot; None if the shot's length does not fit its preset, which the panel says elsewhere."""
    preset = presets().get(settings.preset)
    try:
        return estimate(preset, shots.sample_count(settings, preset), _finished_clips()) if preset else None
    except ProtocolError:
        return None


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

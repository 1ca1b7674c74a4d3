# SPDX-License-Identifier: GPL-3.0-or-later
"""What a shot will cost in time and memory, from the clips of the open file or from measurements."""

from __future__ import annotations

from ..backend.protocol import Clip, ProtocolError
from ..backend.protocol.estimate import Estimate, estimate
from . import session, shots
from .clip_records import clip_of
from .properties import SANAWM_PG_shot, presets


def expected(settings: SANAWM_PG_shot) -> Estimate | None:
    """Of the clip of a shot; None if the shot's length does not fit its preset, which the panel says elsewhere."""
    preset = presets().get(settings.preset)
    try:
        return estimate(preset, shots.sample_count(settings, preset), _finished_clips()) if preset else None
    except ProtocolError:
        return None


def _finished_clips() -> list[Clip]:
    """The newest first."""
    done = [job for job in session.supervisor.jobs.values() if job.is_done]
    newest_first = sorted(done, key=lambda job: -job.record.submitted)
    return [clip for job in newest_first if (clip := clip_of(job.folder))]

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a shot will cost in time and memory, from the clips of the open file or from measurements."""

from __future__ import annotations

from ..backend.protocol import Clip, ProtocolError
from ..backend.protocol.estimate import Estimate, estimate
from ..backend.protocol.main_memory import available_gb
from ..backend.protocol.memory_plan import Budget, MemoryPlan, plan
from . import paths, session, shots
from .backend_process import find_backend
from .clip_records import clip_of
from .properties import SANAWM_PG_shot, presets


def expected(settings: SANAWM_PG_shot) -> Estimate | None:
    """Of the clip of a shot; None if the shot's length does not fit its preset, which the panel says elsewhere."""
    preset = presets().get(settings.preset)
    try:
        return estimate(preset, shots.sample_count(settings, preset), _finished_clips()) if preset else None
    except ProtocolError:
        return None


def planned(settings: SANAWM_PG_shot) -> MemoryPlan | None:
    """How the released model would be laid out in this machine's memory; None for the embedded one.

    The worker looks again at what is free when the job's turn comes.

    Raises:
        ProtocolError: it does not fit, the backend is not set up, or the range does not fit the preset.
    """
    preset = presets().get(settings.preset)
    if preset is None or preset.model == "embedded":
        return None
    return plan(preset, shots.sample_count(settings, preset), budget())


def budget() -> Budget:
    """The memory of what the backend computes on: all of a graphics card's, what is free of main memory.

    Raises:
        ProtocolError: the backend is not set up.
    """
    gpu = find_backend(paths.backend_folder()).gpu
    free = available_gb()
    return Budget(free, free, is_cpu=True) if gpu is None else Budget(gpu[1], free, gpu[0])


def _finished_clips() -> list[Clip]:
    """The newest first."""
    done = [job for job in session.supervisor.jobs.values() if job.is_done]
    newest_first = sorted(done, key=lambda job: -job.record.submitted)
    return [clip for job in newest_first if (clip := clip_of(job.folder))]

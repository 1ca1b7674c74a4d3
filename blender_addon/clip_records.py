# SPDX-License-Identifier: GPL-3.0-or-later
"""The records of finished clips, read once for every state of their files: panels ask with each redraw."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ..backend.protocol import Clip, JobFolder, ProtocolError
from ..backend.protocol.camera_match import Verdict


def clip_of(job: JobFolder) -> Clip | None:
    """The record beside a job's clip; None if there is none, or it is damaged."""
    return _read(job.clip_json, _changed_ns(job))[0]


def seconds_of(job: JobFolder) -> list[Verdict]:
    """The verdict of every second of a job's clip; empty if nothing was measured."""
    return _read(job.clip_json, _changed_ns(job))[1]


def _changed_ns(job: JobFolder) -> int:
    try:
        return job.clip_json.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=256)
def _read(clip_json: Path, _changed_ns: int) -> tuple[Clip | None, list[Verdict]]:
    try:
        clip = Clip.load(clip_json)
    except (ProtocolError, OSError):
        return None, []
    return clip, clip.match.per_second() if clip.match else []

# SPDX-License-Identifier: GPL-3.0-or-later
"""A job as Blender follows it: what its folder says, and whether its clip was placed. No bpy here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..backend.protocol import ENDED, EventReader, JobFolder, JobState, StateRecord


@dataclass
class FollowedJob:
    """What the panel shows of a job.

    Attributes:
        request_id: what the scene remembers it by.
        scene: what Blender knows the scene by until another file is loaded, whatever its name; None if the
            file has it no longer.
        scene_name: its name when it asked.
        record: the content of state.json; None if it was exported and never queued.
        stage, step, steps, seconds_left: the last progress event.
        warnings: what the worker warned of.
        is_settled: the clip was placed, now or in an earlier session, or never can be.
        trouble: why the clip could not be placed, in a sentence.
    """

    folder: JobFolder
    request_id: str
    scene: int | None
    scene_name: str
    record: StateRecord | None
    events: EventReader
    stage: str = ""
    step: int = 0
    steps: int = 0
    seconds_left: float | None = None
    warnings: list[str] = field(default_factory=list)
    is_settled: bool = False
    trouble: str = ""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def jobs_root(self) -> Path:
        return self.folder.path.parent

    @property
    def is_active(self) -> bool:
        """Queued, loading or running."""
        return self.record is not None and self.record.state not in ENDED

    @property
    def is_queued(self) -> bool:
        return self.record is not None and self.record.state == JobState.QUEUED

    @property
    def is_done(self) -> bool:
        return self.record is not None and self.record.state == JobState.DONE

    @property
    def is_placed(self) -> bool:
        return self.is_done and self.is_settled and not self.trouble

    @property
    def has_lost_its_worker(self) -> bool:
        """Loading or running, but the process that had it is dead."""
        return self.is_active and not self.is_queued and not self.folder.lock.is_held()

    def fraction(self, now_s: float) -> float:
        """Share of the whole job that is over at `now_s` (seconds since the epoch), 0..1."""
        if self.record is None or self.record.state in (JobState.QUEUED, JobState.LOADING):
            return 0.0
        if self.seconds_left is not None:
            passed = max(0.0, now_s - self.record.since)
            return passed / max(passed + self.seconds_left, 1e-3)
        return self.step / self.steps if self.steps else 0.0

    def take_events(self) -> bool:
        """Read what the worker reported since the last call; whether there was anything."""
        changed = False
        for event in self.events.poll():
            changed = True
            if event["kind"] == "progress":
                self.stage = str(event.get("stage", ""))
                self.step, self.steps = int(event.get("step") or 0), int(event.get("steps") or 0)
                self.seconds_left = event.get("seconds_left")
            elif event["kind"] == "warning" and event.get("message") not in self.warnings:
                self.warnings.append(str(event.get("message")))
        return changed

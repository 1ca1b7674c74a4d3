# SPDX-License-Identifier: GPL-3.0-or-later
"""A job as Blender follows it: what its folder says, and whether its clip was placed. No bpy here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..backend.protocol import ENDED, CameraPath, EventReader, JobFolder, JobState, ProtocolError, StateRecord


@dataclass
class FollowedJob:
    """What the panel shows of a job.

    Attributes:
        shot_code: of the shot that it makes.
        request_id: what the scene remembers it by.
        scene: what Blender knows the scene by until another file is loaded, whatever its name; None if the
            file has it no longer.
        scene_name: its name when it asked.
        record: the content of state.json; None if it was exported and never queued.
        stage, step, steps, seconds_left: the last progress event of the worker that has the job.
        frames_made: frames that the growing clip holds.
        frames_in_all: frames of the whole clip; 0 until some are made.
        warnings: what the worker warned of.
        is_settled: the clip was placed, now or in an earlier session, or never can be.
        trouble: why the clip could not be placed, in a sentence.
    """

    folder: JobFolder
    shot_code: str
    request_id: str
    scene: int | None
    scene_name: str
    record: StateRecord | None
    events: EventReader
    stage: str = ""
    step: int = 0
    steps: int = 0
    seconds_left: float | None = None
    frames_made: int = 0
    frames_in_all: int = 0
    warnings: list[str] = field(default_factory=list)
    is_settled: bool = False
    trouble: str = ""
    _share_before: float = 0.0  # of the clip, made by workers before the one that has the job

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

    @property
    def growing_clip(self) -> Path | None:
        """The clip so far, which plays at any moment; None before there is any, and once the job has ended."""
        return self.folder.preview / "clip.mp4" if self.is_active and self.frames_made else None

    def fraction(self, now_s: float) -> float:
        """Share of the whole job that is over at `now_s` (seconds since the epoch), 0..1."""
        if self.record is None or self.record.state in (JobState.QUEUED, JobState.LOADING):
            return self._share_before
        if self.seconds_left is None:
            return self._share_before
        passed_s = max(0.0, now_s - self.record.since)
        share = passed_s / max(passed_s + self.seconds_left, 1e-3)
        return self._share_before + (1 - self._share_before) * share

    def take_events(self) -> bool:
        """Read what the worker reported since the last call; whether there was anything."""
        changed = False
        for event in self.events.poll():
            changed = True
            if event["kind"] == "progress":
                self.stage = str(event.get("stage", ""))
                self.step, self.steps = int(event.get("step") or 0), int(event.get("steps") or 0)
                self.seconds_left = event.get("seconds_left")
            elif event["kind"] == "frames":
                self._take_frames(int(event.get("count") or 0))
            elif event["kind"] == "state":
                self._take_state(event.get("state"))
            elif event["kind"] == "warning" and event.get("message") not in self.warnings:
                self.warnings.append(str(event.get("message")))
        return changed

    def _take_frames(self, count: int) -> None:
        self.frames_made = count
        if not self.frames_in_all:
            try:
                self.frames_in_all = len(CameraPath.load(self.folder.camera_npz))
            except ProtocolError:
                self.frames_in_all = count  # the job ends with a sentence about the file

    def _take_state(self, state: str | None) -> None:
        """Each attempt has its own stages; one that goes on behind another keeps what that one made."""
        if state in ENDED:
            self.frames_made = 0
            return
        self.stage, self.step, self.steps, self.seconds_left = "", 0, 0, None
        self._share_before = self.frames_made / self.frames_in_all if self.frames_in_all else 0.0

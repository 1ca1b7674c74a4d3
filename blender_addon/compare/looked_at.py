# SPDX-License-Identifier: GPL-3.0-or-later
"""Which clip of a shot the artist looks at, and which of its frames belongs to which scene frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bpy.types import Scene

from ...backend.protocol import FPS, Clip, JobFolder, ProtocolError, Source
from .. import compat, session, takes
from ..properties import shot_settings
from ..timeline import scene_fps


def job_looked_at(scene: Scene) -> JobFolder | None:
    """The job of the take that shows in the sequencer; without one, of the last clip that was made of the shot."""
    latest = session.latest_job(scene)
    code = latest.shot_code if latest else shot_settings(scene).code
    take = takes.shown_take(scene, code)
    if take is not None and takes.job_of(take).clip_mp4.is_file():
        return takes.job_of(take)
    return latest.folder if latest and latest.is_done else None


@dataclass(frozen=True)
class ClipTime:
    """The time of a clip in the frames of a scene.

    Attributes:
        start: scene frame, which may lie between two, of the clip's frame 0.
        scale: clip frames per scene frame.
        count: frames of the clip.
    """

    start: float
    scale: float
    count: int

    @classmethod
    def of(cls, clip: Clip, source: Source, fps: float) -> ClipTime:
        """Delivered frame 0 shows camera sample `pose_offset` of the range that was filmed."""
        return cls(source.frame_start + clip.pose_offset / FPS * fps, FPS / fps, clip.frame_count)

    @classmethod
    def of_job(cls, job: JobFolder, scene: Scene) -> ClipTime:
        """Raises ProtocolError if the job's records are missing or damaged."""
        if not job.clip_mp4.is_file():
            raise ProtocolError(f"{job.name} has no clip; generate the shot again.")
        return cls.of(job.clip(), job.source(), scene_fps(scene))

    @classmethod
    def of_take(cls, strip: Any, scene: Scene) -> ClipTime:
        """Where a take lies in the edit, which may be elsewhere than where it was filmed.

        Raises ProtocolError if the job's record is missing or damaged.
        """
        return cls(
            compat.strip_content_start(strip), FPS / scene_fps(scene), takes.job_of(strip).clip().frame_count
        )

    @property
    def last(self) -> float:
        """Scene frame of the clip's last frame."""
        return self.start + (self.count - 1) / self.scale

    def frame_at(self, scene_frame: float) -> int:
        """The clip frame nearest to a scene frame; the first one before the clip, the last one behind it."""
        return min(max(int((scene_frame - self.start) * self.scale + 0.5), 0), self.count - 1)

    def scene_frame(self, clip_s: float) -> float:
        """The scene frame at a time of the clip in seconds."""
        return self.start + clip_s * FPS / self.scale

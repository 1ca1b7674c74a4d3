# SPDX-License-Identifier: GPL-3.0-or-later
"""Which frame of a clip belongs to which scene frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bpy.types import Scene

from ..backend.protocol import FPS, JobFolder, ProtocolError, Source
from . import compat, takes
from .timeline import scene_fps


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
    def of(cls, source: Source, pose_offset: int, count: int, fps: float) -> ClipTime:
        """Delivered frame 0 shows camera sample `pose_offset` of the range that was filmed."""
        return cls(source.frame_start + pose_offset / FPS * fps, FPS / fps, count)

    @classmethod
    def of_job(cls, job: JobFolder, scene: Scene) -> ClipTime:
        """Raises ProtocolError if the job's records are missing or damaged."""
        if not job.clip_mp4.is_file():
            raise ProtocolError(f"{job.name} has no clip; generate the shot again.")
        clip = job.clip()
        return cls.of(job.source(), clip.pose_offset, clip.frame_count, scene_fps(scene))

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

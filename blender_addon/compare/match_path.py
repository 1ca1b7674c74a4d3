# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera path that a clip shows: drawn beside the planned one, or as a camera of its own."""

from __future__ import annotations

import numpy as np
from bpy.types import Object, Scene

from ...backend.protocol import FPS, CameraMatch, JobFolder, ProtocolError
from ...backend.protocol.camera_recorded import Recorded
from .. import camera, camera_exchange, draw_path, verdicts
from ..clip_time import ClipTime
from ..draw_path import Lines, camera_lines

PLANNED, ESTIMATED = "planned", "estimated"
_PLANNED_COLOUR = (0.75, 0.75, 0.75, 0.8)

_shown_of: JobFolder | None = None


def show_match_path(scene: Scene, job: JobFolder) -> None:
    """Draw the planned path in grey and the measured one in the colours of its verdicts; one clip's at a time.

    Raises:
        ProtocolError: the clip was not measured.
    """
    global _shown_of
    match = _measured(job)
    planned, estimated = match_lines(
        match, job.shot().camera.c2w, job.clip().pose_offset, scene.unit_settings.scale_length
    )
    draw_path.show(PLANNED, planned)
    draw_path.show(ESTIMATED, estimated)
    _shown_of = job


def is_shown_of(job: JobFolder) -> bool:
    """Whether the paths that are drawn, if any, are those of this job's clip."""
    return draw_path.is_shown(ESTIMATED) and _shown_of is not None and _shown_of.path == job.path


def hide_match_path() -> None:
    draw_path.hide(PLANNED)
    draw_path.hide(ESTIMATED)


def camera_from_match(scene: Scene, job: JobFolder) -> Object:
    """A camera that moves as the clip shows it, when the clip shows it, with the planned lens.

    Where the camera was lost it has no keys. The shot keeps its own camera.

    Raises:
        ProtocolError: the clip was not measured, or its camera was lost from the first frame to the last.
    """
    match, time, planned = _measured(job), ClipTime.of_job(job, scene), job.shot().camera
    c2w, offset = match.estimated_c2w, job.clip().pose_offset
    known = np.flatnonzero(np.isfinite(c2w).all((1, 2)))
    if not len(known):
        raise ProtocolError(f"The camera of {job.name} cannot be told at any moment.")
    recorded = Recorded(c2w[known], planned.intrinsics[known + offset], planned.image_size, known / FPS)
    frames = np.array([time.scene_frame(seconds) for seconds in recorded.times_s])
    return camera_exchange.keyed_camera(scene, f"{job.name} as filmed", recorded, frames)


def match_lines(
    match: CameraMatch, c2w: np.ndarray, pose_offset: int, unit_scale: float
) -> tuple[Lines, Lines]:
    """Planned and estimated path with a camera at every second.

    Args:
        c2w: (F, 4, 4) planned path, OpenCV axes, metres.
        unit_scale: metres per Blender unit.
    """
    frames = match.frame_count
    seconds = np.arange(0, frames, FPS)
    planned = camera.blender_poses(c2w[pose_offset : pose_offset + frames], unit_scale)
    grey = np.tile(_PLANNED_COLOUR, (len(planned), 1))
    estimated = camera.blender_poses(match.estimated_c2w, unit_scale)
    per_second = match.per_second()
    colours = np.array([verdicts.COLOURS[per_second[frame // FPS]] for frame in range(frames)])
    return (
        camera_lines(planned, grey, seconds, draw_path.THIN_PX),
        camera_lines(estimated, colours, seconds),
    )


def _measured(job: JobFolder) -> CameraMatch:
    match = verdicts.match_of(job)
    if match is None or match.unmeasured:
        why = match.unmeasured if match else "It was made before clips were measured."
        raise ProtocolError(f"There is no measured path of {job.name}. {why}")
    return match

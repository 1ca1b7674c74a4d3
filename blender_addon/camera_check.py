# SPDX-License-Identifier: GPL-3.0-or-later
"""The last check of the shot's camera: what was measured, and its path in the viewport. Not saved."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np
from bpy.app.handlers import persistent
from bpy.props import BoolProperty
from bpy.types import Context, Scene, WindowManager

from ..backend.protocol import FPS
from ..backend.protocol.camera_check import CameraCheck
from . import camera, collisions, draw_path, shots, timeline, verdicts
from .draw_path import Lines, camera_lines

CHECKED = "checked"


@dataclass(frozen=True, eq=False)
class Report:
    """What a check found.

    Attributes:
        subject: what was checked, as `shots.subject` names it.
        lens_mm: shortest and longest focal length.
        lines: the path in the colours of its verdicts.
        frame_start: scene frame of sample 0.
    """

    subject: str
    check: CameraCheck
    collisions: list[collisions.Collision]
    lens_mm: tuple[float, float]
    lines: Lines
    frame_start: int

    def frame_at(self, seconds: float, scene: Scene) -> int:
        """The scene frame at a time of the shot."""
        return round(self.frame_start + seconds * timeline.scene_fps(scene))


_last: Report | None = None


def look(context: Context) -> Report | None:
    """Check the shot in the panel and show its path; None if its camera cannot be followed."""
    global _last
    _last = None
    filmed = shots.check(context)
    if filmed is not None:
        scene, path = context.scene, filmed.path
        check = CameraCheck.of(path, filmed.preset.image_size)
        met = collisions.find_collisions(scene, context.view_layer, path.c2w, check.cuts, filmed.frame_start)
        lens = camera.lens_mm(filmed.camera.data, scene, path.intrinsics[:, 0])
        lines = path_lines(path.c2w, check, scene.unit_settings.scale_length)
        _last = Report(shots.subject(scene), check, met, (lens.min(), lens.max()), lines, filmed.frame_start)
    _show_or_hide()
    return _last


def current(scene: Scene) -> Report | None:
    """The last check, unless the shot has changed since."""
    return _last if _last is not None and _last.subject == shots.subject(scene) else None


def path_lines(c2w: np.ndarray, check: CameraCheck, unit_scale: float) -> Lines:
    """A path in the colours of its verdicts, broken at cuts, with a camera at every second.

    Args:
        c2w: (F, 4, 4) OpenCV axes, metres.
        unit_scale: metres per Blender unit.
    """
    colours = np.array([verdicts.COLOURS[verdict] for verdict in check.verdicts()])
    poses = camera.blender_poses(c2w, unit_scale)
    seconds = np.arange(0, len(poses), FPS)
    seconds = seconds + np.searchsorted(check.cuts, seconds, side="right")
    return camera_lines(
        np.insert(poses, check.cuts, np.nan, axis=0), np.insert(colours, check.cuts, 0, axis=0), seconds
    )


def _show_or_hide() -> None:
    if _last is not None and bpy.context.window_manager.sana_wm_shows_check:
        draw_path.show(CHECKED, _last.lines, lambda: current(bpy.context.scene) is not None)
    else:
        draw_path.hide(CHECKED)


@persistent
def _forget(_path: str) -> None:
    global _last
    _last = None


def register() -> None:
    WindowManager.sana_wm_shows_check = BoolProperty(
        name="Path in the Viewport",
        description="Draw the checked path, seen from outside of the camera: green is gentle, amber fast, vermilion "
        "too fast. A small camera stands at every second",
        default=True,
        update=lambda _self, _context: _show_or_hide(),
    )
    bpy.app.handlers.load_pre.append(_forget)


def unregister() -> None:
    _forget("")
    bpy.app.handlers.load_pre.remove(_forget)
    del WindowManager.sana_wm_shows_check

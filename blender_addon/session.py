# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor in this Blender: its timer, its handlers, and what it may ask Blender for."""

from __future__ import annotations

import logging
import time

import bpy
from bpy.app.handlers import persistent

from ..backend.protocol import ProtocolError
from . import paths, sequencer
from .backend_process import BackendSetup, Child, find_backend, start_worker
from .supervisor import ACTIVE_INTERVAL_S, FollowedJob, Project, Supervisor

RECOVERY_INTERVAL_S = 5.0
_SHOWING_US = {"VIEW_3D", "SEQUENCE_EDITOR", "PREFERENCES"}

log = logging.getLogger(__name__)


class BlenderHost:
    """Blender as the supervisor sees it."""

    def __init__(self) -> None:
        self._placed_now: set[tuple[str, str]] = set()

    def project(self) -> Project | None:
        if not bpy.data.filepath:
            return None
        return Project(bpy.data.filepath, paths.jobs_root())

    def start_worker(self, jobs_root) -> Child:
        backend = find_backend(paths.backend_folder())
        return start_worker(backend, jobs_root, paths.EXTENSION_ROOT, paths.blender_folder())

    def may_place(self) -> bool:
        """Not under a render or a playback, and only where an undo step covers the whole file."""
        windows = bpy.context.window_manager.windows
        return not (
            bpy.app.is_job_running("RENDER")
            or any(window.screen.is_animation_playing for window in windows)
            or bpy.context.mode != "OBJECT"
        )

    def is_placed(self, job: FollowedJob) -> bool:
        scene = bpy.data.scenes.get(job.scene)
        return scene is not None and job.name in scene.sana_wm.placed_jobs

    def place(self, job: FollowedJob) -> None:
        scene = bpy.data.scenes.get(job.scene)
        if scene is None:
            raise ProtocolError(
                f"The scene {job.scene} is no longer in this file; the clip is {job.folder.clip_mp4}."
            )
        sequencer.place_clip(scene, job.folder)
        scene.sana_wm.placed_jobs.add().name = job.name
        self._placed_now.add((job.scene, job.name))
        bpy.ops.ed.undo_push(message=f"Place Clip {job.name}")

    def redraw(self) -> None:
        for window in bpy.context.window_manager.windows:
            for area in window.screen.areas:
                if area.type in _SHOWING_US:
                    area.tag_redraw()

    def remember_placed(self) -> None:
        """Undo takes the strip and its mark; keep the mark, so that an undone strip does not come back."""
        for scene_name, job_name in self._placed_now:
            scene = bpy.data.scenes.get(scene_name)
            if scene is not None and job_name not in scene.sana_wm.placed_jobs:
                scene.sana_wm.placed_jobs.add().name = job_name

    def forget(self) -> None:
        """Another file is open."""
        self._placed_now.clear()


host = BlenderHost()
supervisor = Supervisor(host)
setup: BackendSetup | None = None


def start_setup(device: str) -> None:
    """Set up or repair the backend in a child process, followed by the timer.

    Raises:
        OSError: the child does not start.
    """
    global setup
    setup = BackendSetup(paths.backend_folder(), device, paths.EXTENSION_ROOT, paths.blender_folder())


def is_setting_up() -> bool:
    return setup is not None and setup.outcome == "running"


def tick() -> float:
    """One turn of the timer; also a function for tests, where Blender's timers never fire."""
    try:
        if setup is not None and setup.poll():
            host.redraw()
        interval = supervisor.tick(time.monotonic())
    except Exception:
        # Blender drops a timer that raises, and the jobs would stand still without a word.
        log.exception("Following the jobs failed; trying again.")
        return RECOVERY_INTERVAL_S
    return min(interval, ACTIVE_INTERVAL_S) if is_setting_up() else interval


@persistent
def _on_load(_path: str) -> None:
    host.forget()
    supervisor.reload()
    if not bpy.app.timers.is_registered(tick):
        bpy.app.timers.register(tick, persistent=True)


@persistent
def _on_save(_path: str) -> None:
    host.remember_placed()


def register() -> None:
    bpy.app.handlers.load_post.append(_on_load)
    bpy.app.handlers.save_pre.append(_on_save)
    bpy.app.timers.register(tick, first_interval=ACTIVE_INTERVAL_S, persistent=True)


def unregister() -> None:
    """A set-up stops; a worker finishes what is queued and ends by itself."""
    if bpy.app.timers.is_registered(tick):
        bpy.app.timers.unregister(tick)
    bpy.app.handlers.save_pre.remove(_on_save)
    bpy.app.handlers.load_post.remove(_on_load)
    if is_setting_up():
        setup.cancel()

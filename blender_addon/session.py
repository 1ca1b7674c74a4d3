# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor in this Blender: its timer, its handlers, and what it may ask Blender for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import bpy
from bpy.app.handlers import persistent
from bpy.types import Scene

from ..backend.protocol import ProtocolError
from . import paths, sequencer, timeline
from .backend_process import Child, find_backend, start_worker
from .backend_setup import BackendSetup
from .followed_job import FollowedJob
from .machine_check import MachineCheck
from .properties import shot_settings
from .supervisor import ACTIVE_INTERVAL_S, Project, Supervisor
from .weights import WeightsErrand
from .weights import folder as weights_folder

RECOVERY_INTERVAL_S = 5.0
_SHOWING_US = {"VIEW_3D", "SEQUENCE_EDITOR", "PREFERENCES"}

log = logging.getLogger(__name__)


class BlenderHost:
    """Blender as the supervisor sees it."""

    def project(self) -> Project | None:
        if not bpy.data.filepath:
            return None
        return Project(bpy.data.filepath, paths.jobs_root())

    def start_worker(self, jobs_root: Path) -> Child:
        backend = find_backend(paths.backend_folder())
        return start_worker(
            backend, jobs_root, weights_folder(), paths.EXTENSION_ROOT, paths.blender_folder()
        )

    def may_place(self) -> bool:
        """Not under a render or a playback, and only where an undo step covers the whole file."""
        return not timeline.occupied() and bpy.context.mode == "OBJECT"

    def remembered_jobs(self) -> list[Path]:
        return [Path(entry.folder) for scene in _scenes() for entry in scene.sana_wm.jobs]

    def asking_scene(self, request_id: str, name: str) -> int | None:
        scenes = [scene for scene in _scenes() if request_id in scene.sana_wm.jobs]
        # A copied scene remembers the same requests, but has another name.
        asking = min(scenes, key=lambda scene: scene.name != name, default=None)
        return asking.session_uid if asking else None

    def scene_named(self, name: str) -> int | None:
        return next((scene.session_uid for scene in _scenes() if scene.name == name), None)

    def has_scene(self, scene: int | None) -> bool:
        return _scene(scene) is not None

    def is_placed(self, job: FollowedJob) -> bool:
        entries = (scene.sana_wm.jobs.get(job.request_id) for scene in _scenes())
        return any(entry.is_placed for entry in entries if entry)

    def place(self, job: FollowedJob) -> None:
        scene = _scene(job.scene)
        if scene is None:
            raise ProtocolError(
                f"The scene {job.scene_name} is no longer in this file; the clip is {job.folder.clip_mp4}."
            )
        sequencer.place_clip(scene, job.folder)
        self.remember(job, is_placed=True)
        if bpy.ops.ed.undo_push.poll():  # a command without a window has nothing to undo
            bpy.ops.ed.undo_push(message=f"Place Clip {job.name}")

    def remember(self, job: FollowedJob, is_placed: bool) -> None:
        """Have the scene remember the job, so that whichever file it is saved to finds it again."""
        scene = _scene(job.scene)
        if scene is None:
            return
        jobs = scene.sana_wm.jobs
        entry = jobs.get(job.request_id) or jobs.add()
        entry.name, entry.folder = job.request_id, str(job.folder.path)
        entry.is_placed |= is_placed

    def redraw(self) -> None:
        for window in bpy.context.window_manager.windows:
            for area in window.screen.areas:
                if area.type in _SHOWING_US:
                    area.tag_redraw()


def _scenes() -> Iterator[Scene]:
    """The scenes that belong to the open file, linked ones left out."""
    return (scene for scene in bpy.data.scenes if scene.library is None)


def _scene(session_uid: int | None) -> Scene | None:
    """Found by what outlives a new name, an undo and Save As."""
    return next((scene for scene in _scenes() if scene.session_uid == session_uid), None)


host = BlenderHost()
# Called with the window's scene after every turn; those who show growing clips add themselves.
followers: list[Callable[[Scene], None]] = []
supervisor = Supervisor(host)
setup: BackendSetup | None = None
weights_errand: WeightsErrand | None = None
machine_check: MachineCheck | None = None


def latest_job(scene: Scene) -> FollowedJob | None:
    """The job that was asked for last of the shot in the panel; without a list, of the scene."""
    code = shot_settings(scene).code if scene.sana_wm_shots else ""
    return supervisor.latest(scene.session_uid, code)


def active_job(scene: Scene) -> FollowedJob | None:
    """The same, if it is queued or running."""
    job = latest_job(scene)
    return job if job and job.is_active else None


def start_setup(device: str) -> None:
    """Set up or repair the backend in a child process, followed by the timer.

    Raises:
        OSError: the child does not start.
    """
    global setup
    setup = BackendSetup(paths.backend_folder(), device, paths.EXTENSION_ROOT, paths.blender_folder())


def is_setting_up() -> bool:
    return setup is not None and setup.outcome == "running"


def start_weights_errand(words: Sequence[str]) -> None:
    """Download, verify or remove weights in a child process, followed by the timer.

    Raises:
        ProtocolError: the backend is not set up.
        OSError: the child does not start.
    """
    global weights_errand
    weights_errand = WeightsErrand(words)


def is_on_weights_errand() -> bool:
    return weights_errand is not None and weights_errand.outcome == "running"


def start_machine_check() -> None:
    """Have the backend look at this machine, followed by the timer.

    Raises:
        ProtocolError: the backend is not set up.
        OSError: the child does not start.
    """
    global machine_check
    machine_check = MachineCheck()


def is_checking_machine() -> bool:
    return machine_check is not None and machine_check.outcome == "running"


def tick() -> float:
    """One turn of the timer; also a function for tests, where Blender's timers never fire."""
    try:
        if any([child.poll() for child in (weights_errand, machine_check) if child is not None]):
            host.redraw()
        if setup is not None and setup.poll():
            host.redraw()
            if setup.outcome == "done":
                supervisor.renew_workers()
        interval = supervisor.tick(time.monotonic())
        for follower in followers:
            follower(bpy.context.scene)
    except Exception:
        # Blender drops a timer that raises, and the jobs would stand still without a word.
        log.exception("Following the jobs failed; trying again.")
        return RECOVERY_INTERVAL_S
    is_waiting = is_setting_up() or is_on_weights_errand() or is_checking_machine()
    return min(interval, ACTIVE_INTERVAL_S) if is_waiting else interval


@persistent
def _on_load(_path: str) -> None:
    supervisor.reload()
    if not bpy.app.timers.is_registered(tick):
        bpy.app.timers.register(tick, persistent=True)


@persistent
def _on_save(_path: str) -> None:
    """Undo takes a strip together with its mark; with the mark back, the strip stays away."""
    for job in supervisor.jobs.values():
        host.remember(job, job.is_placed)


def register() -> None:
    bpy.app.handlers.load_post.append(_on_load)
    bpy.app.handlers.save_pre.append(_on_save)
    bpy.app.timers.register(tick, first_interval=ACTIVE_INTERVAL_S, persistent=True)


def unregister() -> None:
    """A set-up or a download stops; a worker finishes what is queued and ends by itself."""
    if bpy.app.timers.is_registered(tick):
        bpy.app.timers.unregister(tick)
    bpy.app.handlers.save_pre.remove(_on_save)
    bpy.app.handlers.load_post.remove(_on_load)
    if is_setting_up():
        setup.cancel()
    if is_on_weights_errand():
        weights_errand.cancel()
    if is_checking_machine():
        machine_check.cancel()

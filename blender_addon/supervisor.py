# SPDX-License-Identifier: GPL-3.0-or-later
"""Follows the jobs of the open .blend: submits, watches, cancels, keeps workers alive, has clips placed.

A job belongs to the file whose scene remembers its request, or to the file of the path it was asked for from.
Save As takes the jobs along; they are made and stay in the folder where they were asked for.

A plain class: the timer in `session.py` and the tests both call `tick`. The truth is in the job folders, so
nothing is lost when Blender closes or another file is loaded. No bpy here.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..backend.protocol import (
    FileLock,
    JobFolder,
    JobState,
    ProtocolError,
    Shot,
    atomic,
    list_jobs,
)
from .backend_process import Child
from .followed_job import FollowedJob

ACTIVE_INTERVAL_S = 0.25
IDLE_INTERVAL_S = 1.0
# Old job folders that a tick looks into, so that a folder of hundreds does not stop the user's hand.
FOLDERS_PER_TICK = 10
RESTART_DELAY_S = 5.0
# A worker that ends this often in a row without finishing a job will not do better the next time.
MAX_RESTARTS = 3
# Two changes of a folder within this time may carry the same time stamp.
FOLDER_SETTLES_S = 2.0
WENT_WRONG = (JobState.FAILED, JobState.CANCELLED)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Project:
    """The open .blend and the folder for its new jobs."""

    blend: str
    jobs_root: Path


class Host(Protocol):
    """What the supervisor needs of Blender."""

    def project(self) -> Project | None:
        """None while the file is unsaved."""

    def start_worker(self, jobs_root: Path) -> Child:
        """Raises ProtocolError or OSError if there is no backend to start."""

    def may_place(self) -> bool:
        """Whether the sequencer may be touched now."""

    def remembered_jobs(self) -> list[Path]:
        """Folders of the jobs that the scenes of the file remember."""

    def asking_scene(self, request_id: str, name: str) -> int | None:
        """The scene that remembers the request, of several the one with this name."""

    def scene_named(self, name: str) -> int | None:
        """The scene with this name, if any."""

    def has_scene(self, scene: int | None) -> bool:
        """Whether the scene is still in the file."""

    def is_placed(self, job: FollowedJob) -> bool:
        """Whether the file has received this clip before."""

    def place(self, job: FollowedJob) -> None:
        """Place the clip in its scene and mark it there, in one undo step. Raises ProtocolError."""

    def redraw(self) -> None:
        """Something that the panel shows has changed."""


@dataclass
class _Worker:
    """The worker of one jobs folder, as far as this Blender knows it."""

    child: Child | None = None
    restarts: int = 0
    next_start: float = 0.0


class Supervisor:
    """Call `tick` now and then; it never waits.

    Attributes:
        jobs: the jobs of the open .blend by request id.
        trouble: why there is no worker although there is work, in a sentence; else empty.
    """

    def __init__(self, host: Host) -> None:
        self.jobs: dict[str, FollowedJob] = {}
        self.trouble = ""
        self._host = host
        self._project: Project | None = None
        self._known: set[Path] = set()
        self._unread: deque[JobFolder] = deque()
        self._folder_time_ns = 0
        self._workers: defaultdict[Path, _Worker] = defaultdict(_Worker)

    def submit(self, shot: Shot, first_frame_png: bytes, jobs_root: Path | None = None) -> FollowedJob:
        """Write the job and queue it, in the project's folder or another; the worker is started by the next tick.

        Raises:
            ProtocolError: the file is unsaved, or the first frame does not fit the camera.
            OSError: the job folder cannot be written.
        """
        self._open(self._host.project())
        if self._project is None:
            raise ProtocolError("Save the file first: its clips are made in a folder beside it.")
        jobs_root = jobs_root or self._project.jobs_root
        folder = JobFolder.create(jobs_root, shot, first_frame_png)
        self._known.add(folder.path)
        scene = self._host.scene_named(shot.source.scene)
        self.trouble, worker = "", self._workers[jobs_root]
        worker.restarts, worker.next_start = 0, 0.0
        return self._add(folder, shot.code, shot.source.request_id, scene, shot.source.scene)

    def cancel(self, job: FollowedJob) -> None:
        """Ask the worker to stop; a job that waits for a worker that does not live ends at once."""
        job.folder.request_cancel()
        if job.is_queued and not self._worker_is_alive(job.jobs_root):
            job.folder.state_file.move(JobState.CANCELLED, "Cancelled before it began.")
            self._follow(job)

    def retry(self, job: FollowedJob) -> None:
        """Queue a job again that failed or was cancelled.

        Raises:
            ProtocolError: it is not one of these.
            OSError: its folder cannot be written.
        """
        job.folder.queue("Waiting for a worker again.")
        self.trouble, worker = "", self._workers[job.jobs_root]
        worker.restarts, worker.next_start = 0, 0.0
        self._follow(job)

    def renew_workers(self) -> None:
        """What workers are started with has changed: this Blender's put their jobs back and end; others follow."""
        for worker in self._workers.values():
            if worker.child is not None:
                worker.child.stop()
                worker.child, worker.next_start = None, 0.0

    def at_work(self) -> list[FollowedJob]:
        """Jobs that a worker has, the first begun first."""
        jobs = [job for job in self.jobs.values() if job.is_active and not job.is_queued]
        return sorted(jobs, key=lambda job: job.record.submitted)

    def queue(self) -> list[FollowedJob]:
        """Jobs that wait, in the order in which they are made."""
        waiting = [job for job in self.jobs.values() if job.is_queued]
        return sorted(waiting, key=lambda job: (job.record.submitted, job.name))

    def went_wrong(self) -> list[FollowedJob]:
        """Jobs that failed or were cancelled and whose shot nobody has asked for since, the newest first."""
        ended = [job for job in self.jobs.values() if job.record and job.record.state in WENT_WRONG]
        wrong = [
            job for job in ended if self.latest(job.scene, job.shot_code).record.submitted <= job.record.since
        ]
        return sorted(wrong, key=lambda job: -job.record.submitted)

    def move_in_queue(self, job: FollowedJob, by: int) -> None:
        """Let a waiting job change places with the one before (-1) or behind (+1) it, if there is one.

        Raises:
            ProtocolError: one of the two does not wait any more.
        """
        neighbours = [other for other in self.queue() if other.jobs_root == job.jobs_root]
        index = neighbours.index(job) + by if job in neighbours else -1
        if 0 <= index < len(neighbours):
            job.folder.change_places(neighbours[index].folder)
            for moved in (job, neighbours[index]):
                self._follow(moved)

    def latest(self, scene: int, shot_code: str = "") -> FollowedJob | None:
        """The job of this scene, or of one of its shots, that was asked for last."""
        queued = (job for job in self._asked_for(scene, shot_code) if job.record)
        return max(queued, key=lambda job: job.record.submitted, default=None)

    def last_done(self, scene: int, shot_code: str) -> FollowedJob | None:
        """Of the jobs of a shot that made a clip, the one that was asked for last."""
        done = (job for job in self._asked_for(scene, shot_code) if job.is_done)
        return max(done, key=lambda job: job.record.submitted, default=None)

    def _asked_for(self, scene: int, shot_code: str) -> Iterator[FollowedJob]:
        return (job for job in self.jobs.values() if job.scene == scene and shot_code in ("", job.shot_code))

    def strays(self) -> list[FollowedJob]:
        """Jobs that run, or have news for the user, while their scene is gone."""
        news = (job for job in self.jobs.values() if job.is_active or job.trouble)
        return [job for job in news if not self._host.has_scene(job.scene)]

    def reload(self) -> None:
        """Another .blend was loaded: forget the jobs; the next tick finds those of the new one."""
        self._project, self.jobs, self.trouble = None, {}, ""

    def look_around(self) -> None:
        """Take up all jobs of the open .blend at once; nothing is started or placed."""
        self._open(self._host.project())
        while self._project is not None and self._unread:
            self._take_up(self._unread.popleft())

    def tick(self, now: float) -> float:
        """Do what is due and return the seconds until the next call.

        Args:
            now: seconds of a clock that only goes forward.
        """
        self._open(self._host.project())
        if self._project is None:
            return IDLE_INTERVAL_S
        changed = self._discover()
        for job in list(self.jobs.values()):
            if job.is_active or job.record is None:
                changed |= self._follow(job)
        changed |= self._keep_workers(now)
        changed |= self._place_clips()
        if changed:
            self._host.redraw()
        busy = self._unread or any(job.is_active for job in self.jobs.values())
        return ACTIVE_INTERVAL_S if busy else IDLE_INTERVAL_S

    def _open(self, project: Project | None) -> None:
        """Look for jobs in another folder; those that are followed already came along with Save As."""
        if project == self._project:
            return
        paths: list[Path] = []
        if project is not None:
            # First the folder of the file, which may be a copy of the one that the scenes remember.
            paths = [*(job.path for job in list_jobs(project.jobs_root)), *self._host.remembered_jobs()]
        self._project, self._known, self._folder_time_ns = project, set(paths), 0
        self._unread = deque(JobFolder(path) for path in dict.fromkeys(paths))
        self._host.redraw()

    def _discover(self) -> bool:
        """Take up job folders that appeared: from the last session, or brought by somebody."""
        self._list_new()
        found = False
        for _ in range(min(FOLDERS_PER_TICK, len(self._unread))):
            found |= self._take_up(self._unread.popleft())
        return found

    def _list_new(self) -> None:
        root = self._project.jobs_root
        try:
            changed_ns = root.stat().st_mtime_ns
        except OSError:
            return
        if changed_ns != self._folder_time_ns:
            new = [job for job in list_jobs(root) if job.path not in self._known]
            self._unread.extend(new)
            self._known.update(job.path for job in new)
            if time.time() - changed_ns / 1e9 > FOLDER_SETTLES_S:
                self._folder_time_ns = changed_ns

    def _take_up(self, folder: JobFolder) -> bool:
        if not folder.path.is_dir():  # remembered, but moved or deleted since
            return False
        try:
            shot = atomic.read_json(folder.shot_json)
            source, code = shot["source"], str(shot["code"])
            request_id, name = source.get("request_id") or folder.name, source["scene"]
            if request_id in self.jobs:
                return False
            scene = self._host.asking_scene(request_id, name)
            if scene is None:
                if source["blend"] != self._project.blend:
                    return False
                scene = self._host.scene_named(name)  # asked for after the file was saved last
            job = self._add(folder, code, request_id, scene, name)
        except (ProtocolError, OSError, KeyError, TypeError, AttributeError) as error:
            log.warning("Passed over the folder %s: %s", folder.path, error)
            return False
        job.is_settled = job.is_done and scene is None  # old news
        return True

    def _add(
        self, folder: JobFolder, code: str, request_id: str, scene: int | None, scene_name: str
    ) -> FollowedJob:
        job = FollowedJob(folder, code, request_id, scene, scene_name, folder.state(), folder.event_reader())
        self.jobs[request_id] = job
        return job

    def _follow(self, job: FollowedJob) -> bool:
        """Read the job's state and events; whether anything is new."""
        try:
            record = job.folder.state()
            if record is None and not job.folder.shot_json.exists():
                raise ProtocolError("The job folder was removed.")
        except (ProtocolError, OSError) as error:
            log.warning("Stopped following %s: %s", job.name, error)
            job.trouble = str(error)
            del self.jobs[job.request_id]
            return True
        changed = record != job.record
        job.record = record
        if job.is_done:
            self._workers[job.jobs_root].restarts = 0
        return job.take_events() or changed

    def _worker_is_alive(self, jobs_root: Path) -> bool:
        child = self._workers[jobs_root].child
        return (child is not None and child.exit_code is None) or _is_served(jobs_root)

    def _keep_workers(self, now: float) -> bool:
        """Start a worker in each folder where there is work and none lives."""
        waiting: dict[Path, list[FollowedJob]] = {}
        for job in self.jobs.values():
            if job.is_queued or job.has_lost_its_worker:
                waiting.setdefault(job.jobs_root, []).append(job)
        changed = False
        for root, jobs in waiting.items():
            changed |= self._keep_worker(root, jobs, now)
        return changed

    def _keep_worker(self, root: Path, waiting: list[FollowedJob], now: float) -> bool:
        worker, before = self._workers[root], self.trouble
        if now < worker.next_start or self._worker_is_alive(root):
            return False
        ended, worker.child = worker.child, None
        if ended is not None:
            worker.restarts = worker.restarts + 1 if ended.exit_code else 0
        if worker.restarts >= MAX_RESTARTS:
            reason = f"The backend stopped {worker.restarts} times in a row: {ended.last_words()}"
            self._give_up([job for job in waiting if job.has_lost_its_worker] or waiting, reason)
            worker.restarts = 0
            return True
        worker.next_start = now + RESTART_DELAY_S
        try:
            worker.child = self._host.start_worker(root)
            self.trouble = ""
        except (ProtocolError, OSError) as error:
            self.trouble = f"The backend does not start: {error}"
        return self.trouble != before

    def _give_up(self, jobs: Iterable[FollowedJob], reason: str) -> None:
        for job in jobs:
            job.folder.state_file.move(JobState.FAILED, reason)
            self._follow(job)

    def _place_clips(self) -> bool:
        """Place the clips that arrived, now or while this .blend was not open, oldest first."""
        waiting = [job for job in self.jobs.values() if job.is_done and not job.is_settled]
        if not waiting or not self._host.may_place():
            return False
        for job in sorted(waiting, key=lambda job: job.record.submitted):
            job.is_settled = True
            if self._host.is_placed(job):
                continue
            try:
                self._host.place(job)
            except ProtocolError as error:
                job.trouble = str(error)
        return True


def _is_served(jobs_root: Path) -> bool:
    """Does any worker, of this Blender or another, serve the folder?"""
    return any(FileLock(path).is_held() for path in jobs_root.glob(".worker-*.lock"))

# SPDX-License-Identifier: GPL-3.0-or-later
"""The resident worker: takes queued jobs in the order they were submitted and keeps its models warm."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .progress import HEARTBEAT_S, Cancelled, Progress, Repeated, Stopped
from .protocol import (
    JobFolder,
    JobState,
    Preset,
    ProtocolError,
    StateRecord,
    list_jobs,
    worker_lock,
)
from .protocol.weights_ready import loras_of
from .video import VideoError

if TYPE_CHECKING:
    from .pipeline import Models

_MANIFEST = Path(__file__).resolve().parents[1] / "blender_manifest.toml"
POLL_S = 0.5
SWEEP_S = 1.0
_BEGUN = (JobState.LOADING, JobState.RUNNING)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class WorkerError(RuntimeError):
    """The worker cannot serve at all; the message is a sentence for the user."""


class ModelShelf:
    """The models this process has loaded, ready for the next job.

    Importing the pipeline costs seconds (torch), so it waits until the first model is wanted.
    """

    def __init__(self, device: str, weights: Path | None = None) -> None:
        """
        Args:
            weights: folder of the released weights, which large models are loaded from.
        """
        self.device, self._weights = device, weights
        self._models: dict[tuple, Models] = {}

    def get(self, preset: Preset) -> Models:
        """What the preset needs.

        Raises:
            ProtocolError: there is no such model, or its files are missing or damaged.
        """
        from .pipeline import load_models

        if preset.model == "embedded":
            wanted = preset.model, preset.network_blend > 0, preset.variant
        else:
            wanted = preset.model, preset.variant, preset.refiner, preset.precision, *self._adapters(preset)
        if wanted not in self._models:
            # Small models stay beside each other; of the large one there is room for a single variant.
            self._models = {key: models for key, models in self._models.items() if key[0] == "embedded"}
            self._models[wanted] = load_models(preset, self.device, self._weights)
        return self._models[wanted]

    def _adapters(self, preset: Preset) -> tuple:
        """Strengths, and each adapter's name and its file's size and time: another may lie there under that name."""
        found: list = [preset.stage1_lora_strength, preset.refiner_lora_strength]
        for part, path in loras_of(self._weights, preset).items() if self._weights else ():
            try:
                status = path.stat()
                found.append((part, path.name, status.st_size, status.st_mtime_ns))
            except OSError:
                found.append((part, path.name, 0, 0))
        return tuple(found)


class Worker:
    """Serves one jobs folder on one device.

    Args:
        jobs_root: folder of job folders.
        device: torch device, such as "cpu" or "cuda:0".
        stop: set to make the worker put its job back and leave.
        idle_exit_s: leave after this long without a job; None stays.
        weights: folder of the released weights; None if there is none.
    """

    def __init__(
        self,
        jobs_root: Path,
        device: str,
        stop: threading.Event,
        idle_exit_s: float | None = None,
        weights: Path | None = None,
    ) -> None:
        self.jobs_root = jobs_root
        self._stop = stop
        self._idle_exit_s = idle_exit_s
        self._shelf = ModelShelf(device, weights)
        self._lock = worker_lock(jobs_root, device)
        self._passed_over: dict[Path, int] = {}
        self._installed_ns = installed_ns()

    def serve(self) -> None:
        """Run jobs until told to stop, idle for too long, or replaced by another version on the disk.

        Raises:
            WorkerError: another worker serves the device, or the jobs folder is not there (any more).
        """
        self._take_device()
        try:
            say(f"Serving {self.jobs_root} on {self._shelf.device} as {worker_name()}.")
            idle_since = time.monotonic()
            while not self._stop.is_set():
                if installed_ns() != self._installed_ns:
                    say("SANA-WM Shots was installed anew; leaving the jobs to a worker of that version.")
                    return
                job = self._next_job()
                if job is None:
                    if self._idle_exit_s is not None and time.monotonic() - idle_since > self._idle_exit_s:
                        say(f"No job for {self._idle_exit_s:g} s; leaving.")
                        return
                    self._stop.wait(POLL_S)
                    continue
                with Repeated(self._sweep, SWEEP_S):
                    self._run(job)
                idle_since = time.monotonic()
            say("Stopped.")
        finally:
            self._lock.release()

    def _take_device(self) -> None:
        try:
            taken = self._lock.acquire(f"{worker_name()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        except OSError as error:
            raise WorkerError(
                f"The jobs folder {self.jobs_root} is not a folder this worker can write to "
                f"({error.strerror}); create it or name another with --jobs."
            ) from error
        if not taken:
            raise WorkerError(
                f"Another worker ({self._lock.note().strip() or 'unknown'}) already serves {self.jobs_root} "
                f"on {self._shelf.device}; stop it, or name another --device."
            )

    def _next_job(self) -> JobFolder | None:
        """The job that was submitted first among those nobody works on."""
        if not self.jobs_root.is_dir():
            raise WorkerError(f"The jobs folder {self.jobs_root} has vanished; the worker stops.")
        waiting = []
        for job in list_jobs(self.jobs_root):
            if self._passed_over.get(job.path) == _changed_ns(job):
                continue
            try:
                record = job.state()
            except (ProtocolError, OSError) as error:
                self._pass_over(job, str(error))
                continue
            if record and is_free(job, record):
                waiting.append((record.submitted, job.name, job))
        return min(waiting)[2] if waiting else None

    def _run(self, job: JobFolder) -> None:
        try:
            record = run_job(job, self._shelf, self._stop)
        except (ProtocolError, OSError) as error:
            # Not even the verdict could be written; taking the job again at once would go on for ever.
            self._pass_over(job, str(error))
            return
        if record:
            say(f"{job.name}: {record.state}. {record.reason}")

    def _pass_over(self, job: JobFolder, why: str) -> None:
        if job.path.is_dir():
            self._passed_over[job.path] = _changed_ns(job)
            say(f"{job.name} is left alone until its state.json changes: {why}")
        else:
            say(f"{job.name} has vanished.")

    def _sweep(self) -> None:
        """Cancel waiting jobs on request while another job runs."""
        for job in list_jobs(self.jobs_root):
            if not job.cancel_requested():
                continue
            lock = job.lock
            if lock.acquire(worker_name()):
                try:
                    record = job.state()
                    if record and record.state == JobState.QUEUED:
                        job.state_file.move(JobState.CANCELLED, "Cancelled before it began.")
                except ProtocolError:
                    pass  # the main thread says so when it gets there
                finally:
                    lock.release()


def _changed_ns(job: JobFolder) -> int:
    try:
        return job.state_file.path.stat().st_mtime_ns
    except OSError:
        return 0


def is_free(job: JobFolder, record: StateRecord) -> bool:
    """Is the job waiting, or was it begun by a worker that died?"""
    if record.state == JobState.QUEUED:
        return True
    if record.state not in _BEGUN or job.lock.is_held():
        return False
    host = record.worker.rpartition(":")[0]
    if host == socket.gethostname():
        return True
    # Across machines the file system may not carry the lock, so the other worker's heartbeat counts as well.
    return time.time() - _last_sign_of_life(job, record) > 3 * HEARTBEAT_S


def _last_sign_of_life(job: JobFolder, record: StateRecord) -> float:
    try:
        return max(record.since, job.events.path.stat().st_mtime)
    except OSError:
        return record.since


def run_job(
    job: JobFolder,
    shelf: ModelShelf,
    stop: threading.Event,
    listener: Callable[[dict[str, Any]], None] | None = None,
) -> StateRecord | None:
    """Make the job's clip and leave the job in the state it deserves.

    Returns:
        The last state; None if another worker was faster.

    Raises:
        OSError, ProtocolError: the state itself cannot be read or written.
    """
    lock = job.lock
    if not lock.acquire(worker_name()):
        return None
    try:
        record = job.state()
        if record is None or record.state not in (JobState.QUEUED, *_BEGUN):
            return None
        progress = Progress(job, stop, listener)
        if record.state in _BEGUN:
            _move(job, progress, JobState.QUEUED, f"The worker {record.worker} died; the job goes on.")
        try:
            with progress.heartbeat():
                return _make(job, shelf, progress)
        except BaseException as error:
            return _conclude(job, progress, error)
    finally:
        lock.release()


def _make(job: JobFolder, shelf: ModelShelf, progress: Progress) -> StateRecord:
    _remove_results(job, what_was_begun=False)
    _move(job, progress, JobState.LOADING, "Loading the model.")
    progress.check()
    try:
        shot = job.shot()
    except ProtocolError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise ProtocolError(f"shot.json is not usable: {error}. Export the shot again.") from error
    models = shelf.get(shot.preset)
    progress.check()

    from .pipeline import make_clip

    _move(job, progress, JobState.RUNNING, "Making the clip.")
    clip = make_clip(job, shot, models, progress)
    clip.save(job.clip_json)
    with contextlib.suppress(OSError):  # on Windows a player may have it open
        (job.preview / "clip.mp4").unlink(missing_ok=True)
    shutil.rmtree(job.resume, ignore_errors=True)
    seconds = sum(clip.duration_s.values())
    return _move(job, progress, JobState.DONE, f"{clip.frame_count} frames in {seconds:.0f} s.")


def _conclude(job: JobFolder, progress: Progress, error: BaseException) -> StateRecord:
    """Record why a job ended early; a full disk gets its space back first.

    Nothing half-made stays, unless the job is to go on.
    """
    goes_on = isinstance(error, (Stopped, KeyboardInterrupt))
    _remove_results(job, what_was_begun=not goes_on)
    if isinstance(error, Cancelled):
        return _move(job, progress, JobState.CANCELLED, "Cancelled on request.")
    if goes_on:
        return _move(
            job, progress, JobState.QUEUED, "The worker was stopped; the next one goes on with the job."
        )
    if not isinstance(error, Exception):
        raise error
    try:
        progress.log("".join(traceback.format_exception(error)))
    except OSError:
        pass
    return _move(job, progress, JobState.FAILED, reason_for(error, job))


def reason_for(error: Exception, job: JobFolder) -> str:
    """What went wrong, and what to do about it, in words for the user."""
    if isinstance(error, (ProtocolError, VideoError)):
        return str(error)
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return f"The disk that holds {job.path.parent} is full; free some space and generate the shot again."
    if isinstance(error, PermissionError):
        return f"{error.filename or job.path} cannot be written; check who may write to the jobs folder."
    if (
        isinstance(error, MemoryError)
        or "allocate memory" in str(error)
        or "OutOfMemory" in type(error).__name__
    ):
        return "There is not enough memory for this shot; choose a smaller preset or a shorter range."
    return (
        f"The backend failed unexpectedly ({type(error).__name__}: {error}); "
        "log.txt in the job folder has the details."
    )


def _move(job: JobFolder, progress: Progress, to: JobState, reason: str) -> StateRecord:
    """Save, log, broadcast; when the disk is full the state alone must do."""
    record = job.state_file.move(to, reason, worker_name() if to in _BEGUN else "")
    try:
        progress.event("state", state=record.state, reason=reason)
        progress.log(f"{record.state}: {reason}")
    except OSError:
        if to in _BEGUN:
            raise
    return record


def _remove_results(job: JobFolder, what_was_begun: bool) -> None:
    """Delete results of an earlier attempt; and what an attempt has begun, if nobody will go on with it."""
    for path in (job.clip_mp4, job.clip_json, *job.path.glob(".*.tmp")):
        path.unlink(missing_ok=True)
    if what_was_begun:
        for folder in (job.preview, job.resume):
            shutil.rmtree(folder, ignore_errors=True)


def installed_ns() -> int:
    """When the code on the disk was installed, which this process may have loaded before; 0 if unknown."""
    try:
        return _MANIFEST.stat().st_mtime_ns
    except OSError:
        return 0


def worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def say(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {message}", file=sys.stderr, flush=True)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks that the operating system takes back when their process ends, however it ends."""

from __future__ import annotations

import os
import time
from pathlib import Path

if os.name == "nt":
    import msvcrt

    # Windows denies reading a locked byte, so the locked one lies far behind the note.
    _LOCKED_BYTE = 1 << 30
else:
    import fcntl


class FileLock:
    """An exclusive lock between processes; the file stays, only the lock on it comes and goes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, note: str = "") -> bool:
        """Take the lock if it is free, and leave `note` in the file for people to read.

        Tries for a fifth of a second, because a process that only asks `is_held` has the lock for a moment.

        Raises:
            OSError: the file cannot be made.
        """
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        give_up = time.monotonic() + 0.2
        while not _try_lock(descriptor):
            if time.monotonic() > give_up:
                os.close(descriptor)
                return False
            time.sleep(0.01)
        self._descriptor = descriptor
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, note.encode())
        except OSError:
            self.release()
            raise
        return True

    def release(self) -> None:
        """Give the lock back; nothing happens if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def is_held(self) -> bool:
        """Does any process, this one included, hold the lock?"""
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(descriptor)
        finally:
            os.close(descriptor)

    def note(self) -> str:
        """What the last holder wrote."""
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


def _try_lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def worker_lock(jobs_root: Path, device: str) -> FileLock:
    """Held as long as a worker serves `jobs_root` on `device`."""
    return FileLock(jobs_root / f".worker-{device.replace(':', '_')}.lock")

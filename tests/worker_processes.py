# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits for worker processes and reads what they leave in job folders."""

import hashlib
import time

from backend.protocol import ENDED


def wait_for(condition, what, timeout_s=180.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come within {timeout_s:g} s")


def ended(job):
    record = job.state()
    return record if record and record.state in ENDED else None


def events(job, kind=None):
    return [event for event in job.event_reader().poll() if kind in (None, event["kind"])]


def sha256(job):
    return hashlib.sha256(job.clip_mp4.read_bytes()).hexdigest()


def visible(folder):
    return {path.name for path in folder.iterdir()}


def finish(process, code=0, timeout_s=120):
    out, err = process.communicate(timeout=timeout_s)
    assert process.returncode == code, f"exit code {process.returncode}, stderr:\n{err}"
    return out, err

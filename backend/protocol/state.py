# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a job: which states there are and which may follow which."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from . import atomic
from .errors import ProtocolError
from .records import from_record


class JobState(StrEnum):
    """A job folder without a state file was exported and not queued yet."""

    QUEUED = "queued"
    LOADING = "loading"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


# queued follows loading and running when the worker was stopped or died; it follows the ends on a retry.
ALLOWED_MOVES: dict[JobState | None, frozenset[JobState]] = {
    None: frozenset({JobState.QUEUED}),
    JobState.QUEUED: frozenset({JobState.LOADING, JobState.CANCELLED, JobState.FAILED}),
    JobState.LOADING: frozenset({JobState.RUNNING, JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.DONE, JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}),
    JobState.DONE: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
}
ENDED = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True)
class StateRecord:
    """The content of `state.json`.

    Attributes:
        state: a JobState.
        reason: why, in a sentence.
        since: time of the change, seconds since the epoch.
        worker: host and process id of the worker that has the job, empty if none.
        submitted: when somebody last asked for the job, seconds since the epoch; a worker that puts the job
            back keeps it, so the job keeps its place in the queue.
    """

    state: str
    reason: str
    since: float
    worker: str = ""
    submitted: float = 0.0


class StateFile:
    """Owns `state.json`: the only code that reads or replaces it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> StateRecord | None:
        """The record, or None if the job was never queued."""
        if not self.path.exists():
            return None
        record = from_record(StateRecord, atomic.read_json(self.path), "state.json")
        if record.state not in list(JobState):
            raise ProtocolError(f"state.json names an unknown state {record.state!r}.")
        return record

    def put_in_place(self, submitted: float) -> StateRecord:
        """Give a waiting job another place in the queue; the caller holds the job's lock.

        Raises:
            ProtocolError: the job does not wait.
        """
        now = self.read()
        if now is None or now.state != JobState.QUEUED:
            raise ProtocolError("Only a job that waits has a place in the queue.")
        record = replace(now, submitted=submitted)
        atomic.write_json(self.path, asdict(record))
        return record

    def move(self, to: JobState, reason: str, worker: str = "") -> StateRecord:
        """Change the state.

        Raises:
            ProtocolError: the table does not allow this change.
        """
        now = self.read()
        state = None if now is None else JobState(now.state)
        if to not in ALLOWED_MOVES[state]:
            raise ProtocolError(f"A job that is {state or 'not queued'} cannot become {to}.")
        since = time.time()
        asked_anew = now is None or (to is JobState.QUEUED and state in ENDED)
        record = StateRecord(str(to), reason, since, worker, since if asked_anew else now.submitted)
        atomic.write_json(self.path, asdict(record))
        return record

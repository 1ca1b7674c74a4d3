# SPDX-License-Identifier: GPL-3.0-or-later
"""States, events and atomic files: what another process sees while a job lives."""

import json

import pytest

from backend.protocol import EventLog, EventReader, JobState, ProtocolError, atomic
from backend.protocol.state import ENDED, StateFile


def walk(path, *states: str) -> StateFile:
    state_file = StateFile(path / "state.json")
    for state in states:
        state_file.move(JobState(state), "because")
    return state_file


@pytest.mark.parametrize(
    "way",
    [
        "queued loading running done",
        "queued loading running failed queued loading running done",
        "queued cancelled queued",
        "queued loading queued loading cancelled",
        "queued loading running queued",
    ],
)
def test_ways_a_job_may_go(tmp_path, way):
    assert walk(tmp_path, *way.split()).read().state == way.split()[-1]


@pytest.mark.parametrize(
    "way", ["loading", "queued running", "queued done", "queued loading running done queued"]
)
def test_ways_a_job_may_not_go(tmp_path, way):
    *allowed, forbidden = way.split()
    state_file = walk(tmp_path, *allowed)
    before = state_file.read()
    with pytest.raises(ProtocolError, match=f"cannot become {forbidden}"):
        state_file.move(JobState(forbidden), "because")
    assert state_file.read() == before


def test_a_job_that_ended_well_or_badly_is_over():
    assert {state for state in JobState if state not in ("queued", "loading", "running")} == ENDED


def test_a_state_nobody_knows_is_refused(tmp_path):
    state_file = walk(tmp_path, "queued")
    record = json.loads(state_file.path.read_text()) | {"state": "paused"}
    state_file.path.write_text(json.dumps(record))
    with pytest.raises(ProtocolError, match="unknown state 'paused'"):
        state_file.read()


def test_events_are_read_once_whole_and_in_order(tmp_path):
    log, reader = EventLog(tmp_path / "events.jsonl"), EventReader(tmp_path / "events.jsonl")
    assert list(reader.poll()) == []
    log.append("progress", stage="denoise", step=1, steps=2, seconds_left=None)
    log.append("warning", message="ü")
    assert [event["kind"] for event in reader.poll()] == ["progress", "warning"]
    assert list(reader.poll()) == []


def test_a_crash_in_the_middle_of_an_event_loses_only_that_event(tmp_path):
    path = tmp_path / "events.jsonl"
    log, reader = EventLog(path), EventReader(path)
    log.append("heartbeat")
    with open(path, "ab") as file:
        file.write(b'{"time": 1, "kind": "progr')
    assert [event["kind"] for event in reader.poll()] == ["heartbeat"]
    log.append("warning", message="after the crash")
    assert [event["kind"] for event in reader.poll()] == ["warning"]


def test_a_failed_replacement_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "value.json"
    atomic.write_json(path, {"good": True})
    with pytest.raises(ValueError, match="JSON compliant"):
        atomic.write_json(path, {"bad": float("nan")})
    with pytest.raises(TypeError):
        atomic.write_bytes(path, "text")
    assert atomic.read_json(path) == {"good": True}
    assert [file.name for file in tmp_path.iterdir()] == ["value.json"]

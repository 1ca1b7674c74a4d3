# SPDX-License-Identifier: GPL-3.0-or-later
"""What stages that overlap tell the world."""

import threading

import pytest

from backend.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("backend.progress.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def heard(tmp_path, make_job):
    """A job's progress, and the events that a listener hears."""
    events = []
    return Progress(make_job(tmp_path), threading.Event(), events.append), events


def said(events):
    return [(event["stage"], event["step"], event["seconds_left"]) for event in events]


def test_a_later_stage_is_silent_until_its_turn_and_what_it_did_counts(clock, heard):
    progress, events = heard
    progress.plan({"denoise": 10.0, "render": 10.0})
    progress.step("render", 0, 10)
    progress.step("denoise", 0, 4)
    for step in range(1, 5):
        clock[0] += 10
        if step == 3:
            progress.step("render", 5, 10)
        progress.step("denoise", step, 4)
    assert [stage for stage, *_ in said(events)] == ["denoise"] * 5
    # A quarter took 10 s; three more of it are left, and a stage of the same cost.
    assert said(events)[:2] == [("denoise", 0, None), ("denoise", 1, 70.0)]
    clock[0] += 6
    progress.step("render", 8, 10)
    assert said(events)[-1] == ("render", 8, 4.0), "three tenths in 6 s since its turn, two are left"
    clock[0] += 4
    progress.step("render", 10, 10)
    assert said(events)[-1] == ("render", 10, 0.0)
    assert progress.stage_durations_s == {"denoise": 40.0, "render": 10.0}


def test_frames_of_an_earlier_run_took_no_time_of_this_one(clock, heard):
    progress, events = heard
    progress.plan({"render": 100.0})
    progress.step("render", 60, 100)
    clock[0] += 20
    progress.step("render", 80, 100)
    assert said(events) == [("render", 60, None), ("render", 80, 20.0)]

# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips made chunk by chunk, in every variant; and jobs that go on behind a crash."""

import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import imageio_ffmpeg
import numpy as np
import pytest

from backend.protocol import JobFolder, Preset
from backend.worker import ModelShelf, is_free, run_job
from tests.worker_processes import events, finish, sha256, visible, wait_for

SHELF = ModelShelf("cpu")


def preset(variant: str) -> Preset:
    steps = {"step_list": (1000, 727, 0)} if variant == "streaming" else {"steps": 2}
    return Preset(
        "test", "For tests.", "embedded", (160, 96), variant, guidance=1.0, network_blend=0.5, **steps
    )


def guided(variant: str) -> Preset:
    return replace(preset(variant), blockout_guidance=0.6, blockout_guidance_end=0.0)


def make(job: JobFolder, stop: threading.Event | None = None, listener=None):
    """Make the job in this process, with one set of models for all tests."""
    return run_job(job, SHELF, stop or threading.Event(), listener)


def pixels(job: JobFolder) -> np.ndarray:
    reader = imageio_ffmpeg.read_frames(str(job.clip_mp4))
    next(reader)
    return np.stack([np.frombuffer(frame, np.uint8) for frame in reader]).astype(int)


def test_a_killed_workers_job_is_gone_on_with_by_the_next_bit_for_bit(tmp_path, make_job, backend):
    shot = {"samples": 73, "preset": guided("streaming")}
    undisturbed, job = make_job(tmp_path / "calm", **shot), make_job(tmp_path / "jobs", **shot)
    finish(backend("run", undisturbed.path))

    first = backend("worker", "--jobs", tmp_path / "jobs")
    wait_for(lambda: events(job, "frames"), "the first frames")
    first.kill()
    first.wait()
    assert job.state().state == "running" and not job.clip_mp4.exists()
    assert is_free(job, job.state())
    with open(job.events.path, "a") as file:
        file.write('{"time": 1, "kind": "prog')  # what a crash in the middle of a line leaves
    made = [event["count"] for event in events(job, "frames")]
    assert made[0] == 25

    finish(backend("worker", "--jobs", tmp_path / "jobs", "--idle-exit", "0.2"))
    assert job.state().state == "done"
    assert sha256(job) == sha256(undisturbed)
    counts = [event["count"] for event in events(job, "frames")]
    # A chunk may be in the file before it is reported, but none is made twice.
    assert counts[: len(made)] == made and counts[len(made)] > made[-1] and counts[-1] == 73
    assert [event["state"] for event in events(job, "state")] == [
        *("loading", "running", "queued", "loading", "running", "done")
    ]
    assert "died" in next(event["reason"] for event in events(job, "state") if event["state"] == "queued")
    assert visible(job.path) >= {"clip.mp4", "clip.json"} and not list(job.path.glob(".*.tmp"))
    assert not job.resume.exists()


@pytest.mark.parametrize("variant", ["bidirectional", "chunk_causal", "streaming"])
def test_latents_that_were_not_rendered_yet_are_not_lost(tmp_path, make_job, variant):
    shot = {"samples": 73, "preset": guided(variant)}
    undisturbed, job = make_job(tmp_path / "calm", **shot), make_job(tmp_path / "jobs", **shot)
    make(undisturbed)
    ahead, stop = 1 if variant == "bidirectional" else 3, threading.Event()

    def stop_after_the_first_portion(event):
        if event["stage"] == "render" and event["step"] == 25:
            wait_for(lambda: len(list(job.resume.glob("latents*"))) >= ahead, "sampling ahead")
            stop.set()

    assert make(job, stop, stop_after_the_first_portion).state == "queued"
    kept = {path.name: path.stat().st_mtime_ns for path in job.resume.glob("latents*")}
    stop.clear()
    assert make(job, stop).state == "done"
    assert sha256(job) == sha256(undisturbed)
    assert len(kept) >= ahead
    assert [event["count"] for event in events(job, "frames")] == [25, 49, 73]


def test_a_cancelled_stream_ends_at_once_and_leaves_nothing(tmp_path, make_job):
    job = make_job(tmp_path, samples=97, preset=preset("streaming"))
    assert make(job, listener=lambda event: job.request_cancel()).state == "cancelled"
    assert events(job, "frames") == []
    assert not job.preview.exists() and not job.resume.exists() and not job.clip_mp4.exists()


def test_what_was_begun_for_another_request_is_not_gone_on_with(tmp_path, make_job):
    job = make_job(tmp_path / "jobs", samples=49, preset=preset("streaming"))
    stop = threading.Event()
    make(job, stop, lambda event: stop.set() if event["step"] == 25 else None)
    record = json.loads(job.shot_json.read_text())
    job.shot_json.write_text(json.dumps({**record, "seed": 8}))
    assert make(job).state == "done"
    fresh = make_job(tmp_path / "fresh", samples=49, preset=preset("streaming"), seed=8)
    make(fresh)
    assert sha256(job) == sha256(fresh)
    assert [event["count"] for event in events(job, "frames")] == [25, 25, 49]


def test_the_three_variants_film_the_same_shot_each_with_weights_of_its_own(tmp_path, make_job):
    clips, networks = {}, {}
    for variant in ("bidirectional", "chunk_causal", "streaming"):
        job = make_job(tmp_path, code=variant, samples=49, preset=preset(variant))
        make(job)
        clip = job.clip()
        assert not [warning for warning in clip.warnings if "untrained" in warning]
        (networks[variant],) = (name for name in clip.model if name.startswith("stage1"))
        clips[variant] = pixels(job)
    assert len(set(networks.values())) == 3, networks
    for variant in ("chunk_causal", "streaming"):
        difference = np.abs(clips[variant] - clips["bidirectional"])
        assert difference[0].max() == 0, "the first frame is given"
        assert 0 < difference.mean() < 3, f"{variant}: {difference.mean():.2f}"


@pytest.mark.parametrize("variant", ["bidirectional", "chunk_causal", "streaming"])
def test_guidance_changes_the_holes_of_a_clip_and_is_recorded(tmp_path, make_job, variant):
    late = replace(guided(variant), blockout_guidance_end=1.0)
    presets = preset(variant), guided(variant), late
    plain, drawn, late = (make_job(tmp_path, samples=25, preset=how) for how in presets)
    for job in (plain, drawn, late):
        assert make(job).state == "done"
    assert drawn.clip().preset["blockout_guidance"] == 0.6
    change = np.abs(pixels(drawn) - pixels(plain))
    assert change[0].max() == 0 and 0 < change.max() and change.mean() < 1
    assert np.array_equal(pixels(late), pixels(plain))
    assert [w for w in late.clip().warnings if "Blockout guidance does nothing: it ends at 1" in w]
    assert not [w for w in drawn.clip().warnings if "Blockout guidance" in w]


def test_a_preview_hatches_what_the_first_frame_never_saw_and_nothing_else(tmp_path, make_job):
    plain = replace(preset("bidirectional"), network_blend=0.0)
    clips = {}
    for marks in (False, True):
        job = make_job(tmp_path, samples=25, preset=replace(plain, marks_unseen=marks))
        assert make(job).state == "done"
        clips[marks] = pixels(job).reshape(25, 96, 160, 3)
    change = np.abs(clips[True] - clips[False]).max(axis=-1)
    assert change[0].mean() < 1, "the first frame is seen whole; the encoder looks a little ahead"
    # The camera drives to the right: what comes in there was never seen.
    assert change[-1, :, 155:].max() > 40
    assert (change[-1] < 6).mean() > 0.6, "most of the picture was seen"


def test_a_longer_clip_of_the_student_begins_like_a_shorter_one(tmp_path, make_job):
    clips = []
    for samples in (25, 49):
        job = make_job(tmp_path / "once", samples=samples)
        still = replace(job.shot().blockout, motion=np.tile(np.eye(4), (1, samples, 1, 1)))
        job = make_job(tmp_path, samples=samples, preset=preset("streaming"), blockout=still)
        make(job)
        clips.append(pixels(job))
    assert np.array_equal(clips[0], clips[1][:25])


def test_steps_of_the_checkpoint_are_used_and_said(tmp_path, make_job):
    other, job = (make_job(tmp_path, samples=25, preset=preset("streaming")) for _ in range(2))
    make(other)
    models = SHELF.get(job.shot().preset)
    trained = replace(models, trained_steps=(1000.0, 500.0, 250.0, 0.0))
    shelf = SimpleNamespace(get=lambda preset: trained)
    run_job(job, shelf, threading.Event())
    (said,) = [warning for warning in job.clip().warnings if "denoising steps" in warning]
    assert "1000, 500, 250, 0" in said and job.clip().preset["step_list"] == [1000, 500, 250, 0]
    assert not np.array_equal(pixels(job), pixels(other))

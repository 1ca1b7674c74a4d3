# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips made chunk by chunk, in every variant; and jobs that go on behind a crash."""

import json

import imageio_ffmpeg
import numpy as np
import pytest

from backend.protocol import Preset
from backend.worker import is_free
from tests.worker_processes import events, finish, sha256, visible, wait_for


def preset(variant: str) -> Preset:
    steps = {"step_list": (1000, 727, 0)} if variant == "streaming" else {"steps": 2}
    return Preset(
        "test", "For tests.", "embedded", (160, 96), variant, guidance=1.0, network_blend=0.5, **steps
    )


@pytest.mark.parametrize("variant", ["bidirectional", "chunk_causal", "streaming"])
def test_a_killed_workers_job_is_gone_on_with_by_the_next_bit_for_bit(tmp_path, make_job, backend, variant):
    shot = {"samples": 97, "preset": preset(variant)}
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
    kept = {path.name: path.stat().st_mtime_ns for path in job.resume.glob("latents*")}
    assert kept and made[0] == 25

    finish(backend("worker", "--jobs", tmp_path / "jobs", "--idle-exit", "0.2"))
    assert job.state().state == "done"
    assert sha256(job) == sha256(undisturbed)
    counts = [event["count"] for event in events(job, "frames")]
    # A chunk may be in the file before it is reported, but none is made twice.
    assert counts[: len(made)] == made and counts[len(made)] > made[-1] and counts[-1] == 97
    assert [event["state"] for event in events(job, "state")] == [
        *("loading", "running", "queued", "loading", "running", "done")
    ]
    assert "died" in next(event["reason"] for event in events(job, "state") if event["state"] == "queued")
    assert visible(job.path) >= {"clip.mp4", "clip.json"} and not list(job.path.glob(".*.tmp"))
    assert not job.resume.exists()


def test_what_was_begun_for_another_request_is_not_gone_on_with(tmp_path, make_job, backend):
    job = make_job(tmp_path / "jobs", samples=49, preset=preset("streaming"))
    worker = backend("worker", "--jobs", tmp_path / "jobs")
    wait_for(lambda: events(job, "frames"), "the first frames")
    worker.kill()
    worker.wait()
    record = json.loads(job.shot_json.read_text())
    job.shot_json.write_text(json.dumps({**record, "seed": 8}))
    finish(backend("worker", "--jobs", tmp_path / "jobs", "--idle-exit", "0.2"))
    fresh = make_job(tmp_path / "fresh", samples=49, preset=preset("streaming"), seed=8)
    finish(backend("run", fresh.path))
    assert sha256(job) == sha256(fresh)
    assert [event["count"] for event in events(job, "frames")][-2:] == [25, 49]


def test_the_three_variants_film_the_same_shot_and_say_what_was_trained(tmp_path, make_job, backend):
    clips = {}
    for variant in ("bidirectional", "chunk_causal", "streaming"):
        job = make_job(tmp_path, code=variant, samples=49, preset=preset(variant))
        finish(backend("run", job.path))
        warned = [warning for warning in job.clip().warnings if "untrained" in warning]
        assert bool(warned) is (variant != "bidirectional"), warned
        reader = imageio_ffmpeg.read_frames(str(job.clip_mp4))
        next(reader)
        clips[variant] = np.stack([np.frombuffer(frame, np.uint8) for frame in reader]).astype(int)
    for variant in ("chunk_causal", "streaming"):
        difference = np.abs(clips[variant] - clips["bidirectional"])
        assert difference[0].max() == 0, "the first frame is given"
        assert 0 < difference.mean() < 3, f"{variant}: {difference.mean():.2f}"

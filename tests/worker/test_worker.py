# SPDX-License-Identifier: GPL-3.0-or-later
"""Real worker processes on real job folders."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import imageio_ffmpeg
import numpy as np
import pytest

from backend.progress import Repeated
from backend.protocol import JobFolder, worker_lock
from tests.worker_processes import ended, events, finish, sha256, visible, wait_for
from tools import package

LONG = {"samples": 321}


def metadata(path):
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-loglevel",
        "error",
        "-i",
        str(path),
        "-f",
        "ffmetadata",
        "-",
    ]
    text = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    lines = [re.sub(r"\\(.)", r"\1", line) for line in text.splitlines()]
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_jobs_are_made_in_order_and_equal_shots_give_equal_clips(tmp_path, make_job, backend):
    later = make_job(tmp_path, code="A_later")
    time.sleep(0.01)
    last = make_job(tmp_path, code="A_last", seed=7)
    later.state_file.move("cancelled", "by hand")
    later.queue()  # asked for again, so it now comes after the other one
    finish(backend("worker", "--jobs", tmp_path, "--idle-exit", "0.2"))
    assert last.state().state == later.state().state == "done"
    assert last.state().since < later.state().since

    reader = imageio_ffmpeg.read_frames(str(later.clip_mp4))
    about = next(reader)
    frames = [np.frombuffer(frame, np.uint8) for frame in reader]
    assert (about["fps"], about["size"], len(frames)) == (16.0, (160, 96), 17)
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 3, "the camera moves, so must the picture"

    clip = later.clip()
    assert (clip.frame_count, clip.image_size, clip.pose_offset, clip.seed) == (17, (160, 96), 0, 7)
    assert clip.ai_generated and clip.versions["torch"] and sum(clip.duration_s.values()) > 0
    tags = metadata(later.clip_mp4)
    record = json.loads(tags["comment"])
    assert record["ai_generated"] and record["seed"] == 7 and record["preset"]["name"] == "test"
    assert record["model"] == clip.model and record["versions"] == clip.versions
    assert tags["title"] == "Drive past" and "AI-generated" in tags["description"]

    states = [event["state"] for event in events(later, "state")]
    assert states == ["loading", "running", "done"]
    progress = events(later, "progress")
    assert all(0 <= event["step"] <= event["steps"] and event["memory_mb"] > 0 for event in progress)
    assert progress[-1]["step"] == progress[-1]["steps"] and progress[-1]["seconds_left"] == 0
    assert [event["count"] for event in events(later, "frames")] == [17]
    assert "done" in later.log_txt.read_text()
    assert visible(later.preview) == {"latest.png"} and not later.resume.exists()

    # The seed is in the metadata, so only a shot of the same code, name and seed can be the same file.
    again = make_job(tmp_path / "again", code="A_later")
    finish(backend("run", again.path))
    assert sha256(again) == sha256(later)


def test_a_worker_leaves_when_another_version_is_installed(tmp_path, backend, pytestconfig):
    extension, jobs = tmp_path / "sana_wm", tmp_path / "jobs"
    package.stage(pytestconfig.rootpath, extension)
    worker = backend("worker", "--jobs", jobs, cwd=extension)
    wait_for(lambda: worker_lock(jobs, "cpu").is_held(), "the worker")
    shutil.copyfile(pytestconfig.rootpath / "blender_manifest.toml", extension / "blender_manifest.toml")
    assert "installed anew" in finish(worker)[1]
    assert not worker_lock(jobs, "cpu").is_held()


def test_one_worker_per_device_and_a_stopped_one_gives_its_job_back(tmp_path, make_job, backend):
    job = make_job(tmp_path, **LONG)
    submitted = job.state().submitted
    worker = backend("worker", "--jobs", tmp_path)
    wait_for(lambda: events(job, "frames"), "the first frames")

    _, sentence = finish(backend("worker", "--jobs", tmp_path), code=3)
    assert "already serves" in sentence and str(worker.pid) in sentence and "Traceback" not in sentence
    _, sentence = finish(backend("run", job.path), code=3)
    assert "running" in sentence

    worker.send_signal(signal.SIGTERM)
    finish(worker, code=130, timeout_s=20)
    record = job.state()
    assert record.state == "queued" and record.worker == "" and record.submitted == submitted
    assert "goes on" in record.reason and not job.lock.is_held()
    assert job.resume.exists() and (job.preview / "clip.mp4").exists(), "the next worker goes on from there"


def test_cancelling_takes_effect_within_a_step_for_running_and_waiting_jobs(tmp_path, make_job, backend):
    running, waiting = make_job(tmp_path, **LONG), make_job(tmp_path, **LONG)
    worker = backend("worker", "--jobs", tmp_path, "--idle-exit", "0.2")
    wait_for(lambda: events(running, "frames"), "the first frames")
    waiting.request_cancel()
    wait_for(lambda: ended(waiting), "the waiting job's end", timeout_s=10)
    assert running.state().state == "running", "the running job goes on meanwhile"
    before = len(events(running, "progress"))
    running.request_cancel()
    wait_for(lambda: ended(running), "the running job's end", timeout_s=10)
    assert len(events(running, "progress")) <= before + 2
    assert running.state().state == waiting.state().state == "cancelled"
    assert not running.preview.exists() and not running.resume.exists() and not running.clip_mp4.exists()
    finish(worker)


def _edit(job, change):
    record = json.loads(job.shot_json.read_text())
    change(record)
    job.shot_json.write_text(json.dumps(record))


BREAKAGES = {
    "no_shot": (lambda job: job.shot_json.unlink(), "shot.json is missing"),
    "half_shot": (lambda job: job.shot_json.write_text('{"schema_version": 1, "co'), "not readable JSON"),
    "list_shot": (lambda job: job.shot_json.write_text("[1, 2]"), "shot.json"),
    "future": (lambda job: _edit(job, lambda r: r.update(schema_version=99)), "schema version 99"),
    "no_preset": (lambda job: _edit(job, lambda r: r.pop("preset")), "preset"),
    "odd_size": (
        lambda job: _edit(job, lambda r: r["preset"].update(image_size="wide")),
        "shot.json is not usable",
    ),
    "model": (
        lambda job: _edit(job, lambda r: r["preset"].update(model="gigantic")),
        "wants the model gigantic, which this version does not know",
    ),
    "no_frame": (lambda job: job.first_frame_png.unlink(), "first_frame.png is missing"),
    "half_frame": (
        lambda job: job.first_frame_png.write_bytes(job.first_frame_png.read_bytes()[:60]),
        "first_frame.png is not a readable image",
    ),
    "camera": (lambda job: job.camera_npz.write_bytes(b"PK nonsense"), "camera.npz.*damaged"),
    "short_camera": (lambda job: _other_camera(job), "samples"),
    "blockout": (lambda job: job.blockout_npz.unlink(), "blockout.npz is missing"),
}


def _other_camera(job):
    camera = job.shot().camera
    type(camera)(camera.c2w[:9], camera.intrinsics[:9], camera.image_size).save(job.camera_npz)


def test_damaged_jobs_fail_with_a_sentence_and_the_worker_lives_on(tmp_path, make_job, backend):
    jobs = {name: make_job(tmp_path, code=name) for name in BREAKAGES}
    for name, (damage, _) in BREAKAGES.items():
        damage(jobs[name])
    unreadable = make_job(tmp_path, code="unreadable")
    unreadable.state_file.path.write_text("{")
    good = make_job(tmp_path, code="good", samples=9)
    _, said = finish(backend("worker", "--jobs", tmp_path, "--idle-exit", "0.2"))
    assert good.state().state == "done"
    for name, (_, expected) in BREAKAGES.items():
        record = jobs[name].state()
        assert record.state == "failed" and re.search(expected, record.reason), f"{name}: {record}"
        assert record.reason.rstrip().endswith((".", "?")) and "Traceback" not in record.reason
        assert not jobs[name].clip_mp4.exists() and not jobs[name].preview.exists()
    assert "unreadable" in said and unreadable.state_file.path.read_text() == "{"


def test_a_full_disk_fails_the_job_and_the_state_stays_true(tmp_path, make_job, backend):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        job = make_job(disk)
        noise = np.random.default_rng(0).integers(0, 255, (96, 160, 3), dtype=np.uint8)
        from PIL import Image

        Image.fromarray(noise).save(job.first_frame_png)
        room = os.statvfs(disk)
        filler = disk / "filler"
        filler.write_bytes(bytes(room.f_bavail * room.f_frsize - 32 * 1024))
        worker = backend("worker", "--jobs", disk)
        record = wait_for(lambda: ended(job), "the job's end")
        assert record.state == "failed" and "is full" in record.reason
        assert not job.clip_mp4.exists() and not job.clip_json.exists() and not job.preview.exists()
        assert not list(job.path.glob(".*.tmp"))
        filler.unlink()
        job.queue()
        wait_for(lambda: ended(job), "the second try's end")
        assert job.state().state == "done" and job.clip().frame_count == 17
        worker.terminate()
        worker.wait()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_vanishing_folders_are_survived_or_reported(tmp_path, make_job, backend):
    root = tmp_path / "jobs"
    job = make_job(root, **LONG)
    worker = backend("worker", "--jobs", root)
    wait_for(lambda: events(job, "frames"), "the first frames")
    shutil.rmtree(job.path)
    other = make_job(root, code="other", samples=9)
    wait_for(lambda: ended(other), "the next job's end")
    assert other.state().state == "done" and not job.path.exists()
    shutil.rmtree(root)
    _, said = finish(worker, code=3, timeout_s=20)
    assert "has vanished" in said and "Traceback" not in said and not root.exists()


def test_an_exported_job_runs_and_is_submitted(tmp_path, make_job, backend):
    exported = make_job(tmp_path / "exported", queue=False, samples=9)
    jobs = tmp_path / "jobs"
    submissions = [backend("submit", exported.path, "--jobs", jobs) for _ in range(3)]
    paths = {finish(process)[0].strip() for process in submissions}
    assert paths == {str(jobs / f"010_0030-v{take:03d}") for take in (1, 2, 3)}
    assert visible(jobs) == {"010_0030-v001", "010_0030-v002", "010_0030-v003"}
    copy = JobFolder(jobs / "010_0030-v001")
    assert copy.state().state == "queued" and copy.shot() == exported.shot()
    assert exported.state() is None, "the exported folder is not touched"

    out, shown = finish(backend("run", exported.path))
    assert str(exported.clip_mp4) in out and exported.clip().frame_count == 9
    assert re.search(r"\w+ 1/\d", shown), "progress is shown"
    out, _ = finish(backend("run", exported.path))
    assert "done already" in out

    _, sentence = finish(backend("submit", exported.path, "--jobs", exported.shot_json), code=3)
    assert "could not be copied" in sentence and "Traceback" not in sentence
    exported.camera_npz.write_bytes(b"")
    _, sentence = finish(backend("submit", exported.path, "--jobs", jobs), code=2)
    assert "camera.npz" in sentence and "Traceback" not in sentence
    assert len(visible(jobs)) == 3


def test_wrong_words_are_reported_before_anything_heavy_is_loaded(tmp_path, backend):
    for words in (
        ["worker"],
        ["worker", "--jobs", tmp_path, "--device", "cuda:"],
        ["worker", "--jobs", tmp_path, "--idle-exit", "soon"],
        ["run", tmp_path / "nowhere"],
        ["bake"],
    ):
        _, said = finish(backend(*words), code=2)
        assert "Traceback" not in said
    _, said = finish(backend("worker", "--jobs", tmp_path / "no" / "such"), code=3)
    assert "Traceback" not in said and "create it" in said
    check = "import sys, backend.__main__, backend.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


def test_the_heart_beats_while_the_main_thread_is_busy():
    beats, twice = [], threading.Event()

    def beat():
        beats.append(1)
        if len(beats) == 2:
            twice.set()
        if len(beats) == 1:
            raise OSError("the disk is full for a moment")

    with Repeated(beat, 0.01):
        assert twice.wait(10)
    count = len(beats)
    time.sleep(0.05)
    assert len(beats) == count, "no beat after the end"

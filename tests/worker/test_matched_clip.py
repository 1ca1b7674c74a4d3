# SPDX-License-Identifier: GPL-3.0-or-later
"""Every clip is measured against its camera when it is written, and none is lost by that."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from backend import camera_match, pipeline
from backend.__main__ import main
from backend.protocol import JobFolder, Preset
from backend.worker import ModelShelf, run_job
from tests.worker_processes import events

# No network takes part: the clip is the first frame carried along the path, which follows the camera by construction.
PLAIN = Preset("test", "For tests.", "embedded", (320, 192), steps=1, guidance=1.0, network_blend=0.0)
FRAMES = 25


@pytest.fixture
def make(tmp_path, make_job):
    """A job whose first frame has detail everywhere, made."""

    def make(**changes) -> JobFolder:
        job = make_job(tmp_path, samples=FRAMES, **{"preset": PLAIN, "size": (320, 192), **changes})
        cells = np.random.default_rng(2).integers(0, 255, (24, 40), dtype=np.uint8)
        Image.fromarray(cells).resize((320, 192), Image.Resampling.NEAREST).convert("RGB").save(
            job.first_frame_png
        )
        run_job(job, ModelShelf("cpu"), threading.Event())
        return job

    return make


def test_a_clip_says_whether_it_follows_its_camera(make, capsys):
    job = make()
    clip = job.clip()
    match = clip.match
    assert match.unmeasured == "" and match.frame_count == FRAMES
    assert max(match.heading_deg) < 0.3 and 0.97 < match.path_scale < 1.03
    assert clip.duration_s["match"] > 0
    stages = list(dict.fromkeys(event["stage"] for event in events(job, "progress")))
    assert stages == ["render", "write", "match"]

    before = job.clip_json.read_bytes()
    assert main(["match", str(job.path), "--paper"]) == 0
    said = capsys.readouterr().out
    assert match.in_words() in said and "RotErr" in said and job.clip_json.read_bytes() == before
    replace(clip, match=None).save(job.clip_json)
    assert main(["match", str(job.path), "--save"]) == 0
    assert job.clip().match == match


def test_a_preview_is_not_measured(make):
    job = make(preset=replace(PLAIN, marks_unseen=True))
    assert job.state().state == "done" and "preview" in job.clip().match.unmeasured


def test_a_measurement_that_fails_does_not_cost_the_clip(make, monkeypatch):
    def fail(*_):
        raise ValueError("an eigenvalue is missing")

    monkeypatch.setattr(pipeline, "match_camera", fail)
    job = make()
    assert job.state().state == "done" and job.clip_mp4.exists()
    assert "log.txt" in job.clip().match.unmeasured
    assert "an eigenvalue is missing" in job.log_txt.read_text()


def test_a_job_is_cancelled_while_it_is_measured(tmp_path, make, monkeypatch):
    def cancelled_at_ten(frames, blockout, path, pose_offset, on_frame):
        def count(number: int) -> None:
            if number == 10:
                JobFolder(next(tmp_path.glob("010_*"))).request_cancel()
            on_frame(number)
            assert number < 10, "the measurement goes on"

        return camera_match.match_camera(frames, blockout, path, pose_offset, count)

    monkeypatch.setattr(pipeline, "match_camera", cancelled_at_ten)
    job = make()
    assert job.state().state == "cancelled" and not job.clip_mp4.exists() and not job.preview.exists()


def test_a_job_without_a_clip_is_refused_in_a_sentence(tmp_path, make_job, capsys):
    job = make_job(tmp_path)
    assert main(["match", str(job.path)]) == 2
    said = capsys.readouterr().err
    assert "clip.json is missing" in said and "Traceback" not in said

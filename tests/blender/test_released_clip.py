# SPDX-License-Identifier: GPL-3.0-or-later
"""A miniature of the released weights, from the preferences and Generate to the strip, with real workers."""

import math
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import bpy
import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 150
SIZE = 160, 96
WRITE_RELEASE = """
import sys
from pathlib import Path
from tests.miniature_release import write_release
write_release(Path(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def workers_leave_soon(addon):
    addon("backend_process").IDLE_EXIT_S = 10  # one worker for the jobs of a test


@pytest.fixture(scope="module")
def release(backend_python, tmp_path_factory):
    """The weights folder, as it is after a download: nothing accepted, the student's checkpoint not converted."""
    root = tmp_path_factory.mktemp("weights")
    command = [str(backend_python), "-c", WRITE_RELEASE, str(root)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    return root


@pytest.fixture
def session(addon):
    return addon("session")


@pytest.fixture
def scene(film, addon, release, monkeypatch):
    """The film at a size that the miniature makes in seconds; long enough for a chunk of the streaming variant."""
    preferences = addon("paths").preferences()
    preferences.weights_folder = str(release)
    presets = addon("properties").presets()
    for stem in ("sana_wm_final", "sana_wm_draft"):
        monkeypatch.setitem(presets, stem, replace(presets[stem], image_size=SIZE, steps=2))
    film.sana_wm.frame_end = film.sana_wm.frame_start + math.ceil(1.5 * film.render.fps)
    film.sana_wm.prompt = "a red house in the street"
    yield film
    preferences.weights_folder = ""


def tick_until(session, condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(min(0.1, session.tick()))


def made(session, scene):
    """Generate, and follow the job to its end."""
    assert bpy.ops.sanawm.generate() == {"FINISHED"}
    job = session.supervisor.latest(scene.session_uid)
    tick_until(session, lambda: job.is_settled or not job.is_active)
    return job


def strip_of(scene, job):
    editor = scene.sequence_editor
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    return next(strip for strip in strips if strip.name == job.name)


def test_from_the_preferences_to_the_strip(scene, session, release, tmp_path):
    scene.sana_wm.preset = "sana_wm_final"
    with pytest.raises(RuntimeError, match="licence of .* was not accepted"):
        bpy.ops.sanawm.generate()
    assert not session.supervisor.jobs, "nothing was begun"
    for licence in ("sana_wm", "ltx2", "gemma"):
        assert bpy.ops.sanawm.accept_licence(licence=licence) == {"FINISHED"}

    job = made(session, scene)
    assert (job.record.state, job.trouble) == ("done", ""), job.record.reason
    clip = job.folder.clip()
    assert (clip.frame_count, clip.pose_offset) == (24, 1), "25 poses; the refiner drops the first frame"
    assert {"stage1_bidirectional", "refiner", "vae"} <= set(clip.model)
    strip = strip_of(scene, job)
    # Frame i shows pose i + 1, a sixteenth of a second after the shot begins.
    fps = scene.render.fps / scene.render.fps_base
    begins = strip.frame_final_start if hasattr(strip, "frame_final_start") else strip.left_handle
    assert begins == pytest.approx(scene.sana_wm.frame_start + fps / 16, abs=1)
    assert strip.frame_final_duration == pytest.approx(24 / 16 * fps, abs=1)

    # The prompt is on the disk now, so a second take needs neither text encoder.
    encoders = [release / "gemma-2-2b-it", release / "SANA-WM_bidirectional" / "refiner" / "text_encoder"]
    for folder in encoders:
        folder.rename(folder.with_name("put_away_" + folder.name))
    try:
        scene.sana_wm.seed += 1
        second = made(session, scene)
        assert second.record.state == "done", second.record.reason
        scene.sana_wm.prompt = "a blue house"
        third = made(session, scene)
        assert third.record.state == "failed" and "Gemma" in third.record.reason
    finally:
        for folder in encoders:
            folder.with_name("put_away_" + folder.name).rename(folder)


def test_the_student_is_converted_first_and_a_damaged_file_is_named(scene, session, release):
    bpy.ops.sanawm.accept_licence(licence="sana_wm")
    bpy.ops.sanawm.accept_licence(licence="ltx2")
    bpy.ops.sanawm.accept_licence(licence="gemma")
    scene.sana_wm.preset = "sana_wm_draft"
    with pytest.raises(RuntimeError, match="converted, once; press Convert"):
        bpy.ops.sanawm.generate()
    assert bpy.ops.sanawm.convert_weights() == {"FINISHED"}
    tick_until(session, lambda: not session.is_on_weights_errand())
    assert session.weights_errand.outcome == "done", session.weights_errand.message

    weights = next(
        (release / "SANA-WM_streaming" / "refiner_diffusers" / "transformer").glob("*.safetensors")
    )
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    job = made(session, scene)
    assert job.record.state == "failed"
    assert f"{weights.name} in" in job.record.reason and "truncated" in job.record.reason
    assert "download it again" in job.record.reason

    weights.write_bytes(whole)
    job = made(session, scene)
    assert job.record.state == "done", job.record.reason
    assert job.folder.clip().frame_count == 24 and "refiner_streaming" in job.folder.clip().model
    assert strip_of(scene, job)

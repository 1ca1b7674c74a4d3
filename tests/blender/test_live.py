# SPDX-License-Identifier: GPL-3.0-or-later
"""The clip that grows in the camera's background while it is made."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import bpy
import pytest

from tests import numbered_clip
from tests.numbered_clip import SHORT


@pytest.fixture
def scene(empty_file):
    empty_file.render.fps = 24
    empty_file.collection.objects.link(bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera")))
    empty_file.camera = bpy.data.objects["Camera"]
    return empty_file


@pytest.fixture
def growing_job(scene, finished_job, backend_python, tmp_path):
    """A job without a result, and a function that lets its clip grow to 25, 49 or 73 frames."""
    numbered_clip.write(backend_python, tmp_path / "clip.mp4", 73, keep_each_state=True)
    job = finished_job(scene, SHORT, frame_start=11)
    for path in (job.clip_mp4, job.clip_json):
        path.unlink()
    job.preview.mkdir()
    followed = SimpleNamespace(
        folder=job, name=job.name, growing_clip=None, frames_made=0, is_done=False, shot_code="010_0010"
    )

    def grow(frames):
        shutil.copy(tmp_path / f"{frames}.mp4", job.preview / "clip.mp4")
        followed.growing_clip, followed.frames_made = job.preview / "clip.mp4", frames

    return followed, grow


def test_the_overlay_grows_with_the_clip_and_ends_as_the_finished_one(
    scene, addon, growing_job, monkeypatch, protocol, tmp_path
):
    job, grow = growing_job
    live, overlay = addon("compare.live"), addon("compare.overlay")
    monkeypatch.setattr(addon("session"), "latest_job", lambda _scene: job)
    grow(25)
    live.follow(scene)
    assert overlay.shown_overlay(scene) is None, "not asked for"
    bpy.context.window_manager.sana_wm_view.is_live = True
    live.follow(scene)
    background = overlay.overlay_of(scene.camera.data)
    assert background.image.frame_duration == 25 and overlay.shown_overlay(scene) is not None
    background.alpha = 0.8
    grow(49)
    live.follow(scene)
    background = overlay.overlay_of(scene.camera.data)
    assert background.image.frame_duration == 49
    assert background.alpha == pytest.approx(0.8), "the artist's opacity stays"
    assert sum(image.source == "MOVIE" for image in bpy.data.images) == 1, "shorter states are not kept"

    shutil.copy(tmp_path / "73.mp4", job.folder.clip_mp4)
    preset = job.folder.shot().preset
    protocol.Clip(73, preset.image_size, 0, preset.to_record(), 7, {}, {}).save(job.folder.clip_json)
    job.growing_clip, job.is_done = None, True
    live.follow(scene)
    assert bpy.path.abspath(overlay.overlay_of(scene.camera.data).image.filepath) == str(job.folder.clip_mp4)
    bpy.context.window_manager.sana_wm_view.is_live = False


def test_the_refiners_missing_frame_counts_while_the_clip_grows(protocol):
    preset = protocol.Preset("Test", "For the test", "embedded", (96, 64))
    assert preset.pose_offset == 0 and replace(preset, refiner=True).pose_offset == 1

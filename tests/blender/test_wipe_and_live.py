# SPDX-License-Identifier: GPL-3.0-or-later
"""The wipe's place and frames, and the clip that grows in the camera's background."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from tests import numbered_clip
from tests.numbered_clip import FPS, SHORT


@pytest.fixture
def scene(empty_file):
    empty_file.render.fps = 24
    empty_file.collection.objects.link(bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera")))
    empty_file.camera = bpy.data.objects["Camera"]
    return empty_file


@pytest.mark.parametrize(
    "frame_size, clip_size, expected",
    [
        ((1920, 1080), (1280, 704), (0, 12, 1920, 1068)),  # 16:9 loses 12 rows at top and bottom
        ((1280, 704), (1280, 704), (0, 0, 1280, 704)),
        ((2048, 858), (1280, 704), (244, 0, 1804, 858)),  # a wide picture loses its sides
    ],
)
def test_the_clip_lies_in_the_middle_of_the_cameras_frame(addon, frame_size, clip_size, expected):
    width, height = frame_size
    corners = np.array([(100, 50), (100 + width, 50), (100 + width, 50 + height), (100, 50 + height)])
    rectangle = addon("compare.wipe").clip_rectangle(corners, clip_size)
    found = rectangle.left - 100, rectangle.bottom - 50, rectangle.right - 100, rectangle.top - 50
    np.testing.assert_allclose(found, expected, atol=0.6)


def test_the_line_stays_inside_of_the_clip(addon):
    rectangle = addon("compare.wipe").Rectangle(100, 0, 300, 100)
    assert [rectangle.share(x) for x in (0, 100, 150, 300, 999)] == [0, 0, 0.25, 1, 1]
    assert rectangle.at(0.25) == 150


@pytest.mark.parametrize("fps", [16, 24, 25, 30])
@pytest.mark.parametrize("pose_offset", [0, 1])
def test_a_scene_frame_has_its_clip_frame_everywhere(scene, addon, finished_job, fps, pose_offset):
    scene.render.fps = fps
    job = finished_job(scene, SHORT, frame_start=11, pose_offset=pose_offset)
    time = addon("compare.looked_at").ClipTime.of_job(job, scene)
    for frame in range(5, 11 + 4 * fps):
        asked_s = (frame - 11) / fps - pose_offset / FPS
        expected = min(max(asked_s * FPS, 0), SHORT - 1)
        assert abs(time.frame_at(frame) - expected) <= 0.5 + 1e-6, f"scene frame {frame} at {fps} fps"


def test_flipping_shows_the_whole_clip(addon, scene, finished_job):
    wipe = addon("compare.wipe")
    active = wipe.start(scene, finished_job(scene, SHORT))
    assert wipe.shown_share(active) == 0.5
    active.is_flipped = True
    assert wipe.shown_share(active) == 1.0
    images = len(bpy.data.images)
    wipe.stop()
    assert wipe.active is None and len(bpy.data.images) == images - 1


def test_a_wipe_ends_with_its_file(addon, scene, finished_job):
    wipe = addon("compare.wipe")
    wipe.start(scene, finished_job(scene, SHORT))
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    assert wipe.active is None


def test_a_wipe_without_its_camera_says_so(addon, scene, finished_job, protocol):
    job = finished_job(scene, SHORT)
    scene.camera.name = "Gone"
    with pytest.raises(protocol.ProtocolError, match="The camera Camera of .* is not in this file"):
        addon("compare.wipe").start(scene, job)


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

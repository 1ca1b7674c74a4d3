# SPDX-License-Identifier: GPL-3.0-or-later
"""The overlay shows the clip frame that belongs to the scene frame, in front of the shot's camera."""

import bpy
import pytest

from tests.numbered_clip import FPS, SHORT


@pytest.fixture
def filmed(empty_file):
    """A scene with the shot's camera."""
    data = bpy.data.cameras.new("Camera")
    empty_file.collection.objects.link(bpy.data.objects.new("Camera", data))
    empty_file.camera = bpy.data.objects["Camera"]
    return empty_file


def clip_frame(scene, background, frame):
    """What Blender shows of the movie at a scene frame: it counts scene frames, then adds the offset."""
    scene.frame_set(frame)
    bpy.context.view_layer.update()
    user = background.image_user
    counted = min(max(frame - user.frame_start, 0), user.frame_duration - 1)
    return counted + user.frame_offset


@pytest.mark.parametrize("fps", [24, 25, 30, 16, 60, 23.976])
@pytest.mark.parametrize(("start", "pose_offset"), [(1, 0), (101, 0), (101, 1)])
def test_each_scene_frame_shows_its_own_clip_frame(filmed, addon, finished_job, fps, start, pose_offset):
    filmed.render.fps, filmed.render.fps_base = (24, 1.001) if fps == 23.976 else (fps, 1.0)
    rate = filmed.render.fps / filmed.render.fps_base
    job = finished_job(filmed, SHORT, frame_start=start, pose_offset=pose_offset)
    background = addon("compare.overlay").show_overlay(filmed, job)
    for frame in range(start - 5, start + int(SHORT / FPS * rate) + 20):
        wanted = min(max((frame - start) / rate * FPS - pose_offset, 0), SHORT - 1)
        assert abs(clip_frame(filmed, background, frame) - wanted) <= 0.5 + 1e-3, f"scene frame {frame}"


def test_the_driver_runs_in_a_file_that_is_not_trusted(filmed, addon, finished_job):
    addon("compare.overlay").show_overlay(filmed, finished_job(filmed, SHORT))
    (curve,) = filmed.camera.data.animation_data.drivers
    assert curve.driver.is_simple_expression and curve.driver.is_valid


def test_the_clip_lies_in_front_and_fits(filmed, addon, finished_job):
    background = addon("compare.overlay").show_overlay(filmed, finished_job(filmed, SHORT))
    assert (background.display_depth, background.frame_method) == ("FRONT", "FIT")
    assert filmed.camera.data.show_background_images and 0 < background.alpha < 1
    assert tuple(background.image.size) == (96, 64)


def test_it_is_hidden_shown_again_and_replaced_by_the_next_take(filmed, addon, finished_job):
    overlay, camera = addon("compare.overlay"), filmed.camera.data
    own = camera.background_images.new()  # the user's own, which stays
    first = finished_job(filmed, SHORT)
    overlay.show_overlay(filmed, first)
    assert overlay.shown_overlay(filmed) == camera
    overlay.hide_overlay(camera)
    assert overlay.shown_overlay(filmed) is None
    second = finished_job(filmed, SHORT)
    shown = overlay.show_overlay(filmed, second)
    assert len(camera.background_images) == 2 and camera.background_images[0] == own
    assert bpy.path.abspath(shown.image.filepath) == str(second.clip_mp4)
    assert len(camera.animation_data.drivers) == 1


def test_a_missing_camera_and_a_missing_clip_are_sentences(filmed, addon, finished_job, protocol):
    job = finished_job(filmed, SHORT)
    filmed.camera.name = "Another"
    with pytest.raises(protocol.ProtocolError, match="The camera Camera of .* is not in this file any more"):
        addon("compare.overlay").show_overlay(filmed, job)
    job.clip_mp4.unlink()
    with pytest.raises(protocol.ProtocolError, match="has no clip; generate the shot again"):
        addon("compare.overlay").show_overlay(filmed, job)

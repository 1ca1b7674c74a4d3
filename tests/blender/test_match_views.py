# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera match as an artist meets it: words, the band over a take, the path in the viewport."""

from dataclasses import replace
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from tests.numbered_clip import FPS, SHORT
from tests.recording_layout import RecordingLayout


def measured(protocol, frames, heading_deg=0.1, **changes):
    """A match whose every frame is off by the same heading; other numbers as good as they get."""
    same = {name: [0.0] * frames for name in ("position_m", "position_scaled_m", "slide_px")}
    pose = [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
    heading = heading_deg if isinstance(heading_deg, list) else [heading_deg] * frames
    match = protocol.CameraMatch(
        path_length_m=2.0, lag_s=0.0, path_scale=1.0, heading_deg=heading, kept=[1.0] * frames,
        sharpness=[1.0] * frames, matches_until_s=frames / FPS, softer=0.0, estimated=[pose] * frames, **same,
    )  # fmt: skip
    return replace(match, **changes)


@pytest.fixture
def measured_take(empty_file, addon, protocol, finished_job):
    """Places a take with a match; gives its strip."""

    def place(match=None, fps=24, pose_offset=0):
        scene = empty_file
        scene.render.fps = fps
        if not bpy.data.objects.get("Camera"):
            scene.collection.objects.link(bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera")))
        job = finished_job(scene, SHORT, frame_start=11, pose_offset=pose_offset)
        replace(job.clip(), match=match).save(job.clip_json)
        return addon("sequencer").place_clip(scene, job)

    return place


def shown_in_match_panel():
    layout = RecordingLayout()
    bpy.types.SANAWM_PT_camera_match.draw(SimpleNamespace(layout=layout), bpy.context)
    return " / ".join(layout.shown)


@pytest.mark.parametrize(
    "change, expected",
    [
        ({}, "Follows the camera"),
        ({"heading_deg": 2.0}, "Look at it"),
        ({"heading_deg": 9.0}, "Does not follow the camera"),
        ({"unmeasured": "The shot has no blockout."}, "The shot has no blockout."),
    ],
)
def test_the_panel_says_it_in_words(measured_take, protocol, addon, change, expected):
    if "unmeasured" in change:
        match = protocol.CameraMatch(**change)
    else:
        match = measured(protocol, SHORT, **change)
    measured_take(match)
    assert expected in shown_in_match_panel()


def test_a_clip_from_before_the_measurement_says_so(measured_take, addon):
    strip = measured_take(None)
    assert "Made before clips were measured." in shown_in_match_panel()
    assert addon("verdicts").match_of(addon("takes").job_of(strip)) is None


def test_a_match_that_was_measured_again_replaces_the_old_one(measured_take, protocol, addon):
    job = addon("takes").job_of(measured_take(measured(protocol, SHORT)))
    assert addon("verdicts").match_of(job).verdict() == "good"
    replace(job.clip(), match=measured(protocol, SHORT, heading_deg=9.0)).save(job.clip_json)
    assert addon("verdicts").match_of(job).verdict() == "bad"


@pytest.mark.parametrize("fps", [16, 24, 25, 30])
def test_the_band_is_true_in_time(measured_take, protocol, addon, fps):
    heading = [0.0] * SHORT
    heading[FPS:] = [9.0] * (SHORT - FPS)  # the first second follows, the rest does not
    strip = measured_take(measured(protocol, SHORT, heading_deg=heading), fps)
    band, verdicts = addon("compare.match_band"), addon("verdicts")
    match = verdicts.match_of(addon("takes").job_of(strip))
    spans = band.spans(bpy.context.scene, strip, match)
    first, after = addon("compat").strip_extent(strip)
    assert (spans[0].start, spans[0].end) == (first, first + fps), (
        "a second of the clip is a second of the scene"
    )
    assert spans[-1].end <= after
    assert [span.colour[:3] for span in spans] == [
        verdicts.COLOURS["good" if index == 0 else "bad"][:3] for index in range(len(spans))
    ]


def test_the_band_follows_a_strip_that_is_moved_and_trimmed(measured_take, protocol, addon):
    strip = measured_take(measured(protocol, SHORT))
    band, compat, scene = addon("compare.match_band"), addon("compat"), bpy.context.scene
    match = addon("verdicts").match_of(addon("takes").job_of(strip))
    strip.channel += 2
    end = compat.strip_extent(strip)[0] + 5
    compat.set_strip_end(strip, end)
    strip.mute = True
    (span,) = band.spans(scene, strip, match)
    assert (span.end, span.channel) == (end, strip.channel)
    assert span.colour[3] < 1
    points, threshold = band.curve(scene, strip, match, "heading_deg")
    assert points[:, 0].max() < end and strip.channel < threshold < strip.channel + 1


def test_a_moment_is_where_the_clip_shows_it(measured_take, protocol):
    measured_take(measured(protocol, SHORT), fps=24, pose_offset=1)
    assert bpy.ops.sanawm.jump_to_moment(clip_s=1.0) == {"FINISHED"}
    assert bpy.context.scene.frame_current == round(11 + 24 / FPS + 24)


def test_the_measured_path_lies_on_the_camera_that_it_measures(empty_file, addon, protocol):
    scene = empty_file
    scene.unit_settings.scale_length = 0.01
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(camera)
    for frame, place in ((1, (0, 0, 100)), (25, (300, 100, 150))):
        camera.location = place
        camera.rotation_euler = (1.2, 0.1 * frame, 0.3)
        camera.keyframe_insert("location", frame=frame)
        camera.keyframe_insert("rotation_euler", frame=frame)
    path = addon("camera").export_camera(scene, bpy.context.view_layer, camera, 1, 17)
    match = measured(protocol, 16, estimated=[list(map(float, c2w[:3].ravel())) for c2w in path.c2w[1:]])
    planned, estimated = addon("compare.match_path").match_lines(match, path.c2w, 1, 0.01)
    np.testing.assert_allclose(planned.points, estimated.points, atol=1e-3)
    poses = addon("camera").blender_poses(path.c2w, 0.01)
    for sample in (0, 8, 16):
        scene.frame_set(1 + sample * 24 // FPS, subframe=(sample * 24 / FPS) % 1)
        np.testing.assert_allclose(poses[sample], np.array(camera.matrix_world), atol=1e-3)
    np.testing.assert_allclose(planned.points[0], poses[1, :3, 3], atol=1e-3)


def test_where_the_camera_was_lost_the_path_has_a_gap(addon):
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, 0, 3] = np.arange(5)
    poses[2] = np.nan
    lines = addon("draw_path").camera_lines(poses, np.ones((5, 4)), np.array([0, 2]))
    assert np.isfinite(lines.points).all()
    assert lines.points[:4, 0].tolist() == [0, 1, 3, 4]
    assert len(lines.points) == 4 + 16, "one camera, at the place that is known"


def test_the_path_is_shown_and_hidden_and_forgotten_with_the_file(measured_take, protocol, addon):
    measured_take(measured(protocol, SHORT))
    assert bpy.ops.sanawm.match_path() == {"FINISHED"}
    assert addon("draw_path").is_shown("estimated") and addon("draw_path").is_shown("planned")
    bpy.ops.sanawm.match_path()
    assert not addon("draw_path").is_shown("estimated")
    bpy.ops.sanawm.match_path()
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    assert not addon("draw_path").is_shown("estimated")


def test_a_clip_without_a_measurement_has_no_path_to_show(measured_take, protocol):
    measured_take(protocol.CameraMatch(unmeasured="The shot has no blockout."))
    with pytest.raises(RuntimeError, match="There is no measured path of .* The shot has no blockout"):
        bpy.ops.sanawm.match_path()

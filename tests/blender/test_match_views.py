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


def shown_in(panel):
    """What a panel says, in one line."""
    layout = RecordingLayout()
    panel.draw(SimpleNamespace(layout=layout), bpy.context)
    return " ".join(layout.shown)


def shown_in_match_panel():
    return shown_in(bpy.types.SANAWM_PT_camera_match)


def band_of(addon, strip):
    """The band's pieces over a take."""
    job = addon("takes").job_of(strip)
    seconds, match = addon("clip_records").seconds_of(job), addon("verdicts").match_of(job)
    return addon("compare.match_band").spans(bpy.context.scene, strip, seconds, match.duration_s)


def first_second_good(protocol):
    """The first second follows its camera, the rest does not."""
    return measured(protocol, SHORT, heading_deg=[0.0] * FPS + [9.0] * (SHORT - FPS))


@pytest.mark.parametrize(
    "change, expected",
    [
        ({}, "Follows the camera: heading within 0.1°"),
        ({"heading_deg": 2.0}, "Look at it. Nearly follows the camera: heading off by up to 2.0° at 0:0"),
        ({"heading_deg": 2.0}, "Heading: off by up to 2.0° 0:0"),
        ({"heading_deg": 9.0}, "Does not follow the camera: heading off by up to 9.0°"),
        ({"path_scale": 0.8}, "moves at 80 % of the path"),
        ({"revisit_db": 31.4}, "Comes back to the same picture within 31 dB"),
        ({"unmeasured": "The shot has no blockout."}, "Not measured: The shot has no blockout."),
    ],
)
def test_the_panel_says_it_in_words(measured_take, protocol, addon, change, expected):
    if "unmeasured" in change:
        match = protocol.CameraMatch(**change)
    else:
        match = measured(protocol, SHORT, **change)
    measured_take(match)
    assert expected in shown_in_match_panel()


def test_the_take_says_the_same_in_the_sequencer(measured_take, protocol):
    strip = measured_take(first_second_good(protocol))
    bpy.context.scene.sequence_editor.active_strip = strip
    bpy.context.window_manager.sana_wm_view.curve = "heading_deg"
    shown = shown_in(bpy.types.SANAWM_PT_take)
    assert "Does not follow the camera: heading off by up to 9.0° at 0:0" in shown
    assert "Full height 9°; good below 1°" in shown


def test_a_long_clip_is_told_ten_seconds_at_a_time(protocol, addon):
    frames = 25 * FPS
    heading = [0.1] * frames
    heading[11 * FPS] = 5.0
    heading[20 * FPS :] = [None] * (5 * FPS)
    match = measured(protocol, frames, heading_deg=heading, lost_from_s=20.0)
    rows = addon("compare.stretches").stretches(match, match.per_second())
    assert [(row.start_s, row.in_words(), row.verdict) for row in rows] == [
        (0, "0.1°   0.00 m   0 px", "good"),
        (10, "5.0°   0.00 m   0 px", "bad"),
        (20, "The camera cannot be told", "bad"),
    ]


def test_a_clip_from_before_the_measurement_says_so(measured_take, addon):
    strip = measured_take(None)
    assert "Made before clips were measured." in shown_in_match_panel()
    assert addon("verdicts").match_of(addon("takes").job_of(strip)) is None


def test_a_match_that_was_measured_again_replaces_the_old_one(measured_take, protocol, addon):
    job = addon("takes").job_of(measured_take(measured(protocol, SHORT)))
    assert addon("verdicts").match_of(job).verdict() == "good"
    replace(job.clip(), match=measured(protocol, SHORT, heading_deg=9.0)).save(job.clip_json)
    assert addon("verdicts").match_of(job).verdict() == "bad"


@pytest.mark.parametrize("rate", [(24, 1.0), (25, 1.0), (30, 1.0), (24, 1.001)])
def test_the_band_is_true_in_time(measured_take, protocol, addon, rate):
    bpy.context.scene.render.fps_base = rate[1]
    strip = measured_take(first_second_good(protocol), rate[0])
    fps, colours = rate[0] / rate[1], addon("verdicts").COLOURS
    first, after = addon("compat").strip_extent(strip)
    good, bad = band_of(addon, strip)
    assert (good.start, good.end) == (first, pytest.approx(first + fps)), "a second is a second of the scene"
    assert bad.start == good.end and bad.end == pytest.approx(min(first + SHORT / FPS * fps, after))
    assert (good.colour, bad.colour) == (colours["good"], colours["bad"])


def test_the_band_follows_a_strip_that_is_moved_trimmed_and_muted(measured_take, protocol, addon):
    strip = measured_take(first_second_good(protocol))
    band, compat, scene = addon("compare.match_band"), addon("compat"), bpy.context.scene
    match = addon("verdicts").match_of(addon("takes").job_of(strip))
    strip.channel += 2
    strip.frame_start += 100
    content = compat.strip_content_start(strip)
    assert content == 111
    compat.set_strip_end(strip, 111 + 40)
    compat.set_strip_start(strip, 111 + 10)
    good, bad = band_of(addon, strip)
    assert [good.start, good.end, bad.end] == [121, 135, 151], "the content stays where it was"
    assert good.channel == strip.channel and good.colour[3] == 1
    strip.mute = True
    assert all(span.colour[3] < 1 for span in band_of(addon, strip))
    points, limit = band.curve(scene, strip, match, "heading_deg")
    assert 121 <= points[:, 0].min() and points[:, 0].max() < 151
    steps = points[:, 0][points[:, 1] > limit]
    assert steps.min() == 135, "above the limit from the second second on"
    assert strip.channel < points[:, 1].min() and points[:, 1].max() < strip.channel + 1


def test_what_was_not_measured_is_grey(measured_take, protocol, addon):
    strip = measured_take(protocol.CameraMatch(unmeasured="The shot has no blockout."))
    (span,) = band_of(addon, strip)
    assert (span.start, span.end) == addon("compat").strip_extent(strip)
    assert span.colour == addon("verdicts").COLOURS["unmeasured"]


@pytest.mark.parametrize("number", ["heading_deg", "position_scaled_m", "slide_px", "kept", "sharpness"])
def test_every_number_has_a_curve_with_a_limit_in_the_strip(measured_take, protocol, addon, number):
    match = measured(protocol, SHORT, path_scale=None, position_scaled_m=[None] * SHORT)
    strip = measured_take(match)
    points, limit = addon("compare.match_band").curve(bpy.context.scene, strip, match, number)
    assert strip.channel < limit < strip.channel + 1
    assert np.isnan(points[:, 1]).all() == (number == "position_scaled_m")


def test_a_band_is_drawn_only_while_the_extension_is_on(addon):
    band = addon("compare.match_band")
    band.show()
    assert band.is_shown()
    band.unregister()
    assert not band.is_shown()


def test_a_moment_is_where_the_clip_shows_it(measured_take, protocol):
    measured_take(measured(protocol, SHORT), fps=24, pose_offset=1)
    assert bpy.ops.sanawm.jump_to_moment(clip_s=1.0) == {"FINISHED"}
    assert bpy.context.scene.frame_current == round(11 + 24 / FPS + 24)


def test_a_moment_of_a_take_is_where_the_take_lies_in_the_edit(measured_take, protocol):
    strip = measured_take(measured(protocol, SHORT), fps=24, pose_offset=1)
    scene = bpy.context.scene
    with pytest.raises(RuntimeError, match="Select a take"):
        bpy.ops.sanawm.jump_to_moment(clip_s=1.0, place="TAKE")
    strip.frame_start = 201
    scene.sequence_editor.active_strip = strip
    assert bpy.ops.sanawm.jump_to_moment(clip_s=1.0, place="TAKE") == {"FINISHED"}
    assert scene.frame_current == 225


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


def test_a_camera_from_the_path_moves_as_the_clip_shows_it(measured_take, protocol, addon):
    scene = bpy.context.scene
    scene.unit_settings.scale_length = 0.01
    turn = np.linspace(0, 0.8, SHORT)
    c2w = np.tile(np.eye(4), (SHORT, 1, 1))
    c2w[:, 0, 3], c2w[:, 2, 3] = np.linspace(0, 2, SHORT), 1.5
    c2w[:, 0, 0] = c2w[:, 1, 1] = np.cos(turn)
    c2w[:, 1, 0], c2w[:, 0, 1] = np.sin(turn), -np.sin(turn)
    estimated = [list(map(float, pose[:3].ravel())) for pose in c2w]
    heading = [0.1] * SHORT
    for frame in (0, 20):
        estimated[frame] = heading[frame] = None
    strip = measured_take(measured(protocol, SHORT, estimated=estimated, heading_deg=heading), pose_offset=1)
    before = scene.sana_wm.camera
    assert bpy.ops.sanawm.camera_from_match() == {"FINISHED"}
    made = bpy.data.objects[f"{strip.name} as filmed"]
    assert scene.sana_wm.camera == before, "the shot keeps its own camera"
    layer, time = bpy.context.view_layer, addon("clip_time").ClipTime(11 + 24 / FPS, FPS / 24, SHORT)
    start = time.scene_frame(1 / FPS)  # of the first pose that is known
    again = addon("camera").export_camera(scene, layer, made, start, SHORT - 1)
    np.testing.assert_allclose(again.c2w, c2w[1:], atol=2e-4)
    lens = np.array([80.0, 80, 48, 32]) * scene.render.resolution_x / 96
    np.testing.assert_allclose(again.intrinsics[0, :3], lens[:3], rtol=1e-4)


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
    measured_take(measured(protocol, SHORT, heading_deg=9.0))
    bpy.ops.sanawm.match_path()
    assert addon("draw_path").is_shown("estimated"), "the path of the take that shows now"
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    assert not addon("draw_path").is_shown("estimated")


def test_a_clip_without_a_measurement_has_no_path_to_show(measured_take, protocol):
    measured_take(protocol.CameraMatch(unmeasured="The shot has no blockout."))
    with pytest.raises(RuntimeError, match="There is no measured path of .* The shot has no blockout"):
        bpy.ops.sanawm.match_path()

# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of a camera in Blender: what it says, what it draws, and its remedies, judged by a second check."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from tests.recording_layout import RecordingLayout

FRAMES = (1, 96)  # 4 s at 24 fps


@pytest.fixture
def stage(empty_file):
    """A camera 1.5 m up that looks along +y; its scene, at 24 fps."""
    scene = empty_file
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    camera.location, camera.rotation_euler = (0, 0, 1.5), (math.pi / 2, 0, 0)
    scene.render.fps = 24
    scene.frame_start, scene.frame_end = FRAMES
    scene.render.resolution_x, scene.render.resolution_y = 1280, 704
    return scene


def keyed(scene, keys, interpolation="LINEAR", path="location"):
    """Keys frame -> value on the scene's camera."""
    camera = scene.camera
    for frame, value in keys.items():
        setattr(camera, path, value)
        camera.keyframe_insert(path, frame=frame)
    for curve in curves(camera):
        for point in curve.keyframe_points:
            point.interpolation = interpolation
    return camera


def curves(owner):
    animation = owner.animation_data
    if not hasattr(animation, "action_slot"):
        return list(animation.action.fcurves)
    return list(animation.action.layers[0].strips[0].channelbag(animation.action_slot).fcurves)


def box(scene, name, low, high):
    (x, y, z), (u, v, w) = low, high
    corners = [(a, b, c) for a in (x, u) for b in (y, v) for c in (z, w)]
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(corners, [], sides)
    thing = bpy.data.objects.new(name, mesh)
    scene.collection.objects.link(thing)
    return thing


@pytest.fixture
def check(addon):
    """Presses the button; gives the report."""

    def press():
        assert bpy.ops.sanawm.check_shot() == {"FINISHED"}
        return addon("camera_check").current(bpy.context.scene)

    return press


def panel():
    layout = RecordingLayout()
    bpy.types.SANAWM_PT_camera_check.draw(SimpleNamespace(layout=layout), bpy.context)
    return " ".join(filter(None, layout.shown))


def test_a_gentle_camera_in_the_open(stage, check):
    keyed(stage, {1: (0, 0, 1.5), 97: (0, 1.2, 1.5)})
    assert check().collisions == []
    said = panel()
    assert "Distance: 1.20 m" in said and "Top speed: 0.30 m/s Fastest" in said and "Roll: level" in said
    assert "Field of view: 40°, 50 mm" in said and "Cuts: none" in said and "Free of the geometry" in said
    assert "Slow Down" not in said and "Split Shot" not in said


def test_slow_down_makes_it_gentle_and_keeps_the_move(stage, check, addon):
    camera = keyed(stage, {1: (0, 0, 1.5), 50: (3, 0, 1.5), 97: (3, 4, 1.5)}, "BEZIER")
    keyed(stage, {1: (math.pi / 2, 0, 0), 97: (math.pi / 2, 0, 1)}, "BEZIER", "rotation_euler")
    camera.data.lens = 40
    camera.data.keyframe_insert("lens", frame=1)
    camera.data.lens = 30
    camera.data.keyframe_insert("lens", frame=97)
    before = check()
    assert "too fast" in panel() and "Slow Down" in panel() and before.check.needed_slowdown > 3
    places = [curve.evaluate(49) for curve in curves(camera)]
    assert bpy.ops.sanawm.slow_down() == {"FINISHED"}
    after = check()
    assert {number.verdict for number in after.check.judged()} == {"good"}, panel()
    assert after.check.distance_m == pytest.approx(before.check.distance_m, rel=1e-2)
    factor = stage.frame_end / 96
    assert factor == pytest.approx(before.check.needed_slowdown, rel=0.03)
    np.testing.assert_allclose([c.evaluate(1 + 48 * factor) for c in curves(camera)], places, atol=1e-4)
    stage.frame_set(stage.frame_end + 1)
    assert camera.data.lens == pytest.approx(30, abs=0.1)


def test_slow_down_leaves_what_lies_before_and_shifts_what_lies_behind(stage, check):
    camera = keyed(stage, {-50: (5, 5, 5), 200: (0, 0, 0), 260: (1, 0, 0)}, "BEZIER")
    stage.sana_wm.range_source = "CUSTOM"
    stage.sana_wm.frame_start, stage.sana_wm.frame_end = 60, 130
    (x, *_others) = curves(camera)
    before = {frame: x.evaluate(frame) for frame in (-40, 20, 59, 60, 95, 131, 150, 230)}
    check()
    assert bpy.ops.sanawm.slow_down() == {"FINISHED"}
    longer = stage.sana_wm.frame_end - 130
    assert longer > 10 and (stage.frame_start, stage.frame_end) == FRAMES
    now = {frame: x.evaluate(frame) for frame in (-40, 20, 59, 60)}
    now |= {95: x.evaluate(60 + 35 * (71 + longer) / 71)}
    now |= {frame: x.evaluate(frame + longer) for frame in (131, 150, 230)}
    np.testing.assert_allclose([now[f] for f in before], list(before.values()), atol=1e-3)


def test_what_keys_cannot_cure_is_refused_in_a_sentence(stage, check):
    keyed(stage, {1: (0, 0, 1.5), 97: (0, 60, 1.5)})
    with pytest.raises(RuntimeError, match="would last 1.. s, and a clip has at most 60 s; split the shot"):
        bpy.ops.sanawm.slow_down()
    rig = bpy.data.objects.new("Rig", None)
    stage.collection.objects.link(rig)
    stage.camera.parent = rig
    for operator in (bpy.ops.sanawm.slow_down, bpy.ops.sanawm.scale_path):
        with pytest.raises(RuntimeError, match="moved by Rig"):
            operator()
    stage.camera.parent = None
    stage.camera.animation_data_clear()
    rig.location = (0, 0, 0)
    rig.keyframe_insert("location", frame=1)
    rig.location = (0, 5, 0)
    rig.keyframe_insert("location", frame=97)
    stage.camera.constraints.new("CHILD_OF").target = rig
    with pytest.raises(RuntimeError, match="moved by Child Of"):
        bpy.ops.sanawm.slow_down()
    stage.camera.constraints.clear()
    with pytest.raises(RuntimeError, match="is gentle already"):
        bpy.ops.sanawm.slow_down()


def test_scale_shrinks_about_the_first_place_in_the_same_time(stage, check, addon):
    keyed(stage, {1: (1, 2, 1.5), 40: (3, 2, 2.5), 97: (3, 6, 1.5)}, "BEZIER")
    before = check().check
    assert bpy.ops.sanawm.scale_path() == {"FINISHED"}
    after = check().check
    assert after.speed_m_s.max() <= 0.4 * 1.01
    np.testing.assert_allclose(after.speed_m_s, before.speed_m_s * before.needed_scale / 1.01, atol=1e-3)
    stage.frame_set(1)
    np.testing.assert_allclose(stage.camera.matrix_world.translation, (1, 2, 1.5), atol=1e-5)
    assert stage.frame_end == FRAMES[1]


@pytest.mark.parametrize(
    ("fps", "cut"), [(16, 41), (24, 42), (24, 43), (24, 44), (25, 43), (30, 44), (30, 45)]
)
def test_a_cut_is_split_where_it_is(stage, check, fps, cut):
    stage.render.fps = fps
    keyed(stage, {1: (0, 0, 1.5), cut: (9, 0, 1.5)}, "CONSTANT")
    assert check().check.cuts and "Split Shot" in panel()
    assert bpy.ops.sanawm.split_shot() == {"FINISHED"}
    assert stage.sana_wm.range_of(stage)[0] == 1
    # At 16 fps the last sample of frames 1 to 40 would be frame 41.
    assert stage.sana_wm.frame_end == (39 if (fps, cut) == (16, 41) else cut - 1)
    assert check().check.cuts == []


def test_with_a_list_the_rest_becomes_the_next_shot(stage, check):
    keyed(stage, {1: (0, 0, 1.5), 43: (9, 0, 1.5)}, "CONSTANT")
    for code in ("010_0010", "010_0020"):
        shot = stage.sana_wm_shots.add()
        shot.code, shot.camera, shot.prompt, shot.first_frame_source = code, stage.camera, "A street", "IMAGE"
    check()
    assert bpy.ops.sanawm.split_shot() == {"FINISHED"}
    found = [(s.code, s.prompt, s.range_of(stage), s.first_frame_source) for s in stage.sana_wm_shots]
    assert found[0] == ("010_0010", "A street", (1, 42), "IMAGE")
    assert found[1] == ("010_0030", "A street", (43, 96), "RENDER")
    assert found[2][0] == "010_0020" and stage.sana_wm_shot_index == 0


def test_too_long_shots_and_cuts_by_markers_can_be_split_unseen(stage, check):
    stage.frame_end = 24 * 80
    assert check() is None and "Split Shot" in panel()
    assert bpy.ops.sanawm.split_shot() == {"FINISHED"}
    assert stage.sana_wm.range_of(stage) == (1, 24 * 40)
    other = bpy.data.objects.new("Other", stage.camera.data)
    stage.collection.objects.link(other)
    for frame, camera in ((1, stage.camera), (61, other)):
        stage.timeline_markers.new(f"M{frame}", frame=frame).camera = camera
    assert check() is None and "Split Shot" in panel()
    assert bpy.ops.sanawm.split_shot() == {"FINISHED"}
    assert stage.sana_wm.range_of(stage) == (1, 60)
    with pytest.raises(RuntimeError, match="shorter than 0.5 s"):
        bpy.ops.sanawm.split_shot(frame=5)


@pytest.mark.parametrize("fps", [16, 24])
def test_geometry_in_the_way_is_named_with_its_frame(stage, check, fps):
    stage.render.fps = fps
    stage.frame_end = fps * 4
    keyed(stage, {1: (0, 0, 1.5), 1 + 4 * fps: (0, 8, 1.5)})  # 2 m/s
    box(stage, "Pillar", (-1, 3, 0), (1, 5, 3))
    mesh = bpy.data.meshes.new("Fence")
    mesh.from_pydata([(-1, 7, 0), (1, 7, 0), (1, 7, 3), (-1, 7, 3)], [], [(0, 1, 2, 3)])
    stage.collection.objects.link(bpy.data.objects.new("Fence", mesh))
    box(stage, "Beside", (2, 3, 0), (4, 5, 3))
    box(stage, "Unseen", (-1, 1, 0), (1, 2, 3)).hide_render = True
    ground = box(stage, "Ground", (-50, -50, -1), (50, 50, 0))
    met = {collision.name: collision for collision in check().collisions}
    assert met.keys() == {"Pillar", "Fence"}
    assert met["Pillar"].is_inside and abs(met["Pillar"].frame - (1 + 1.5 * fps)) <= fps / 8 + 1
    assert not met["Fence"].is_inside and abs(met["Fence"].frame - (1 + 3.5 * fps)) <= 2
    assert f"Inside Pillar {met['Pillar'].frame}" in panel()
    assert f"Through Fence {met['Fence'].frame}" in panel()
    ground.location.z = 4  # all of the camera's way lies in it now
    ground.scale.z = 4
    assert any(c.name == "Ground" and c.throughout for c in check().collisions)
    assert "Inside Ground all along: right if it is a room" in panel()


def test_a_moving_object_runs_into_the_camera_and_an_open_plane_never_encloses(stage, check):
    keyed(stage, {1: (0, 0, 1.5), 97: (0, 0.4, 1.5)})
    runner = box(stage, "Runner", (-1, -1, 0), (1, 1, 3))
    for frame, x in ((1, -9), (97, 9)):
        runner.location.x = x
        runner.keyframe_insert("location", frame=frame)
    wall = bpy.data.meshes.new("Backdrop")
    wall.from_pydata([(-50, -1, -50), (50, -1, -50), (50, -1, 50), (-50, -1, 50)], [], [(3, 2, 1, 0)])
    stage.collection.objects.link(bpy.data.objects.new("Backdrop", wall))
    (met,) = check().collisions
    assert met.name == "Runner" and met.is_inside and 30 < met.frame < 62


def test_the_path_is_coloured_by_its_verdicts_and_broken_at_cuts(stage, addon, protocol):
    module, verdicts = addon("camera_check"), addon("verdicts")
    c2w = np.tile(np.eye(4), (33, 1, 1))
    x = np.cumsum(np.concatenate([[0], np.full(15, 0.02), [7], np.full(16, 0.06)]))
    c2w[:, 0, 3] = x
    path = protocol.CameraPath(c2w, np.tile([1000.0, 1000, 640, 352], (33, 1)), (1280, 704))
    checked = module.CameraCheck.of(path, (1280, 704))
    lines = module.path_lines(c2w, checked, unit_scale=0.01)
    assert checked.cuts == [16]
    segments = lines.points[:62].reshape(31, 2, 3)[:, :, 0] / 100
    assert len(segments) == 31 and np.abs(segments[:, 1] - segments[:, 0]).max() < 0.1, (
        "no line across the cut"
    )
    np.testing.assert_allclose(np.unique(segments), np.unique(x.astype(np.float32)), atol=1e-3)
    shades = lines.colours[:62]
    np.testing.assert_allclose(shades[0], verdicts.COLOURS["good"], atol=1e-6)
    np.testing.assert_allclose(shades[-1], verdicts.COLOURS["bad"], atol=1e-6)
    assert len(lines.points) == 62 + 3 * 16, "a camera at 0 s, 1 s and 2 s"


def test_the_path_is_drawn_while_it_is_true(stage, check, addon):
    draw_path = addon("draw_path")
    camera = keyed(stage, {1: (0, 0, 1.5), 97: (0, 3, 1.5)})
    check()
    assert len(draw_path.true_lines()) == 1
    stage.frame_set(40)
    bpy.context.view_layer.update()
    assert draw_path.true_lines() and "Top speed" in panel(), "playing changes nothing"
    point = curves(camera)[1].keyframe_points[-1]
    point.co.y = 5
    assert not draw_path.true_lines() and "Top speed" not in panel()
    point.co.y = 3
    curves(camera)[1].update()
    assert draw_path.true_lines()
    stage.frame_end -= 1
    assert not draw_path.true_lines()
    stage.frame_end += 1
    camera.data.lens = 30
    assert not draw_path.true_lines()
    check()
    bpy.context.window_manager.sana_wm_shows_check = False
    assert not draw_path.true_lines()
    check()
    assert not draw_path.true_lines(), "it stays off"
    bpy.context.window_manager.sana_wm_shows_check = True
    assert draw_path.true_lines()
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    assert not draw_path.is_shown("checked") and addon("camera_check").current(bpy.context.scene) is None


def test_the_cost_is_scaled_from_own_clips_or_from_measurements(stage, addon, monkeypatch):
    costs = addon("costs")
    monkeypatch.setattr(costs, "_finished_clips", list)
    stage.sana_wm.preset = "embedded"
    measured = panel()
    assert "Takes about" in measured and "GB of memory (measured on one CPU core)" in measured
    own = SimpleNamespace(
        duration_s={"render": 1000.0}, frame_count=65, preset={"name": "Embedded Final 640×352"}
    )
    monkeypatch.setattr(costs, "_finished_clips", lambda: [own])
    assert "Takes about 17 min" in panel() and "as your last clip with this preset" in panel()


def test_the_released_models_memory_is_planned_in_a_table(stage, addon, monkeypatch):
    costs, process = addon("costs"), addon("backend_process")
    card = process.Backend(Path("python"), "cuda", "", ("NVIDIA GeForce RTX 5090", 33.6))
    monkeypatch.setattr(costs, "find_backend", lambda location: card)
    monkeypatch.setattr(costs, "available_gb", lambda: 64.0)
    stage.sana_wm.preset = "embedded"
    assert costs.planned(stage.sana_wm) is None
    stage.sana_wm.preset = "sana_wm_final"
    shown = panel()
    for words in ("Stage 1", "Refiner", "Decoder", " GB", "about", "One stage after another"):
        assert words in shown, words
    assert "Peak memory on the NVIDIA GeForce RTX 5090 (34 GB)" in shown and "about about" not in shown
    monkeypatch.setattr(costs, "find_backend", lambda location: replace(card, gpu=("Small", 4.0)))
    assert "needs at least" in panel() and "choose an Embedded preset" in panel()

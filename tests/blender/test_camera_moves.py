# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera moves do what their names say, seen through the exported camera path."""

import math

import bpy
import numpy as np
import pytest

FRAMES = (1, 49)
DEPTH_M = 4.0


@pytest.fixture
def stage(empty_file):
    """A wall 4 m ahead of a level camera that looks along +y from 1.5 m up."""
    scene = empty_file
    data = bpy.data.cameras.new("Camera")
    camera = bpy.data.objects.new("Camera", data)
    scene.collection.objects.link(camera)
    scene.camera = camera
    camera.location, camera.rotation_euler = (0, 0, 1.5), (math.pi / 2, 0, 0)
    wall = bpy.data.meshes.new("Wall")
    wall.from_pydata([(-9, 4, -9), (9, 4, -9), (9, 4, 9), (-9, 4, 9)], [], [(0, 1, 2, 3)])
    scene.collection.objects.link(bpy.data.objects.new("Wall", wall))
    scene.sana_wm.range_source = "CUSTOM"
    scene.sana_wm.frame_start, scene.sana_wm.frame_end = FRAMES
    return scene


@pytest.fixture
def filmed(stage, addon):
    """The path of a move in the scene, at every scene frame of it."""

    def film(move, **options):
        assert bpy.ops.sanawm.add_camera_move(move=move, **options) == {"FINISHED"}
        stage.render.fps = 16
        count = FRAMES[1] - FRAMES[0] + 1
        return addon("camera").export_camera(stage, bpy.context.view_layer, stage.camera, FRAMES[0], count)

    return film


def shift(path):
    return path.c2w[-1, :3, 3] - path.c2w[0, :3, 3]


def ahead(path):
    """(F, 3) where the camera looks."""
    return path.c2w[:, :3, 2]


def turn_deg(path):
    cosine = (np.trace(path.c2w[0, :3, :3].T @ path.c2w[-1, :3, :3]) - 1) / 2
    return math.degrees(math.acos(min(1, cosine)))


def test_every_move_begins_where_the_camera_stands_and_moves(stage, filmed, addon):
    for name in addon("camera_moves").camera_moves():
        stage.camera.animation_data_clear()
        stage.camera.location, stage.camera.rotation_euler = (0, 0, 1.5), (math.pi / 2, 0, 0)
        path = filmed(name)
        np.testing.assert_allclose(path.c2w[0, :3, 3], [0, 0, 1.5], atol=1e-3, err_msg=name)
        np.testing.assert_allclose(ahead(path)[0], [0, 1, 0], atol=1e-2, err_msg=name)
        moved = np.abs(path.c2w - path.c2w[0]).max() + np.abs(path.intrinsics - path.intrinsics[0]).max()
        assert moved > 0.003, f"{name} does not move"


@pytest.mark.parametrize(
    ("move", "shift_m"),
    [
        ("dolly_in", (0, 2, 0)), ("dolly_out", (0, -2, 0)), ("truck_left", (-1.5, 0, 0)),
        ("truck_right", (1.5, 0, 0)), ("pedestal_up", (0, 0, 1)), ("pedestal_down", (0, 0, -1)),
    ],
)  # fmt: skip
def test_straight_moves_shift_and_do_not_turn(filmed, move, shift_m):
    path = filmed(move)
    np.testing.assert_allclose(shift(path), shift_m, atol=1e-5)
    assert turn_deg(path) < 0.01
    speed = np.linalg.norm(np.diff(path.c2w[:, :3, 3], axis=0), axis=1)
    assert speed[0] < 0.2 * speed.max() and speed[-1] < 0.2 * speed.max(), "it starts and stops softly"


@pytest.mark.parametrize(
    ("move", "looks_at"),
    [
        ("pan_left", (-0.5, math.sqrt(0.75), 0)), ("pan_right", (0.5, math.sqrt(0.75), 0)),
        ("tilt_up", (0, math.cos(math.radians(15)), math.sin(math.radians(15)))),
        ("tilt_down", (0, math.cos(math.radians(15)), -math.sin(math.radians(15)))),
    ],
)  # fmt: skip
def test_turns_turn_on_the_spot(filmed, move, looks_at):
    path = filmed(move)
    np.testing.assert_allclose(shift(path), 0, atol=1e-6)
    np.testing.assert_allclose(ahead(path)[-1], looks_at, atol=1e-4)


@pytest.mark.parametrize(("move", "side"), [("orbit_left", -1), ("orbit_right", 1)])
def test_an_orbit_keeps_its_distance_and_its_subject(filmed, move, side):
    path = filmed(move)
    subject = np.array([0, DEPTH_M, 1.5])
    to_subject = subject - path.c2w[:, :3, 3]
    np.testing.assert_allclose(np.linalg.norm(to_subject, axis=1), DEPTH_M, atol=0.01)
    np.testing.assert_allclose(np.einsum("fi,fi->f", to_subject, ahead(path)), DEPTH_M, atol=0.01)
    assert math.copysign(1, shift(path)[0]) == side and turn_deg(path) == pytest.approx(30, abs=0.1)


def test_a_crane_keeps_its_subject_and_a_push_in_gets_longer(filmed):
    path = filmed("crane_up")
    to_subject = np.array([0, DEPTH_M, 1.5]) - path.c2w[:, :3, 3]
    to_subject /= np.linalg.norm(to_subject, axis=1, keepdims=True)
    np.testing.assert_allclose(ahead(path), to_subject, atol=5e-3)
    path = filmed("push_in")
    assert path.intrinsics[-1, 0] == pytest.approx(1.5 * path.intrinsics[0, 0], rel=1e-4)


def test_strength_evenness_and_units(stage, filmed):
    path = filmed("dolly_in", strength=-0.5, eased=False)
    np.testing.assert_allclose(shift(path), (0, -1, 0), atol=1e-5)
    speed = np.linalg.norm(np.diff(path.c2w[:, :3, 3], axis=0), axis=1)
    np.testing.assert_allclose(speed, speed.mean(), rtol=1e-3)
    stage.unit_settings.scale_length = 0.01
    np.testing.assert_allclose(shift(filmed("dolly_in")), (0, 2, 0), atol=1e-4)


def test_a_shaky_hand_stays_near_and_a_new_move_replaces_it(filmed):
    path = filmed("handheld")
    away_m = np.linalg.norm(path.c2w[:, :3, 3] - path.c2w[0, :3, 3], axis=1)
    assert 0.001 < away_m.max() < 0.04 and 0.05 < turn_deg_of_all(path).max() < 1.5
    np.testing.assert_allclose(turn_deg(filmed("truck_left")), 0, atol=0.01)


def turn_deg_of_all(path):
    return np.degrees(np.arccos(np.clip(ahead(path) @ ahead(path)[0], -1, 1)))


def test_keys_outside_of_the_range_stay(stage, filmed):
    stage.camera.location = (3, 3, 3)
    stage.camera.keyframe_insert("location", frame=100)
    stage.camera.location = (0, 0, 1.5)
    stage.camera.keyframe_insert("location", frame=1)
    stage.frame_set(1)
    filmed("dolly_in")
    filmed("truck_left")
    stage.frame_set(100)
    assert tuple(stage.camera.location) == (3, 3, 3)


def test_a_camera_that_something_else_moves_is_refused(stage):
    stage.camera.constraints.new("TRACK_TO")
    with pytest.raises(RuntimeError, match="is moved by Track To; take it off its parents"):
        bpy.ops.sanawm.add_camera_move(move="dolly_in")
    assert stage.camera.animation_data is None or stage.camera.animation_data.action is None


def test_the_playhead_stays(stage, filmed):
    stage.frame_set(7)
    assert bpy.ops.sanawm.add_camera_move(move="orbit_left") == {"FINISHED"}
    assert stage.frame_current == 7

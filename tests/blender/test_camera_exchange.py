# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera paths out of Blender and in again are the same evaluated camera; action strings move as the model would."""

import math

import bpy
import numpy as np
import pytest

from tests.camera_file_names import NAMES

SIZE = (640, 352)
# What a format keeps of the lens: all of it, its field of view, or nothing.
KEEPS = {"TUM": "nothing", "KITTI": "nothing", "CHAN": "field of view"}
NEAR_M = 1e-4
NEAR_PX = 5e-4  # lenses are keyed in single precision


@pytest.fixture
def stage(empty_file):
    """A camera that travels and turns past half a turn; its scene, at 24 fps, in frames 11 to 58."""
    scene = empty_file
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    scene.render.fps = 24
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    scene.frame_start, scene.frame_end = 11, 58
    for frame, place, turn in ((11, (1, -2, 1.5), (1.5, 0, 0)), (60, (3, 4, 2), (1.2, 0.2, 4.5))):
        camera.location, camera.rotation_euler = place, turn
        camera.keyframe_insert("location", frame=frame)
        camera.keyframe_insert("rotation_euler", frame=frame)
    return scene


def zoomed(scene, mm=(18.0, 28.0), shift=0.0):
    data = scene.camera.data
    data.shift_x, data.shift_y = shift, -shift
    for frame, lens in zip((11, 60), mm, strict=True):
        data.lens = lens
        data.keyframe_insert("lens", frame=frame)


def evaluated(addon, scene, count=33):
    return addon("camera").export_camera(
        scene, bpy.context.view_layer, scene.sana_wm.camera or scene.camera, 11, count
    )


@pytest.mark.parametrize("scale", [1.0, 0.01])
@pytest.mark.parametrize("kind", NAMES)
def test_out_and_in_again_is_the_same_camera(stage, addon, tmp_path, kind, scale):
    stage.unit_settings.scale_length = scale
    keeps = KEEPS.get(kind, "all")
    if keeps == "nothing":
        stage.camera.data.lens = 50
    else:
        zoomed(stage, shift=0.02 if keeps == "all" else 0.0)
    before = evaluated(addon, stage)
    file = tmp_path / NAMES[kind]
    assert bpy.ops.sanawm.export_camera(filepath=str(file), format=kind) == {"FINISHED"}
    chosen = kind if kind == "CHAN" else "AUTO"
    assert bpy.ops.sanawm.import_camera(filepath=str(file), format=chosen) == {"FINISHED"}
    after = evaluated(addon, stage)
    assert stage.sana_wm.camera != stage.camera and stage.sana_wm.camera.name == file.stem
    assert stage.sana_wm.range_of(stage) == (11, 58), "the shot is as long as it was"
    np.testing.assert_allclose(after.c2w[:, :3, 3], before.c2w[:, :3, 3], atol=NEAR_M)
    np.testing.assert_allclose(after.c2w[:, :3, :3], before.c2w[:, :3, :3], atol=1e-5)
    np.testing.assert_allclose(after.intrinsics, before.intrinsics, atol=NEAR_PX)


def test_pixels_that_are_not_square_come_back(stage, addon, tmp_path):
    stage.render.pixel_aspect_x, stage.render.pixel_aspect_y = 1.5, 1.0
    zoomed(stage, shift=0.03)
    before = evaluated(addon, stage)
    bpy.ops.sanawm.export_camera(filepath=str(tmp_path / "t.json"), format="TRANSFORMS")
    assert bpy.ops.sanawm.import_camera(filepath=str(tmp_path / "t.json")) == {"FINISHED"}
    np.testing.assert_allclose(evaluated(addon, stage).intrinsics, before.intrinsics, atol=NEAR_PX)


def test_a_file_keeps_its_own_times_and_its_turns_go_the_short_way(stage, addon, tmp_path):
    file = tmp_path / "tour.txt"
    turn = [f"0 {math.sin(a / 2)} 0 {math.cos(a / 2)}" for a in np.radians([0, 170, 340, 510])]
    file.write_text("".join(f"{7 + 0.3 * i} 0 0 {i} {q}\n" for i, q in enumerate(turn)))
    assert bpy.ops.sanawm.import_camera(filepath=str(file), lens_mm=30) == {"FINISHED"}
    camera = stage.sana_wm.camera
    assert stage.sana_wm.range_of(stage) == (11, math.ceil(11 + 0.9 * 24) - 1)
    for i, angle in enumerate((0, 170, 340, 510)):
        frame = 11 + 0.3 * 24 * i
        stage.frame_set(math.floor(frame), subframe=frame % 1)
        np.testing.assert_allclose(camera.matrix_world.translation, (0, i, 0), atol=1e-4)
        ahead = -np.array(camera.matrix_world)[:3, 2]
        a = math.radians(angle)
        np.testing.assert_allclose(ahead, (math.sin(a), math.cos(a), 0), atol=1e-4)
    stage.frame_set(11 + 3, subframe=0.6)
    ahead = -np.array(camera.matrix_world)[:3, 2]
    np.testing.assert_allclose(ahead[:2], (math.sin(math.radians(85)), math.cos(math.radians(85))), atol=1e-3)
    assert camera.data.lens == pytest.approx(30)
    assert camera.data.animation_data is None, "a lens that stands still has no keys"


def test_another_shape_of_picture_is_said(stage, addon, tmp_path, capfd):
    bpy.ops.sanawm.export_camera(filepath=str(tmp_path / "t.json"), format="TRANSFORMS")
    stage.render.resolution_y = 640
    assert bpy.ops.sanawm.import_camera(filepath=str(tmp_path / "t.json")) == {"FINISHED"}
    assert "The file's picture is 640x352 and the scene renders 640x640" in capfd.readouterr().out
    wide = evaluated(addon, stage, 1)
    assert wide.intrinsics[0, 0] == pytest.approx(50 / 36 * 640, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("nowhere.npy", None, "nowhere.npy is missing"),
        ("a.txt", "1 2 3\n", "a.txt is none of the camera files"),
        ("a.txt", "0 0 0 0 0 0 0 1\n0 0 0\n", "Line 2 of a.txt must hold 8 numbers"),
        ("a.json", "{}", "a.json has no list of frames"),
        ("a_pose.npy", "x", "a_pose.npy is not an array"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence_and_adds_nothing(stage, tmp_path, name, text, said):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(RuntimeError, match=said):
        bpy.ops.sanawm.import_camera(filepath=str(tmp_path / name))
    assert len(bpy.data.cameras) == 1 and stage.sana_wm.camera is None


def test_names_of_written_files(addon, tmp_path):
    named = addon("camera_exchange").file_name
    assert named(tmp_path / "010_0010.npy", "SANA_WM").name == "010_0010_pose.npy"
    assert named(tmp_path / "my_pose.json", "SANA_WM").name == "my_pose.npy"
    assert named(tmp_path / "a.npy", "COLMAP").name == "a"
    assert named(tmp_path / "a.npy", "CHAN").name == "a.chan"


@pytest.mark.parametrize("old_keys", [False, True])
def test_actions_move_the_camera_as_the_model_sees_it(stage, addon, old_keys):
    stage.frame_set(30)
    standing = evaluated(addon, stage, 1)
    text = "w-16,dw-16,l-8,i-8"
    assert bpy.ops.sanawm.camera_from_actions(actions=text, old_keys=old_keys) == {"FINISHED"}
    assert stage.sana_wm.range_of(stage) == (11, 11 + 72 - 1) and stage.frame_current == 30
    module = addon("camera_exchange")
    keys = module.OLD_KEYS if old_keys else module.CURRENT_KEYS
    wanted = module.action_path(text, (1, 1, 1, 1), SIZE, keys)
    filmed = evaluated(addon, stage, len(wanted))
    np.testing.assert_allclose(filmed.c2w[0], standing.c2w[0], atol=1e-5)
    relative = np.linalg.inv(filmed.c2w[0]) @ filmed.c2w
    np.testing.assert_allclose(relative, np.linalg.inv(wanted.c2w[0]) @ wanted.c2w, atol=1e-5)
    np.testing.assert_allclose(
        filmed.intrinsics, np.tile(standing.intrinsics, (len(wanted), 1)), atol=NEAR_PX
    )


def test_actions_from_the_cursor_and_a_bad_string(stage, addon):
    stage.cursor.location, stage.cursor.rotation_euler = (1, 2, 3), (0, 0, math.pi / 2)
    assert bpy.ops.sanawm.camera_from_actions(actions="w-16", start="CURSOR") == {"FINISHED"}
    filmed = evaluated(addon, stage, 17)
    np.testing.assert_allclose(filmed.c2w[0, :3, 3], (1, 2, 3), atol=1e-5)
    np.testing.assert_allclose(filmed.c2w[:, :3, 2], [(-1, 0, 0)] * 17, atol=1e-5)
    assert filmed.c2w[-1, 0, 3] == pytest.approx(1 - 0.4, abs=0.05)
    cameras = len(bpy.data.cameras)
    with pytest.raises(RuntimeError, match="'w8' is no action; write keys, a hyphen"):
        bpy.ops.sanawm.camera_from_actions(actions="w8")
    assert len(bpy.data.cameras) == cameras

# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's camera as the model sees it: against Blender's own projection, and against arithmetic."""

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Euler, Vector

FPS = 16


@pytest.fixture
def camera_module(addon):
    return addon("camera")


def add_camera(scene, name="Camera", **settings):
    data = bpy.data.cameras.new(name)
    for key, value in settings.items():
        setattr(data, key, value)
    camera = bpy.data.objects.new(name, data)
    scene.collection.objects.link(camera)
    scene.camera = scene.camera or camera
    return camera


def add_empty(scene, name):
    empty = bpy.data.objects.new(name, None)
    scene.collection.objects.link(empty)
    return empty


def key_linear(owner, path, frames_and_values):
    """Keyframes with straight lines between and beyond them, so that the truth is arithmetic."""
    for frame, value in frames_and_values:
        setattr(owner, path, value)
        owner.keyframe_insert(path, frame=frame)
    for curve in curves_of(owner):
        curve.extrapolation = "LINEAR"
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"


def curves_of(owner):
    animation = owner.animation_data
    if not hasattr(animation, "action_slot"):
        return list(animation.action.fcurves)
    strip = animation.action.layers[0].strips[0]
    return list(strip.channelbag(animation.action_slot).fcurves)


def export(camera_module, scene, camera, start=1.0, count=1):
    return camera_module.export_camera(scene, bpy.context.view_layer, camera, start, count)


def projected(path, sample, points):
    """(N, 2) pixels of (N, 3) world points, by the definition of the camera path."""
    in_camera = np.linalg.inv(path.c2w[sample]) @ np.c_[points, np.ones(len(points))].T
    fx, fy, cx, cy = path.intrinsics[sample]
    return np.stack([fx * in_camera[0] / in_camera[2] + cx, fy * in_camera[1] / in_camera[2] + cy], axis=1)


def intrinsics_by_hand(data, width, height, aspect_x, aspect_y):
    """fx, fy, cx, cy from the lens and the sensor alone."""
    wide, tall = width * aspect_x, height * aspect_y
    fit = data.sensor_fit if data.sensor_fit != "AUTO" else "HORIZONTAL" if wide >= tall else "VERTICAL"
    sensor = data.sensor_height if data.sensor_fit == "VERTICAL" else data.sensor_width
    view = wide if fit == "HORIZONTAL" else tall
    focal = data.lens / sensor * view
    return [
        focal / aspect_x,
        focal / aspect_y,
        width / 2 - data.shift_x * view / aspect_x,
        height / 2 + data.shift_y * view / aspect_y,
    ]


def test_random_cameras_project_as_blender_does(empty_file, camera_module):
    scene, rng = empty_file, np.random.default_rng(4)
    scene.unit_settings.scale_length = 1.0
    for number in range(60):
        scene.render.resolution_x, scene.render.resolution_y = (8 * rng.integers(20, 200, 2)).tolist()
        scene.render.resolution_percentage = int(rng.choice([25, 50, 100]))
        scene.render.pixel_aspect_x = rng.choice([1.0, 1.5, 2.0])
        scene.render.pixel_aspect_y = rng.choice([1.0, 1.2])
        camera = add_camera(
            scene,
            f"Camera {number}",
            sensor_fit=rng.choice(["AUTO", "HORIZONTAL", "VERTICAL"]),
            sensor_width=rng.uniform(10, 50),
            sensor_height=rng.uniform(10, 50),
            lens=rng.uniform(15, 60),
            shift_x=rng.uniform(-0.4, 0.4),
            shift_y=rng.uniform(-0.4, 0.4),
        )
        parent = add_empty(scene, f"Parent {number}")
        parent.scale = [rng.uniform(0.2, 3)] * 3
        camera.parent = parent
        parent.location, camera.location = rng.uniform(-20, 20, 3), rng.uniform(-2, 2, 3)
        parent.rotation_euler = rng.uniform(-3, 3, 3)
        camera.rotation_euler = rng.uniform(-3, 3, 3)
        camera.scale = [rng.uniform(0.1, 2)] * 3
        bpy.context.view_layer.update()
        ahead = rng.uniform([-3, -3, -30], [3, 3, -2], (20, 3))
        pose = camera.matrix_world.normalized()
        points = np.array([pose @ Vector(point) for point in ahead])
        path = export(camera_module, scene, camera)
        width, height = path.image_size
        view = [world_to_camera_view(scene, camera, Vector(point)) for point in points]
        expected = np.array([(x * width, (1 - y) * height) for x, y, _depth in view])
        inside = (np.abs(expected) < 4 * max(path.image_size)).all(1)  # float32 says nothing far outside
        error = np.abs(projected(path, 0, points) - expected)[inside].max()
        assert error < 0.02, f"camera {number} is {error:.4f} px off"


def test_intrinsics_follow_lens_sensor_shift_aspect_and_percentage(empty_file, camera_module):
    scene, rng = empty_file, np.random.default_rng(5)
    for fit in ("AUTO", "HORIZONTAL", "VERTICAL"):
        for size in ((1920, 1080), (1080, 1920), (640, 640)):
            for aspect in ((1.0, 1.0), (1.46, 1.0), (1.0, 1.7)):
                for percentage in (100, 37):
                    scene.render.resolution_x, scene.render.resolution_y = size
                    scene.render.resolution_percentage = percentage
                    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = aspect
                    camera = add_camera(
                        scene,
                        sensor_fit=fit,
                        sensor_height=20.0,
                        lens=rng.uniform(20, 50),
                        shift_x=rng.uniform(-0.3, 0.3),
                        shift_y=rng.uniform(-0.3, 0.3),
                    )
                    path = export(camera_module, scene, camera)
                    width, height = size[0] * percentage // 100, size[1] * percentage // 100
                    assert path.image_size == (width, height)
                    expected = intrinsics_by_hand(
                        camera.data, width, height, scene.render.pixel_aspect_x, scene.render.pixel_aspect_y
                    )
                    np.testing.assert_allclose(
                        path.intrinsics[0], expected, rtol=2e-5, err_msg=f"{fit} {size} {aspect} {percentage}"
                    )


def test_blenders_axes_become_opencvs(empty_file, camera_module):
    """Looking along +y from a height of 2 m: x stays, y points down, z into the picture."""
    camera = add_camera(empty_file)
    camera.location, camera.rotation_euler = (1, -5, 2), (np.pi / 2, 0, 0)
    path = export(camera_module, empty_file, camera)
    np.testing.assert_allclose(
        path.c2w[0], [[1, 0, 0, 1], [0, 0, 1, -5], [0, -1, 0, 2], [0, 0, 0, 1]], atol=1e-6
    )


@pytest.mark.parametrize("fps, base", [(24, 1.0), (25, 1.0), (30, 1.0), (16, 1.0), (24, 1.001)])
def test_samples_lie_between_frames(empty_file, camera_module, fps, base):
    """A rig of parent, constraint, driver and keyed shift, against where it must be at each 1/16 s."""
    scene, start, count = empty_file, 11, 41
    scene.render.fps, scene.render.fps_base = fps, base
    scene.unit_settings.scale_length = 1.0
    dolly, aim, camera = add_empty(scene, "Dolly"), add_empty(scene, "Aim"), add_camera(scene)
    camera.parent, camera.location = dolly, (0, 0, 1.5)
    key_linear(dolly, "location", [(11, (0, 0, 0)), (251, (24, 0, 0))])  # a tenth of a metre a frame
    key_linear(aim, "location", [(11, (3, 40, 1.5)), (251, (3, 40, 25.5))])
    constraint = camera.constraints.new("TRACK_TO")
    constraint.target, constraint.track_axis, constraint.up_axis = aim, "TRACK_NEGATIVE_Z", "UP_Y"
    driver = camera.data.driver_add("lens").driver
    variable = driver.variables.new()
    variable.name, variable.type = "x", "TRANSFORMS"
    variable.targets[0].id, variable.targets[0].transform_type = dolly, "LOC_X"
    driver.expression = "30 + x"
    key_linear(camera.data, "shift_x", [(11, 0.0), (251, 0.24)])
    scene.render.resolution_x, scene.render.resolution_y = 1280, 704

    path = export(camera_module, scene, camera, start, count)

    frames = np.arange(count) / FPS * fps / base  # since the start
    position = np.stack([0.1 * frames, 0 * frames, 0 * frames + 1.5], axis=1)
    forward = np.stack([0 * frames + 3, 0 * frames + 40, 1.5 + 0.1 * frames], axis=1) - position
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    np.testing.assert_allclose(path.c2w[:, :3, 3], position, atol=2e-5)
    np.testing.assert_allclose(path.c2w[:, :3, 2], forward, atol=2e-5)
    assert (np.abs(path.c2w[:, 2, 0]) < 1e-5).all(), "the horizon tilts"
    np.testing.assert_allclose(path.intrinsics[:, 0], (30 + 0.1 * frames) / 36 * 1280, rtol=1e-5)
    np.testing.assert_allclose(path.intrinsics[:, 2], 640 - 0.001 * frames * 1280, atol=2e-3)


def test_lengths_are_metres_whatever_the_scenes_unit(empty_file, camera_module):
    camera = add_camera(empty_file)
    key_linear(camera, "location", [(1, (0, 0, 170)), (25, (100, 0, 170))])
    empty_file.render.fps = 24
    empty_file.unit_settings.scale_length = 0.01
    path = export(camera_module, empty_file, camera, 1, 17)
    np.testing.assert_allclose(path.c2w[[0, -1], :3, 3], [[0, 0, 1.7], [1, 0, 1.7]], atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(path.c2w[:, :3, :3]), 1, atol=1e-6)


def test_the_scene_is_left_as_it_was(empty_file, camera_module, protocol):
    scene = empty_file
    filming, other, third = (add_camera(scene, name) for name in ("Filming", "Other", "Third"))
    for frame, camera in ((1, other), (12, third)):
        scene.timeline_markers.new(f"F{frame}", frame=frame).camera = camera
    key_linear(filming, "location", [(1, (0, 0, 0)), (25, (5, 0, 0))])
    scene.frame_set(7, subframe=0.25)
    scene.camera = filming  # by hand, against the markers
    path = export(camera_module, scene, filming, 1, 17)
    assert (scene.frame_current, scene.frame_subframe, scene.camera) == (7, 0.25, filming)
    assert path.c2w[-1, 0, 3] > 3, "a marker's camera leaked in"
    filming.data.type = "ORTHO"
    with pytest.raises(protocol.ProtocolError):
        export(camera_module, scene, filming, 1, 17)
    assert (scene.frame_current, scene.frame_subframe, scene.camera) == (7, 0.25, filming)


def test_markers_choose_the_camera_only_where_none_is_chosen(empty_file, camera_module, protocol):
    scene = empty_file
    first, second = add_camera(scene, "First"), add_camera(scene, "Second")
    scene.timeline_markers.new("To First", frame=10).camera = first
    scene.timeline_markers.new("To Second", frame=50).camera = second
    scene.camera = second
    shot_camera = camera_module.shot_camera
    assert shot_camera(scene, None, 12, 49) == first
    assert shot_camera(scene, None, 1, 9) == first  # before the first marker, it holds already
    assert shot_camera(scene, None, 50, 90) == second
    assert shot_camera(scene, second, 12, 90) == second
    with pytest.raises(protocol.ProtocolError, match="To Second at frame 50 cuts to the camera Second"):
        shot_camera(scene, None, 12, 50)
    second.hide_render = True  # Blender passes over the markers of such cameras
    assert shot_camera(scene, None, 12, 50) == first


def test_a_hidden_camera_is_followed(empty_file, camera_module, protocol):
    camera = add_camera(empty_file)
    key_linear(camera, "location", [(1, (0, 0, 0)), (25, (5, 0, 0))])
    empty_file.camera = None
    camera.hide_set(True)
    assert export(camera_module, empty_file, camera, 1, 17).c2w[-1, 0, 3] == pytest.approx(5, abs=1e-5)
    bpy.context.view_layer.layer_collection.exclude = False
    shelf = bpy.data.collections.new("Shelf")
    empty_file.collection.children.link(shelf)
    empty_file.collection.objects.unlink(camera)
    shelf.objects.link(camera)
    bpy.context.view_layer.layer_collection.children["Shelf"].exclude = True
    with pytest.raises(protocol.ProtocolError, match="excluded from the view layer"):
        export(camera_module, empty_file, camera, 1, 17)


def test_a_camera_squeezed_by_its_parent_is_refused(empty_file, camera_module, protocol):
    parent, camera = add_empty(empty_file, "Parent"), add_camera(empty_file)
    camera.parent, parent.scale, camera.rotation_euler = parent, (1, 1, 3), Euler((0.7, 0.3, 0))
    with pytest.raises(protocol.ProtocolError, match="sheared or mirrored"):
        export(camera_module, empty_file, camera)


def straight_ahead(scene):
    camera = add_camera(scene, lens=30)
    key_linear(camera, "location", [(1, (0, 0, 0)), (49, (0.4, 0, 0))])
    scene.frame_start, scene.frame_end, scene.render.fps = 1, 48, 24
    return camera


def jump(scene, camera):
    camera.animation_data_clear()
    for frame, x in ((1, 0.0), (25, 30.0)):
        camera.location.x = x
        camera.keyframe_insert("location", frame=frame)
    for curve in curves_of(camera):
        for point in curve.keyframe_points:
            point.interpolation = "CONSTANT"


def put(target, name, value):
    return lambda scene, camera: setattr(camera.data if target == "data" else scene, name, value)


REFUSALS = {
    "orthographic": (put("data", "type", "ORTHO"), "is orthographic, .* type to Perspective"),
    "panoramic": (put("data", "type", "PANO"), "is panoramic"),
    "too narrow": (put("data", "lens", 110), "field of view reaches 18.* degrees"),
    "too wide": (put("data", "lens", 9), "field of view reaches 126.* degrees"),
    "cut": (jump, r"jumps 1.\d\d s into the range.*split the range"),
    "too short": (put("scene", "frame_end", 11), "needs at least 9"),
    "reversed": (put("scene", "frame_end", 0), "before it starts"),
    "too long": (put("scene", "frame_end", 5000), "at most 961 .* split the range"),
    "no camera": (lambda scene, camera: bpy.data.objects.remove(camera), "has no camera; add one"),
}
if "CUSTOM" in bpy.types.Camera.bl_rna.properties["type"].enum_items:
    REFUSALS["custom"] = (put("data", "type", "CUSTOM"), "is custom")


@pytest.mark.parametrize("case", REFUSALS)
def test_what_the_model_cannot_film_is_refused_in_words(empty_file, case, tmp_path):
    change, sentence = REFUSALS[case]
    camera = straight_ahead(empty_file)
    empty_file.sana_wm.range_source = "CUSTOM" if case == "reversed" else "SCENE"
    empty_file.sana_wm.frame_start, empty_file.sana_wm.frame_end = 1, 0
    change(empty_file, camera)
    with pytest.raises(RuntimeError, match=sentence):
        bpy.ops.sanawm.export_job(directory=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_minute_of_frames_gives_a_minute_of_samples(empty_file, addon):
    scene, sample_count = empty_file, addon("timeline").sample_count
    for fps, base in ((24, 1.0), (25, 1.0), (30, 1.0), (24, 1.001), (16, 1.0)):
        scene.render.fps, scene.render.fps_base = fps, base
        assert sample_count(scene, 1, 60 * fps) == 961, (fps, base)
    assert sample_count(scene, 1, 960, "streaming") == 961

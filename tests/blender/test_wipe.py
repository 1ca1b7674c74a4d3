# SPDX-License-Identifier: GPL-3.0-or-later
"""The wipe: where it lies, which frame it shows, and what is left of the line, by its pixels; the edges beside it."""

import bpy
import gpu
import numpy as np
import pytest
from mathutils import Matrix

from tests.numbered_clip import FPS, SHORT, SIZE

DIGIT_STEP = 25  # of gray, see numbered_clip


@pytest.fixture
def scene(empty_file):
    empty_file.render.fps = 24
    empty_file.collection.objects.link(bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera")))
    empty_file.camera = bpy.data.objects["Camera"]
    return empty_file


@pytest.fixture
def screen(scene):
    """An off-screen picture as large as the clip; the first Workbench render gives Blender a GPU."""
    render = scene.render
    render.engine, render.resolution_x, render.resolution_y = "BLENDER_WORKBENCH", 8, 8
    bpy.ops.render.render()
    try:
        picture = gpu.types.GPUOffScreen(*SIZE)
    except SystemError:
        pytest.skip("this machine's Blender has no GPU")
    yield picture
    picture.free()


def seen(addon, screen, draw):
    """(H, W, 3) of 0..255 after drawing over black, the lowest row first."""
    with screen.bind():
        framebuffer = gpu.state.active_framebuffer_get()
        framebuffer.clear(color=(0, 0, 0, 1))
        with gpu.matrix.push_pop(), gpu.matrix.push_pop_projection():
            gpu.matrix.load_matrix(Matrix.Identity(4))
            to_screen = Matrix.Diagonal((2 / SIZE[0], 2 / SIZE[1], 1, 1))
            gpu.matrix.load_projection_matrix(Matrix.Translation((-1, -1, 0)) @ to_screen)
            draw()
        pixels = framebuffer.read_color(0, 0, *SIZE, 4, 0, "UBYTE")
    pixels.dimensions = SIZE[0] * SIZE[1] * 4
    picture = np.array(pixels, int).reshape(SIZE[1], SIZE[0], 4)[..., :3]
    if bpy.app.version < (
        5,
        0,
    ):  # scene linear, which the viewport's framebuffer turns into sRGB and this one does not
        picture = np.round(255 * addon("colour").srgb_from_linear(picture / 255)).astype(int)
    return picture


def number(picture, row=4):
    """The frame that a picture shows, by its fields of tens and units."""
    tens, units = (round((picture[row, x].mean() - 15) / DIGIT_STEP) for x in (48, 80))
    return 10 * tens + units


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
    rectangle = addon("compare.registration").clip_rectangle(corners, clip_size)
    found = rectangle.left - 100, rectangle.bottom - 50, rectangle.right - 100, rectangle.top - 50
    np.testing.assert_allclose(found, expected, atol=0.6)


def test_the_line_stays_inside_of_the_clip(addon):
    registration = addon("compare.registration")
    rectangle = registration.Rectangle(100, 0, 300, 80)
    across, up = registration.ACROSS, registration.UP
    assert [rectangle.share(across, x) for x in (0, 100, 150, 300, 999)] == [0, 0, 0.25, 1, 1]
    assert rectangle.at(across, 0.25) == 150 and rectangle.at(up, 0.25) == 20
    assert rectangle.part(across, 0.25).right == 150 and rectangle.part(up, 0.25).top == 20


@pytest.mark.parametrize("fps", [16, 24, 25, 30])
@pytest.mark.parametrize("pose_offset", [0, 1])
def test_a_scene_frame_has_its_clip_frame_everywhere(scene, addon, finished_job, fps, pose_offset):
    scene.render.fps = fps
    job = finished_job(scene, SHORT, frame_start=11, pose_offset=pose_offset)
    time = addon("clip_time").ClipTime.of_job(job, scene)
    for frame in range(5, 11 + 4 * fps):
        asked_s = (frame - 11) / fps - pose_offset / FPS
        expected = min(max(asked_s * FPS, 0), SHORT - 1)
        assert abs(time.frame_at(frame) - expected) <= 0.5 + 1e-6, f"scene frame {frame} at {fps} fps"
    assert time.last == pytest.approx(11 + (SHORT - 1 + pose_offset) / FPS * fps)


def test_it_draws_the_frame_of_the_moment_left_of_the_line_and_nothing_right_of_it(
    scene, addon, finished_job, screen
):
    wipe, registration = addon("compare.wipe"), addon("compare.registration")
    active, whole = wipe.start(scene, finished_job(scene, SHORT)), registration.Rectangle(0, 0, *SIZE)
    active.held = "CLIP"
    for frame in (1, 25, 14, 73, 200, 2):
        scene.frame_set(frame)
        picture = seen(addon, screen, lambda: wipe.draw(active, scene, whole))
        assert number(picture) == active.time.frame_at(frame), f"scene frame {frame}"
    left_field = picture[4, 16]
    np.testing.assert_allclose(left_field, 15, atol=3 if bpy.app.version >= (5, 0) else 12)  # as in the file
    active.held = "BLOCKOUT"
    assert not seen(addon, screen, lambda: wipe.draw(active, scene, whole)).any()

    active.held, active.split = "", 0.25
    picture = seen(addon, screen, lambda: wipe.draw(active, scene, whole))
    assert picture[4, :20].all() and not picture[4, 30:].any(), "an upright line"
    assert picture[:, 22:26].max() > 150, "there is a line"
    active.axis = registration.UP
    picture = seen(addon, screen, lambda: wipe.draw(active, scene, whole))
    assert picture[:12, 4].all() and not picture[20:, 4].any(), "a level one"
    wipe.stop()


def test_the_other_picture_is_the_one_that_is_not_under_the_mouse(addon, scene, finished_job):
    wipe, registration = addon("compare.wipe"), addon("compare.registration")
    active, rectangle = (
        wipe.start(scene, finished_job(scene, SHORT)),
        registration.Rectangle(100, 50, 300, 150),
    )
    assert active.is_clip_at(rectangle, (120, 60)) and not active.is_clip_at(rectangle, (280, 60))
    assert active.is_near_line(rectangle, (205, 60)) and not active.is_near_line(rectangle, (205, 160))
    active.axis = registration.UP
    assert active.is_clip_at(rectangle, (280, 60)) and not active.is_clip_at(rectangle, (120, 140))
    assert [active.shown_share(), active.is_flipped] == [0.5, False]
    active.held = "CLIP"
    assert [active.shown_share(), active.is_flipped] == [1.0, True]
    wipe.stop()


def test_a_wipe_leaves_nothing_and_ends_with_its_file(addon, scene, finished_job):
    wipe, job, images = addon("compare.wipe"), finished_job(scene, SHORT), len(bpy.data.images)
    wipe.start(scene, job)
    wipe.stop()
    assert wipe.active is None and len(bpy.data.images) == images
    wipe.start(scene, job)
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    assert wipe.active is None


def test_a_wipe_outlives_an_undo_that_takes_its_image(addon, scene, finished_job):
    wipe = addon("compare.wipe")
    active = wipe.start(scene, finished_job(scene, SHORT))
    bpy.data.images.remove(bpy.data.images[active.image])
    for handler in bpy.app.handlers.undo_post:
        handler(scene)
    assert active.image in bpy.data.images
    wipe.stop()


def test_a_wipe_without_its_camera_says_so(addon, scene, finished_job, protocol):
    job = finished_job(scene, SHORT)
    scene.camera.name = "Gone"
    with pytest.raises(protocol.ProtocolError, match="The camera Camera of .* is not in this file"):
        addon("compare.wipe").start(scene, job)


@pytest.fixture
def viewport(scene):
    """A context with a 3D viewport, as a button in one has it."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    region = next(region for region in area.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=region):
        yield bpy.context


def test_edges_give_back_the_shading_and_the_opacity_they_found(addon, scene, finished_job, viewport):
    overlay, wireframe, job = addon("compare.overlay"), addon("compare.wireframe"), finished_job(scene, SHORT)
    shading = viewport.space_data.shading
    shading.type, shading.show_xray_wireframe = "MATERIAL", False
    overlay.show_overlay(scene, job).alpha = 0.3
    wireframe.switch_on(viewport, job)
    background = overlay.overlay_of(scene.camera.data)
    assert (shading.type, background.display_depth, background.alpha) == ("WIREFRAME", "BACK", 1.0)
    assert wireframe.is_on(viewport)
    wireframe.switch_off(viewport)
    assert (shading.type, shading.show_xray_wireframe) == ("MATERIAL", False)
    assert (background.display_depth, background.alpha) == ("FRONT", pytest.approx(0.3))
    assert not wireframe.is_on(viewport) and overlay.shown_overlay(scene) is None


def test_one_way_of_looking_at_a_time_through_the_shots_camera(addon, scene, finished_job, viewport):
    looks, wipe, wireframe = (addon(f"compare.{name}") for name in ("viewport", "wipe", "wireframe"))
    job, camera = finished_job(scene, SHORT, frame_start=11), scene.camera
    scene.camera = None
    wireframe.switch_on(viewport, job)
    looks.look_through_camera(viewport, job)
    assert scene.camera == camera and viewport.region_data.view_perspective == "CAMERA"
    assert scene.frame_current == 11, "the playhead was before the clip"
    scene.frame_set(30)
    looks.look_through_camera(viewport, job)
    assert scene.frame_current == 30, "and stays where the clip is"
    wipe.start(scene, job)
    looks.leave_all(viewport)
    assert wipe.active is None and not wireframe.is_on(viewport)
    assert addon("compare.overlay").shown_overlay(scene) is None

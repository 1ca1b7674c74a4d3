# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture a clip begins with: what Workbench renders, and what an image file is cut to."""

import bpy
import numpy as np
import pytest


@pytest.fixture
def first_frame(addon):
    return addon("first_frame")


def decoded(png, folder):
    """(H, W, 3) float 0..1 of a PNG file's content, top row first."""
    file = folder / "decoded.png"
    file.write_bytes(png)
    image = bpy.data.images.load(str(file), check_existing=False)
    width, height = image.size
    pixels = np.array(image.pixels[:]).reshape(height, width, image.channels)[::-1, :, :3]
    bpy.data.images.remove(image)
    return pixels


def save_image(path, pixels):
    """Save (H, W, 3 or 4) values, top row first, as they are, as PNG."""
    height, width, channels = pixels.shape
    image = bpy.data.images.new("Test", width, height, alpha=channels == 4)
    rgba = np.ones((height, width, 4), np.float32)
    rgba[..., :channels] = pixels
    image.pixels.foreach_set(rgba[::-1].ravel())
    image.filepath_raw, image.file_format = str(path), "PNG"
    image.save()
    bpy.data.images.remove(image)
    return path


def add_marked_scene(scene):
    """A small white cube before black, seen through a shifted lens by a camera in a scaled parent."""
    mesh = bpy.data.meshes.new("Mark")
    corners = [(x, y, z) for z in (-1, 1) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    faces = [(3, 2, 1, 0), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)]
    mesh.from_pydata(np.multiply(corners, 0.15).tolist(), [], faces)
    mark = bpy.data.objects.new("Mark", mesh)
    mark.location = (1.2, 0.3, 2.4)
    parent = bpy.data.objects.new("Parent", None)
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    for obj in (mark, parent, camera):
        scene.collection.objects.link(obj)
    camera.parent, parent.scale = parent, (0.5, 0.5, 0.5)
    camera.location, camera.rotation_euler = (1.0, -12.0, 3.0), (1.55, 0.1, 0.02)
    camera.data.shift_x, camera.data.shift_y, camera.data.lens = 0.1, -0.15, 28
    scene.render.resolution_x, scene.render.resolution_y = 201, 333
    scene.render.resolution_percentage = 50
    scene.render.pixel_aspect_x = 1.5
    scene.world = bpy.data.worlds.new("World")
    scene.world.color = (0, 0, 0)
    scene.view_settings.view_transform = "Standard"
    scene.display.shading.light, scene.display.shading.color_type = "FLAT", "SINGLE"
    scene.display.shading.single_color = (1, 1, 1)
    bpy.context.view_layer.update()
    return camera, np.array(mark.matrix_world.translation)


def settings_of(scene):
    """Everything a user could set about the render, as text."""
    owners = {
        "render": scene.render,
        "image": scene.render.image_settings,
        "view": scene.view_settings,
        "display": scene.display.shading,
        "display settings": scene.display_settings,
    }
    found = {
        f"{name}.{prop.identifier}": repr(getattr(owner, prop.identifier))
        for name, owner in owners.items()
        for prop in owner.bl_rna.properties
        if prop.type in {"BOOLEAN", "INT", "FLOAT", "STRING", "ENUM"} and not prop.is_readonly
    }
    found["layers"] = [(layer.name, layer.use) for layer in scene.view_layers]
    found["markers"] = [(marker.frame, marker.camera) for marker in scene.timeline_markers]
    found["time"] = (scene.frame_current, scene.frame_subframe, scene.camera)
    return found


def test_the_render_shows_what_the_camera_path_says_and_leaves_the_scene_alone(
    empty_file, addon, first_frame, tmp_path
):
    scene = empty_file
    camera, point = add_marked_scene(scene)
    other = bpy.data.objects.new("Other", bpy.data.cameras.new("Other"))
    scene.collection.objects.link(other)
    scene.camera = other
    scene.timeline_markers.new("Cut", frame=1).camera = other
    scene.view_layers.new("Second")
    scene.render.engine = "CYCLES"
    scene.render.filepath = "//elsewhere"
    scene.render.use_border, scene.render.border_max_x, scene.render.film_transparent = True, 0.3, True
    if hasattr(scene.render.image_settings, "media_type"):
        scene.render.image_settings.media_type = "VIDEO"
    scene.render.image_settings.file_format = "FFMPEG"
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    end = {"length": 50} if bpy.app.version >= (5, 0) else {"frame_end": 51}
    strips.new_effect(name="Red", type="COLOR", channel=1, frame_start=1, **end).color = (1, 0, 0)
    scene.frame_set(5, subframe=0.5)
    before = settings_of(scene)

    png = first_frame.render_blockout(scene, bpy.context.view_layer, camera, 2.25)

    assert settings_of(scene) == before
    picture = decoded(png, tmp_path)
    assert picture.shape == (166, 100, 3)
    path = addon("camera").export_camera(scene, bpy.context.view_layer, camera, 2.25, 1)
    x, y, z = (np.linalg.inv(path.c2w[0]) @ [*point, 1])[:3]
    fx, fy, cx, cy = path.intrinsics[0]
    weight = np.where(picture.mean(2) > 0.1, picture.mean(2), 0)  # the black around it is dithered
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    seen = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
    assert weight.max() > 0.9 and weight.sum() > 20
    np.testing.assert_allclose(seen, [fx * x / z + cx, fy * y / z + cy], atol=0.3)
    assert b"tEXt" not in png, "the picture tells when and in which file it was made"


def test_an_image_of_the_right_size_is_taken_as_it_is(first_frame, empty_file, tmp_path):
    values = np.round(np.random.default_rng(1).random((40, 64, 3)) * 255) / 255
    file = save_image(tmp_path / "exact.png", values)
    picture = decoded(first_frame.image_file(file, (64, 40)), tmp_path)
    np.testing.assert_allclose(picture, values, atol=1e-6)
    assert len(bpy.data.images) == 0, "the image stays in the file"


@pytest.mark.parametrize("size, left, top", [((64, 40), 8, 0), ((60, 20), 0, 14)])
def test_an_image_of_another_shape_covers_and_is_cut_in_the_middle(
    first_frame, empty_file, tmp_path, size, left, top
):
    """The gradient tells where each pixel came from: red to the right, green downwards."""
    wide = np.zeros((40, 80, 3)) if top == 0 else np.zeros((48, 60, 3))
    height, width, _ = wide.shape
    wide[..., 0] = (np.arange(width) + 0.5) / width
    wide[..., 1] = (np.arange(height)[:, None] + 0.5) / height
    file = save_image(tmp_path / "other.png", wide)
    picture = decoded(first_frame.image_file(file, size), tmp_path)
    assert picture.shape == (size[1], size[0], 3)
    np.testing.assert_allclose(picture, wide[top : top + size[1], left : left + size[0]], atol=1 / 255)

    double = decoded(first_frame.image_file(file, (2 * size[0], 2 * size[1])), tmp_path)
    expected = wide[top : top + size[1], left : left + size[0]].repeat(2, 0).repeat(2, 1)
    np.testing.assert_allclose(double[4:-4, 4:-4], expected[4:-4, 4:-4], atol=4 / 255)


def test_transparent_and_scene_linear_images(first_frame, empty_file, tmp_path):
    rgba = np.full((32, 32, 4), 0.5)
    rgba[..., 3] = np.linspace(0.2, 1, 32)
    rgba = np.round(rgba * 255) / 255
    picture = decoded(first_frame.image_file(save_image(tmp_path / "alpha.png", rgba), (32, 32)), tmp_path)
    np.testing.assert_allclose(picture, rgba[..., :3], atol=2 / 255)
    linear = tmp_path / "linear.hdr"
    half = bytes([128, 128, 128, 128])  # red, green, blue and an exponent: 0.5 of light
    linear.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 32 +X 32\n" + half * 32 * 32)
    picture = decoded(first_frame.image_file(linear, (32, 32)), tmp_path)
    np.testing.assert_allclose(picture, 0.735, atol=2 / 255)


def test_a_file_that_does_not_do_is_refused_in_words(first_frame, empty_file, protocol, tmp_path):
    with pytest.raises(protocol.ProtocolError, match="gone.png does not exist; choose another"):
        first_frame.image_file(tmp_path / "gone.png", (64, 64))
    (tmp_path / "letter.png").write_text("Dear Blender, this is not a picture.")
    with pytest.raises(protocol.ProtocolError, match="letter.png (is not an image|cannot be read)"):
        first_frame.image_file(tmp_path / "letter.png", (64, 64))
    small = save_image(tmp_path / "small.png", np.zeros((10, 10, 3)))
    with pytest.raises(protocol.ProtocolError, match="10x10 pixels, too small .* covers 160x90"):
        first_frame.image_file(small, (640, 360))

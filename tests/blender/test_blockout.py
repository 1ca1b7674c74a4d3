# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene's geometry as the backend gets it: triangles, colours, rigid motion."""

import bpy
import numpy as np
import pytest

FPS = 16
CUBE = [(x, y, z) for z in (-1, 1) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
CUBE_FACES = [(3, 2, 1, 0), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)]


@pytest.fixture
def export(addon, empty_file):
    """Gives (blockout, warnings) of the scene from a frame on."""
    empty_file.render.fps = 24
    empty_file.unit_settings.scale_length = 1.0

    def run(frame=1.0, count=1):
        return addon("blockout").export_blockout(empty_file, bpy.context.view_layer, frame, count)

    return run


def add_cube(name, collection=None, mesh=None, **settings):
    if mesh is None:
        mesh = bpy.data.meshes.new(name)
        mesh.from_pydata(CUBE, [], CUBE_FACES)
    cube = bpy.data.objects.new(name, mesh)
    (collection or bpy.context.scene.collection).objects.link(cube)
    for key, value in settings.items():
        setattr(cube, key, value)
    return cube


def add_collection(name, parent=None):
    collection = bpy.data.collections.new(name)
    (parent or bpy.context.scene.collection).children.link(collection)
    return collection


def add_material(owner, name, colour):
    material = bpy.data.materials.new(name)
    material.diffuse_color = (*colour, 1)
    owner.data.materials.append(material)
    return material


def key(owner, path, *frames_and_values):
    for frame, value in frames_and_values:
        setattr(owner, path, value)
        owner.keyframe_insert(path, frame=frame)


def vertices_of(blockout, name):
    """(N, 3) vertices of every object of this name."""
    objects = [index for index, found in enumerate(blockout.object_names) if found == name]
    faces = blockout.faces[np.isin(blockout.face_object, objects)]
    return blockout.vertices[np.unique(faces)]


def sorted_rows(points):
    points = np.round(np.asarray(points, np.float64), 4) + 0.0
    return points[np.lexsort(points.T)]


def same_points(a, b):
    np.testing.assert_allclose(sorted_rows(a), sorted_rows(b), atol=1e-4)


def srgb(linear):
    linear = np.asarray(linear, np.float64)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def outward(blockout):
    """Whether every triangle's normal points away from the centre of all vertices."""
    corners = blockout.vertices[blockout.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return ((normals * (corners.mean(1) - blockout.vertices.mean(0))).sum(1) > 0).all()


def test_a_cube_with_modifier_and_parent_in_world_metres(export, empty_file):
    parent = bpy.data.objects.new("Parent", None)
    empty_file.collection.objects.link(parent)
    parent.location, parent.rotation_euler = (10, 0, 5), (0, 0, np.pi / 2)
    cube = add_cube("Cube", parent=parent, location=(2, 0, 0), scale=(1, 1, 3))
    empty_file.unit_settings.scale_length = 0.5
    blockout, warnings = export()
    expected = np.array(CUBE) * (1, 1, 3) + (2, 0, 0)
    expected = np.stack([-expected[:, 1], expected[:, 0], expected[:, 2]], 1) + (10, 0, 5)
    same_points(vertices_of(blockout, "Cube"), expected * 0.5)
    assert len(blockout.faces) == 12 and outward(blockout) and warnings == []
    assert list(blockout.object_names) == ["Cube"]

    array = cube.modifiers.new("Array", "ARRAY")
    array.count = 3
    assert len(export()[0].faces) == 36


def test_everything_that_renders_as_a_mesh_is_there(export, empty_file):
    text = bpy.data.curves.new("Text", "FONT")
    text.body, text.extrude = "A", 0.1
    curve = bpy.data.curves.new("Wire", "CURVE")
    curve.bevel_depth = 0.1
    curve.splines.new("POLY").points.add(1)
    curve.splines[0].points[1].co = (0, 0, 5, 1)
    ball = bpy.data.metaballs.new("Ball")
    ball.elements.new()
    lamp = bpy.data.lights.new("Lamp", "SUN")
    for name, data in (("Text", text), ("Wire", curve), ("Ball", ball), ("Lamp", lamp)):
        empty_file.collection.objects.link(bpy.data.objects.new(name, data))
    assert sorted(export()[0].object_names) == ["Ball", "Text", "Wire"]


def test_instances_stand_where_they_are_seen(export, empty_file):
    post = bpy.data.collections.new("Post")
    add_cube("Pole", post, location=(0, 0, 1))
    for x in (5, -7):
        empty = bpy.data.objects.new(f"Instance {x}", None)
        empty.instance_type, empty.instance_collection = "COLLECTION", post
        empty.location = (x, 0, 0)
        empty_file.collection.objects.link(empty)
    blockout, _ = export()
    assert sorted(blockout.object_names) == ["Instance -7/Pole", "Instance 5/Pole"]
    same_points(vertices_of(blockout, "Instance 5/Pole"), np.array(CUBE) + (5, 0, 1))
    same_points(vertices_of(blockout, "Instance -7/Pole"), np.array(CUBE) + (-7, 0, 1))


def test_what_is_instanced_on_vertices_is_not_there_twice(export):
    points = bpy.data.meshes.new("Points")
    points.from_pydata([(0, 0, 0), (9, 0, 0)], [], [])
    carrier = bpy.data.objects.new("Carrier", points)
    bpy.context.scene.collection.objects.link(carrier)
    carrier.instance_type = "VERTS"
    add_cube("Leaf", parent=carrier)
    blockout, _ = export()
    assert len(blockout.faces) == 24
    assert np.ptp(blockout.vertices[:, 0]) == pytest.approx(11)


def test_colours_are_those_of_the_viewport(export, empty_file):
    two = add_cube("Two")
    add_material(two, "Red", (0.8, 0.1, 0.05))
    add_material(two, "Blue", (0.0, 0.2, 0.9))
    two.data.polygons[1].material_index = 1
    own = add_cube("Own")
    add_material(own, "Mesh's", (1, 1, 1))
    own.material_slots[0].link = "OBJECT"
    own.material_slots[0].material = bpy.data.materials["Red"]
    add_cube("Plain").color = (0.1, 0.9, 0.3, 1)
    shading = empty_file.display.shading

    shading.color_type = "MATERIAL"
    blockout, _ = export()
    found = {
        (str(name), tuple(np.round(colour, 3)), int((blockout.face_object == index).sum()))
        for index, (name, colour) in enumerate(
            zip(blockout.object_names, blockout.object_colors.tolist(), strict=True)
        )
    }
    red, blue, gray = (tuple(np.round(srgb(c), 3)) for c in ((0.8, 0.1, 0.05), (0, 0.2, 0.9), (0.8,) * 3))
    assert found == {("Two", red, 10), ("Two", blue, 2), ("Own", red, 12), ("Plain", gray, 12)}

    shading.color_type = "OBJECT"
    blockout, _ = export()
    plain = list(blockout.object_names).index("Plain")
    np.testing.assert_allclose(blockout.object_colors[plain], srgb((0.1, 0.9, 0.3)), atol=1e-3)
    assert len(blockout.object_names) == 3

    shading.color_type, shading.single_color = "SINGLE", (0.2, 0.3, 0.4)
    np.testing.assert_allclose(export()[0].object_colors, [srgb((0.2, 0.3, 0.4))] * 3, atol=1e-3)


def test_the_background_is_the_worlds_viewport_colour(export, empty_file):
    empty_file.world = bpy.data.worlds.new("World")
    empty_file.world.color = (0.2, 0.4, 0.8)
    np.testing.assert_allclose(export()[0].background, srgb((0.2, 0.4, 0.8)), atol=1e-3)


def test_what_does_not_render_is_left_out_and_what_only_the_viewport_hides_is_in(export, empty_file):
    layer = bpy.context.view_layer
    add_cube("Shown")
    add_cube("Not Rendered").hide_render = True
    add_cube("Monitor Off").hide_viewport = True
    add_cube("Eye Closed").hide_set(True)
    collections = {name: add_collection(name) for name in ("Excluded", "No Camera", "Off", "Closed")}
    for name, collection in collections.items():
        add_cube(f"In {name}", collection)
    layer.layer_collection.children["Excluded"].exclude = True
    collections["No Camera"].hide_render = True
    collections["Off"].hide_viewport = True
    layer.layer_collection.children["Closed"].hide_viewport = True

    blockout, _ = export(count=3)

    assert sorted(blockout.object_names) == ["Eye Closed", "In Closed", "In Off", "Monitor Off", "Shown"]
    assert bpy.data.objects["Monitor Off"].hide_viewport and bpy.data.objects["Eye Closed"].hide_get()
    assert collections["Off"].hide_viewport and layer.layer_collection.children["Closed"].hide_viewport
    assert not bpy.data.objects["Shown"].hide_get() and not bpy.data.objects["Shown"].hide_viewport


def test_rigid_motion_is_exact_at_every_sample(export, empty_file):
    """Moved by the motion, the shape of sample 0 is what an export from that sample's time on gives."""
    empty_file.unit_settings.scale_length = 0.3
    parent = bpy.data.objects.new("Parent", None)
    empty_file.collection.objects.link(parent)
    key(parent, "rotation_euler", (1, (0, 0, 0)), (40, (0.5, -0.3, 2.6)))
    moving = add_cube("Moving", parent=parent, location=(3, 1, 0), scale=(1, 2, 1))
    add_material(moving, "A", (1, 0, 0))
    add_material(moving, "B", (0, 1, 0))
    moving.data.polygons[0].material_index = 1
    key(moving, "location", (1, (3, 1, 0)), (30, (-4, 6, 2)))
    add_cube("Still", location=(0, 0, -9))
    count, start = 25, 4
    blockout, warnings = export(start, count)
    assert warnings == []
    assert [blockout.object_names[index] for index in blockout.moving] == ["Moving", "Moving"]
    np.testing.assert_array_equal(blockout.motion[:, 0], [np.eye(4)] * 2)
    for sample in range(0, count, 3):
        alone, _ = export(start + sample * 24 / FPS)
        for moved, motion in zip(blockout.moving, blockout.motion, strict=True):
            vertices = blockout.vertices[np.unique(blockout.faces[blockout.face_object == moved])]
            expected = alone.vertices[np.unique(alone.faces[alone.face_object == moved])]
            there = vertices @ motion[sample, :3, :3].T + motion[sample, :3, 3]
            np.testing.assert_allclose(there, expected, atol=2e-6, err_msg=f"sample {sample}")


def test_moving_instances_move(export, empty_file):
    post = bpy.data.collections.new("Post")
    add_cube("Pole", post)
    empty = bpy.data.objects.new("Instance", None)
    empty.instance_type, empty.instance_collection = "COLLECTION", post
    empty_file.collection.objects.link(empty)
    key(empty, "location", (1, (0, 0, 0)), (25, (6, 0, 0)))
    blockout, _ = export(1, 17)
    assert blockout.motion[0, -1, 0, 3] == pytest.approx(6, abs=1e-5)


def test_a_deforming_mesh_is_frozen_with_a_warning(export):
    cube = add_cube("Jelly")
    bend = cube.modifiers.new("Bend", "SIMPLE_DEFORM")
    bend.deform_method, bend.deform_axis = "TWIST", "Z"
    key(bend, "angle", (1, 0.0), (25, 1.5))
    blockout, warnings = export(1, 17)
    same_points(vertices_of(blockout, "Jelly"), CUBE)
    assert len(blockout.moving) == 0
    assert len(warnings) == 1 and warnings[0].startswith("Jelly changes shape or size")


def test_a_growing_object_keeps_its_size_with_a_warning(export):
    cube = add_cube("Balloon")
    key(cube, "scale", (1, (1, 1, 1)), (25, (2, 2, 2)))
    key(cube, "location", (1, (0, 0, 0)), (25, (0, 0, 4)))
    blockout, warnings = export(1, 17)
    assert any(sentence.startswith("Balloon changes shape or size") for sentence in warnings)
    motion = blockout.motion[0, -1]
    np.testing.assert_allclose(motion[:3, :3], np.eye(3), atol=1e-6)
    np.testing.assert_allclose(motion[:3, 3], (0, 0, 4), atol=1e-5)


def test_what_comes_or_goes_is_told(export):
    add_cube("Ghost")
    key(bpy.data.objects["Ghost"], "hide_render", (1, False), (12, True))
    late = add_cube("Late")
    key(late, "hide_render", (1, True), (12, False))
    blockout, warnings = export(1, 17)
    assert list(blockout.object_names) == ["Ghost"]
    assert len(warnings) == 1 and "Ghost, Late appears or disappears" in warnings[0]


def test_the_playhead_stays(export, empty_file):
    add_cube("Cube")
    empty_file.frame_set(33, subframe=0.5)
    export(1, 9)
    assert (empty_file.frame_current, empty_file.frame_subframe) == (33, 0.5)


def test_an_empty_scene_gives_an_empty_blockout(export):
    blockout, warnings = export(1, 9)
    assert len(blockout.faces) == 0 and warnings == []


def test_too_many_triangles_are_refused_in_words(export, addon, protocol, monkeypatch):
    monkeypatch.setattr(addon("blockout"), "MAX_TRIANGLES", 20)
    add_cube("One")
    add_cube("Two")
    with pytest.raises(protocol.ProtocolError, match="more than 20 triangles"):
        export()


def test_an_object_in_edit_mode_is_there_as_edited_so_far(export):
    cube = add_cube("Cube")
    before, _warnings = export(count=2)
    bpy.context.view_layer.objects.active = cube
    bpy.ops.object.mode_set(mode="EDIT")
    same, warnings = export(count=2)
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.transform.translate(value=(0, 0, 2))
    moved, _warnings = export()
    bpy.ops.object.mode_set(mode="OBJECT")
    assert same == before and warnings == []
    np.testing.assert_allclose(vertices_of(moved, "Cube").mean(axis=0), (0, 0, 2), atol=1e-6)

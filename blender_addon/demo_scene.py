# SPDX-License-Identifier: GPL-3.0-or-later
"""A blockout to try things on: a street with an arch, a figure, lamp posts and a moving camera."""

from __future__ import annotations

import math

import bpy
from bpy.types import Collection, Context, Material, Object, Scene

from .colour import linear_from_srgb
from .shapes import Mesh, arch, box, cylinder, gable, merged, sphere

DURATION_S = 6
_FPS = 24
# sRGB, as one reads colours off a screen.
_PALETTE = {
    "road": "646a75", "pavement": "cac3b6", "kerb": "9d968b", "paint": "fef9e8", "grass": "8baa6c",
    "terracotta": "da7c57", "mustard": "edb952", "sage": "9db997", "slate": "788ea7", "rose": "e6a9a0",
    "cream": "fbebc9", "plum": "976e84", "teal": "579d98", "roof": "865242", "roof_grey": "5f6470",
    "glass": "465c72", "frame": "fffdee", "door": "436354", "wood": "976842", "iron": "34393e",
    "lamp": "ffe9b0", "stone": "ded1b8", "stone_dark": "b2a58b", "coat": "dc4138", "skin": "edaf88",
    "trousers": "394765", "hair": "32251f", "leaf": "689754", "leaf_light": "93ba60", "trunk": "745239",
    "car": "f8c342", "tyre": "2a2d30", "hill": "9db6af", "hill_far": "b9cdd6", "awning": "c94f46",
}  # fmt: skip
_SKY = "c3e0f4"


def build(context: Context) -> Scene:
    """Make the demo in a scene of its own, so that the open one stays as it is; the caller switches to it.

    Six seconds at 24 fps: the camera rides on a dolly, pans and zooms as gently as the model likes it, and
    keeps about four fifths of the first picture in view. A car rolls along the street.
    """
    scene = bpy.data.scenes.new("SANA-WM Demo")
    _set_up_render(scene)
    builder = _Builder(scene)
    _ground(builder)
    _houses(builder)
    _gate(builder)
    _figure(builder)
    _lamps(builder)
    _trees(builder)
    _street_furniture(builder)
    _car(builder)
    _camera(scene)
    context.view_layer.update()
    return scene


class _Builder:
    """Adds coloured meshes to one scene."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._materials: dict[str, Material] = {}

    def material(self, colour: str) -> Material:
        if colour not in self._materials:
            material = bpy.data.materials.new(colour.replace("_", " ").title())
            material.diffuse_color = (*_linear(_PALETTE[colour]), 1)
            self._materials[colour] = material
        return self._materials[colour]

    def add(
        self,
        name: str,
        colour: str,
        *meshes: Mesh,
        location: tuple[float, float, float] = (0, 0, 0),
        collection: Collection | None = None,
    ) -> Object:
        vertices, faces = merged(meshes)
        mesh = bpy.data.meshes.new(name)
        mesh.from_pydata(vertices, [], faces)
        mesh.materials.append(self.material(colour))
        obj = bpy.data.objects.new(name, mesh)
        obj.location = location
        (collection or self.scene.collection).objects.link(obj)
        return obj


def _set_up_render(scene: Scene) -> None:
    scene.render.resolution_x, scene.render.resolution_y = 1280, 704
    scene.render.fps = _FPS
    scene.frame_start, scene.frame_end = 1, DURATION_S * _FPS
    scene.world = bpy.data.worlds.new("SANA-WM Demo")
    scene.world.color = _linear(_SKY)
    scene.view_settings.view_transform = "Standard"
    shading = scene.display.shading
    shading.light, shading.studio_light = "STUDIO", "paint.sl"
    shading.use_world_space_lighting = True  # a wall keeps its shade while the camera pans
    shading.show_cavity, shading.cavity_type = True, "WORLD"
    shading.color_type = "MATERIAL"
    shading.show_object_outline = False
    shading.show_specular_highlight = False
    shading.show_shadows = True
    shading.shadow_intensity = 0.3
    scene.display.light_direction = (0.55, 0.35, 0.75)


def _ground(builder: _Builder) -> None:
    builder.add("Grass", "grass", box((0, 40, -0.2), (240, 160, 0.2)))
    builder.add("Road", "road", box((0, 25, -0.05), (6, 90, 0.1)))
    for side in (-1, 1):
        builder.add("Pavement", "pavement", box((side * 4.4, 25, 0.06), (2.4, 90, 0.12)))
        builder.add("Kerb", "kerb", box((side * 3.1, 25, 0.07), (0.2, 90, 0.16)))
    builder.add("Zebra", "paint", *(box((x, 7.2, 0.01), (0.45, 2.4, 0.02)) for x in _steps(-2.4, 2.4, 0.96)))
    builder.add("Centre Line", "paint", *(box((0, y, 0.01), (0.14, 1.6, 0.02)) for y in _steps(10, 60, 3.6)))
    hills = (sphere((-42, 105, -16), 34), sphere((8, 125, -24), 40), sphere((58, 112, -18), 36))
    builder.add("Hills", "hill", *hills)
    builder.add("Far Hills", "hill_far", sphere((-85, 150, -30), 62), sphere((40, 175, -44), 70))


def _houses(builder: _Builder) -> None:
    # side, near edge, width along the street, height, depth behind the pavement, colour, roof
    for row in (
        (-1, -3.0, 7.0, 6.2, 0.0, "sage", "roof"),
        (-1, 4.2, 6.4, 7.8, 0.5, "terracotta", "roof_grey"),
        (-1, 10.8, 5.4, 5.6, 0.0, "cream", "roof"),
        (-1, 16.4, 6.2, 8.6, 0.7, "slate", "roof_grey"),
        (1, -3.0, 6.0, 7.0, 0.3, "plum", "roof_grey"),
        (1, 3.2, 5.8, 5.8, 0.0, "mustard", "roof"),
        (1, 9.2, 6.4, 8.2, 0.6, "teal", "roof_grey"),
        (1, 15.8, 6.8, 6.4, 0.0, "rose", "roof"),
        (-1, 29.0, 8.0, 7.0, 0.0, "mustard", "roof"),
        (1, 29.0, 8.0, 8.4, 0.0, "sage", "roof_grey"),
        (-1, 38.0, 9.0, 9.4, 0.0, "rose", "roof_grey"),
        (1, 38.0, 9.0, 6.6, 0.0, "terracotta", "roof"),
    ):
        _house(builder, *row)


def _house(
    builder: _Builder,
    side: int,
    near: float,
    width: float,
    height: float,
    setback: float,
    colour: str,
    roof: str,
) -> None:
    front = side * (5.6 + setback)
    depth = 7.0
    centre_x, centre_y = front + side * depth / 2, near + width / 2
    builder.add("House", colour, box((centre_x, centre_y, height / 2), (depth, width, height)))
    builder.add("Plinth", "stone_dark", box((centre_x, centre_y, 0.3), (depth + 0.16, width + 0.04, 0.6)))
    builder.add("Roof", roof, gable((centre_x, centre_y, height), (depth + 0.7, width + 0.3, 1.7)))
    frames, panes = [], []
    storeys = int((height - 0.8) // 2.2)
    columns = max(2, int(width // 1.9))
    for storey in range(1, storeys + 1):
        for column in range(columns):
            y = near + (column + 0.5) * width / columns
            z = 0.35 + storey * 2.2 - (0.55 if storey == 1 else 0.65)
            if storey == 1 and column == columns // 2:
                continue
            frames.append(box((front - side * 0.03, y, z), (0.14, 1.06, 1.36)))
            panes.append(box((front - side * 0.08, y, z), (0.12, 0.84, 1.14)))
            frames.append(box((front - side * 0.12, y, z - 0.74), (0.3, 1.2, 0.1)))
            if storey > 1 and near > 0:  # the gable end towards the camera
                for x in (front + side * 1.6, front + side * 3.6):
                    frames.append(box((x, near - 0.03, z), (1.06, 0.14, 1.36)))
                    panes.append(box((x, near - 0.08, z), (0.84, 0.12, 1.14)))
    builder.add("Window Frames", "frame", *frames)
    builder.add("Windows", "glass", *panes)
    door_y = near + (columns // 2 + 0.5) * width / columns
    builder.add("Door", "door", box((front - side * 0.05, door_y, 1.15), (0.2, 1.1, 2.3)))
    cornice = box((front - side * 0.1, centre_y, height - 0.12), (0.3, width + 0.1, 0.24))
    builder.add("Cornice", "frame", cornice)


def _gate(builder: _Builder) -> None:
    """The arch over the street, with a wall on both sides."""
    wall = arch(centre=(0, 24, 0), radius=2.5, spring=2.9, width=8.4, height=7.2, depth=1.8)
    builder.add("Arch", "stone", wall)
    for side in (-1, 1):
        builder.add("Gate Tower", "stone_dark", box((side * 5.3, 24, 4.2), (2.4, 2.6, 8.4)))
        pyramid = cylinder((side * 5.3, 24, 8.4), (1.9, 0.0), 2.6, 4, turn=math.pi / 4)
        builder.add("Tower Roof", "roof", pyramid)
    builder.add("Battlements", "stone", *(box((x, 24, 7.5), (0.7, 1.8, 0.6)) for x in _steps(-3.6, 3.6, 1.2)))
    builder.add("Banner", "awning", box((0, 23.05, 6.2), (1.1, 0.08, 1.5)))


def _figure(builder: _Builder) -> None:
    """A walker, 1.75 m tall, who stands still: what is soft is frozen anyway."""
    x, y = 1.35, 8.4
    parts = (
        ("Coat", "coat", [cylinder((0, 0, 0.62), (0.31, 0.2), 0.85, 12), sphere((0, 0, 1.42), 0.205)]),
        ("Arms", "coat", [cylinder((s * 0.29, 0, 0.78), (0.06, 0.08), 0.62, 8) for s in (-1, 1)]),
        ("Head", "skin", [sphere((0, 0, 1.64), 0.135), cylinder((0, 0, 1.45), (0.06, 0.06), 0.12, 8)]),
        ("Hair", "hair", [sphere((0, 0.03, 1.68), 0.135)]),
        ("Legs", "trousers", [cylinder((s * 0.11, 0, 0), (0.08, 0.1), 0.66, 8) for s in (-1, 1)]),
    )
    for name, colour, meshes in parts:
        builder.add(f"Figure {name}", colour, *meshes, location=(x, y, 0))


def _lamps(builder: _Builder) -> None:
    """One lamp post, instanced along the street."""
    post = bpy.data.collections.new("Lamp Post")
    pole = [cylinder((0, 0, 0), (0.1, 0.05), 3.7, 10), cylinder((0, 0, 0), (0.17, 0.12), 0.5, 10)]
    pole.append(box((0.35, 0, 3.62), (0.8, 0.06, 0.06)))
    builder.add("Lamp Pole", "iron", *pole, collection=post)
    builder.add("Lamp Hood", "iron", cylinder((0.7, 0, 3.5), (0.28, 0.06), 0.2, 12), collection=post)
    builder.add("Lamp Globe", "lamp", sphere((0.7, 0, 3.4), 0.17), collection=post)
    for number, y in enumerate(_steps(5.5, 40, 6.2)):
        for side in (-1, 1):
            empty = bpy.data.objects.new(f"Lamp {number} {'L' if side < 0 else 'R'}", None)
            empty.instance_type, empty.instance_collection = "COLLECTION", post
            empty.empty_display_size = 0.3
            empty.location = (side * 3.5, y + (1.4 if side > 0 else 0), 0.12)
            empty.rotation_euler.z = math.pi if side > 0 else 0
            builder.scene.collection.objects.link(empty)


def _trees(builder: _Builder) -> None:
    trees = ((-4.7, 9.6, 1.0), (4.7, 13.6, 1.15), (-4.8, 20.4, 1.1), (4.7, 4.2, 0.85))
    for number, (x, y, size) in enumerate(trees):
        trunk = cylinder((0, 0, 0), (0.13 * size, 0.08 * size), 1.7 * size, 8)
        builder.add(f"Trunk {number}", "trunk", trunk, location=(x, y, 0.12))
        crowns = [sphere((0, 0, 2.5 * size), 0.95 * size), sphere((0.3 * size, 0.2, 3.2 * size), 0.65 * size)]
        builder.add(f"Crown {number}", "leaf" if number % 2 else "leaf_light", *crowns, location=(x, y, 0.12))


def _street_furniture(builder: _Builder) -> None:
    bench = (box((-4.1, 6.6, 0.55), (0.5, 1.6, 0.08)), box((-4.35, 6.6, 0.85), (0.08, 1.6, 0.5)))
    builder.add("Bench", "wood", *bench)
    builder.add("Bench Feet", "iron", *(box((-4.1, y, 0.33), (0.44, 0.08, 0.42)) for y in (6.0, 7.2)))
    post_box = (cylinder((4.0, 7.0, 0.12), (0.24, 0.24), 1.15, 14), sphere((4.0, 7.0, 1.27), 0.24))
    builder.add("Post Box", "coat", *post_box)
    crates = ((4.6, 9.9, 0.37), (4.6, 10.5, 0.37), (4.6, 10.15, 0.85))
    builder.add("Crates", "wood", *(box(place, (0.6, 0.5, 0.48)) for place in crates))
    for side, y, colour in ((-1, 12.6, "teal"), (1, 5.6, "awning")):
        cloth = gable((side * 5.35, y, 2.55), (1.5, 2.6, 0.55))
        builder.add("Awning", colour, cloth)


def _car(builder: _Builder) -> None:
    """Rolls towards the arch: a moving object that keeps its shape."""
    body = builder.add(
        "Car", "car", box((0, 0, 0.62), (1.7, 3.7, 0.6)), box((0, -0.15, 1.15), (1.45, 1.9, 0.56)),
        location=(-1.55, 13.5, 0),
    )  # fmt: skip
    glass = (box((0, -0.15, 1.17), (1.5, 1.6, 0.36)), box((0, -0.15, 1.17), (1.25, 1.96, 0.36)))
    tyres = (
        cylinder((sx * 0.72 - 0.12, sy, 0.32), (0.32, 0.32), 0.24, 14, along_x=True)
        for sx in (-1, 1)
        for sy in (-1.15, 1.15)
    )
    lights = (box((sx * 0.6, -1.86, 0.7), (0.3, 0.06, 0.14)) for sx in (-1, 1))
    for name, colour, meshes in (
        ("Car Glass", "glass", glass), ("Car Tyres", "tyre", tyres), ("Car Lights", "coat", lights)
    ):  # fmt: skip
        builder.add(name, colour, *meshes).parent = body
    _key(body, "location", (-1.55, 13.5, 0), (-1.55, 15.7, 0))


def _camera(scene: Scene) -> None:
    data = bpy.data.cameras.new("Shot Camera")
    camera = bpy.data.objects.new("Shot Camera", data)
    dolly = bpy.data.objects.new("Camera Dolly", None)
    dolly.empty_display_type, dolly.empty_display_size = "CUBE", 0.3
    for obj in (dolly, camera):
        scene.collection.objects.link(obj)
    camera.parent = dolly
    camera.location.z = 1.75
    _key(dolly, "location", (-0.9, -1.5, 0), (-0.55, 0.0, 0))
    before, after = (math.radians(91.0), 0, math.radians(4.0)), (math.radians(91.5), 0, math.radians(-4.5))
    _key(camera, "rotation_euler", before, after)
    _key(data, "lens", 28.0, 30.0)
    scene.camera = camera


def _key(owner, path: str, first, last) -> None:
    """From the scene's first frame to its last, easing in and out."""
    for frame, value in ((1, first), (DURATION_S * _FPS, last)):
        setattr(owner, path, value)
        owner.keyframe_insert(path, frame=frame)


def _steps(first: float, last: float, step: float) -> list[float]:
    return [first + index * step for index in range(round((last - first) / step) + 1)]


def _linear(srgb: str) -> list[float]:
    """Of six hexadecimal digits."""
    return linear_from_srgb([value / 255 for value in bytes.fromhex(srgb)]).tolist()

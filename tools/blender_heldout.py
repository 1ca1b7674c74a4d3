# SPDX-License-Identifier: GPL-3.0-or-later
"""Held-out clips of another kind than the training scenes: modelled, textured, lit and rendered by Blender.

    .env/blender-5.0/bin/python -m tools.blender_heldout --output build/blender_heldout

Six scenes with six moves of 25 frames each, rendered by Cycles; of each clip the first frame and a few others. Objects,
materials, lights and colour management are Blender's own and shared with nothing that the training scenes use; geometry
and viewport colours come from the add-on's export. Scenes that are there already are kept.
"""

from __future__ import annotations

import argparse
import importlib
import io
import math
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path

import bpy
import numpy as np
from mathutils import Euler, Matrix, Vector

ROOT = Path(__file__).resolve().parents[1]
SIZE = (640, 352)
FRAMES, RENDERED = 25, (0, 8, 16, 24)
CYCLES_SAMPLES = 8
CLAY = (0.6, 0.6, 0.6, 1)


def addon(name: str) -> types.ModuleType:
    """A module of this checkout's add-on, without installing it."""
    if "sana_wm_checkout" not in sys.modules:
        package = types.ModuleType("sana_wm_checkout")
        package.__path__ = [str(ROOT)]
        sys.modules["sana_wm_checkout"] = package
    return importlib.import_module(f"sana_wm_checkout.blender_addon.{name}")


def material(rng: np.random.Generator, kind: str, clay: bool) -> bpy.types.Material:
    """Two colours mixed by one of Blender's textures; the viewport shows about their mean, or clay."""
    made = bpy.data.materials.new(kind)
    made.use_nodes = True
    nodes, links = made.node_tree.nodes, made.node_tree.links
    shader = nodes["Principled BSDF"]
    shader.inputs["Roughness"].default_value = rng.uniform(0.35, 0.95)
    first = np.append(rng.uniform(0.03, 0.75, 3) * rng.uniform(0.4, 1), 1)
    second = np.append(np.clip(first[:3] * rng.uniform(0.35, 2.2, 3), 0.01, 0.9), 1)
    share = 0.0
    if kind == "plain":
        shader.inputs["Base Color"].default_value = first
    else:
        place, mix = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeMix")
        mix.data_type = "RGBA"
        texture = nodes.new(f"ShaderNodeTex{kind}")
        texture.inputs["Scale"].default_value = rng.uniform(0.4, 2.5)
        links.new(place.outputs["Object"], texture.inputs["Vector"])
        output = "Distance" if kind == "Voronoi" else "Fac"
        links.new(texture.outputs[output], mix.inputs[0])
        mix.inputs[6].default_value, mix.inputs[7].default_value = first, second
        links.new(mix.outputs[2], shader.inputs["Base Color"])
        share = 0.5
    mean = (1 - share) * first[:3] + share * second[:3]
    # Viewport colours are picked by eye, so they are near, not right.
    picked = np.clip(mean * np.exp(rng.normal(0, 0.15, 3)), 0, 1)
    made.diffuse_color = CLAY if clay else (*picked, 1)
    return made


TEXTURES = ("plain", "Noise", "Voronoi", "Wave", "Checker", "Magic", "plain", "Noise")


def thing(rng: np.random.Generator, kind: str, place: tuple[float, float], clay: bool) -> None:
    """One object standing on z = 0."""
    if kind == "monkey":
        bpy.ops.mesh.primitive_monkey_add(size=rng.uniform(1.2, 2.4))
        bpy.context.object.modifiers.new("Subdivision", "SUBSURF").render_levels = 1
    elif kind == "torus":
        bpy.ops.mesh.primitive_torus_add(
            major_radius=rng.uniform(0.6, 1.3), minor_radius=rng.uniform(0.15, 0.4)
        )
    elif kind == "ico":
        bpy.ops.mesh.primitive_ico_sphere_add(radius=rng.uniform(0.5, 1.2), subdivisions=3)
    elif kind == "column":
        bpy.ops.mesh.primitive_cylinder_add(
            radius=rng.uniform(0.2, 0.5), depth=rng.uniform(2, 5), vertices=24
        )
    elif kind == "chair":
        bpy.ops.mesh.primitive_cube_add(size=1)
        seat = bpy.context.object
        bpy.ops.mesh.primitive_cube_add(size=1, location=(0, 0.45, 0.6), scale=(1, 0.12, 1.2))
        for x, y in ((-0.4, -0.4), (0.4, -0.4), (-0.4, 0.4), (0.4, 0.4)):
            bpy.ops.mesh.primitive_cube_add(size=1, location=(x, y, -0.5), scale=(0.12, 0.12, 1))
        seat.scale = (1, 1, 0.15)
        for part in bpy.context.scene.objects:
            part.select_set(part.name.startswith("Cube") and not part.get("placed"))
        bpy.context.view_layer.objects.active = seat
        bpy.ops.object.join()
        seat["placed"] = True
    else:
        bpy.ops.mesh.primitive_cube_add(size=1, scale=rng.uniform(1, 6, 3))
        bpy.context.object.modifiers.new("Bevel", "BEVEL").width = 0.08
    made = bpy.context.object
    made["placed"] = True
    made.rotation_euler = Euler((0, 0, rng.uniform(0, 2 * math.pi)))
    if kind in ("monkey", "torus", "ico") and rng.random() < 0.8:
        bpy.ops.object.shade_smooth()
    bpy.context.view_layer.update()
    lowest = min((made.matrix_world @ Vector(corner)).z for corner in made.bound_box)
    made.location += Vector((*place, -lowest))
    made.data.materials.append(material(rng, TEXTURES[rng.integers(len(TEXTURES))], clay))


def ground(rng: np.random.Generator, rolling: bool, clay: bool) -> None:
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=80, y_subdivisions=80, size=160, location=(0, 30, 0))
    made = bpy.context.object
    made["placed"] = True
    if rolling:
        phase = rng.uniform(0, 6, 4)
        for vertex in made.data.vertices:
            x, y = vertex.co.x, vertex.co.y + 30
            rise = (
                math.sin(0.11 * x + phase[0])
                + math.sin(0.13 * y + phase[1])
                + math.sin(0.07 * (x + y) + phase[2])
            )
            vertex.co.z = 0.9 * rise * min(1.0, max(0.0, math.hypot(x, y - 8) / 25 - 0.6))
        bpy.ops.object.shade_smooth()
    made.data.materials.append(material(rng, TEXTURES[rng.integers(1, 6)], clay))


def light(kind: str, energy: float, place: tuple, turn: tuple, **settings: float) -> None:
    bpy.ops.object.light_add(type=kind, location=place, rotation=[math.radians(angle) for angle in turn])
    lamp = bpy.context.object.data
    lamp.energy = energy
    for name, value in settings.items():
        setattr(lamp, name, value)


def world(zenith: tuple, horizon: tuple, strength: float) -> None:
    """A gradient from the horizon up."""
    made = bpy.data.worlds.new("World")
    made.use_nodes = True
    bpy.context.scene.world = made
    nodes, links = made.node_tree.nodes, made.node_tree.links
    place, split = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeSeparateXYZ")
    ramp = nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].color, ramp.color_ramp.elements[1].color = (*horizon, 1), (*zenith, 1)
    links.new(place.outputs["Generated"], split.inputs[0])
    links.new(split.outputs["Z"], ramp.inputs[0])
    links.new(ramp.outputs[0], nodes["Background"].inputs[0])
    nodes["Background"].inputs[1].default_value = strength


def build(index: int) -> float:
    """A scene in an empty file; returns how far its camera walks, in metres."""
    rng = np.random.default_rng((77_001, index))
    clay, inside = index in (2, 5), index == 3
    bpy.ops.wm.read_factory_settings(use_empty=True)
    ground(rng, rolling=index in (1, 4), clay=clay)
    kinds = ("monkey", "torus", "ico", "column", "chair", "block")
    for _ in range(9 if inside else 22):
        place = (
            (rng.uniform(-4, 4), rng.uniform(4, 11)) if inside else (rng.uniform(-14, 14), rng.uniform(4, 30))
        )
        thing(rng, kinds[rng.integers(6 if not inside else 5)], place, clay)
    if inside:
        for place, scale in (
            ((-5.5, 4, 2), (0.3, 30, 4)), ((5.5, 4, 2), (0.3, 30, 4)),
            ((0, 14, 2), (11, 0.3, 4)), ((0, 4, 4.1), (11, 30, 0.3)),
        ):  # fmt: skip
            bpy.ops.mesh.primitive_cube_add(size=1, location=place, scale=scale)
            bpy.context.object["placed"] = True
            bpy.context.object.data.materials.append(material(rng, "plain", clay))
        light("AREA", 350, (0, 7, 3.8), (0, 0, 0), size=3.0)
        light("AREA", 120, (-2, -2, 3.5), (40, 0, 0), size=2.0)
        world((0.02, 0.02, 0.03), (0.02, 0.02, 0.02), 1)
    elif index == 4:
        world((0.5, 0.55, 0.6), (0.6, 0.6, 0.6), 1.0)
        light("SUN", 0.8, (0, 0, 10), (35, 0, 60), angle=math.radians(60))
    elif index == 5:
        world((0.05, 0.07, 0.16), (0.25, 0.15, 0.12), 0.6)
        light("POINT", 4000, (-5, 9, 5), (0, 0, 0), shadow_soft_size=0.5)
        light("SUN", 0.6, (0, 0, 10), (70, 0, 130), angle=math.radians(2))
    else:
        world((0.15, 0.3, 0.75), (0.6, 0.65, 0.7), 0.8)
        turn = (rng.uniform(25, 65), 0, rng.uniform(0, 360))
        light("SUN", rng.uniform(2.5, 4.5), (0, 0, 10), turn, angle=math.radians(rng.uniform(0.5, 3)))
    bpy.ops.object.camera_add()
    camera = bpy.context.object
    camera.data.lens = rng.uniform(24, 36)
    scene = bpy.context.scene
    scene.camera = camera
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.seed = CYCLES_SAMPLES, True, index
    scene.cycles.device, scene.cycles.max_bounces = "CPU", 4
    scene.cycles.denoising_prefilter, scene.render.use_persistent_data = "FAST", True
    scene.render.threads_mode, scene.render.threads = "FIXED", 1
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = *SIZE, 100
    scene.render.image_settings.file_format = "PNG"
    scene.render.fps = 16
    return 1.3 if inside else 3.0


Pose = Callable[[float], tuple[float, tuple[float, float]]]


def moves(walk_m: float) -> dict[str, Pose]:
    """Progress 0..1 -> angle to the left in radians, and offset to the right and ahead in metres."""
    turn, circle, radius = math.radians(13), math.radians(13), 2.5 * walk_m + 2

    def orbit(sign: int) -> Pose:
        angle = sign * circle
        return lambda s: (angle * s, (radius * math.sin(angle * s), radius * (1 - math.cos(angle * s))))

    return {
        "pan left": lambda s: (turn * s, (0, 0)),
        "pan right": lambda s: (-turn * s, (0, 0)),
        "dolly in": lambda s: (0, (0, walk_m * s)),
        "dolly out": lambda s: (0, (0, -walk_m * s)),
        "orbit left": orbit(-1),
        "orbit right": orbit(1),
    }


def place_camera(pose: Pose, progress: float) -> None:
    turn, (aside, ahead) = pose(progress)
    camera = bpy.context.scene.camera
    camera.matrix_world = (
        Matrix.Translation((aside, ahead, 1.6))
        @ Matrix.Rotation(turn, 4, "Z")
        @ Matrix.Rotation(math.radians(86), 4, "X")
    )
    bpy.context.view_layer.update()


def rendered(folder: Path) -> np.ndarray:
    """(H, W, 3) uint8 of the scene as it stands."""
    scene = bpy.context.scene
    scene.render.filepath = str(folder / "frame.png")
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(scene.render.filepath, check_existing=False)
    width, height = image.size
    values = np.empty(width * height * 4, np.float32)
    image.pixels.foreach_get(values)
    bpy.data.images.remove(image)
    picture = values.reshape(height, width, 4)[::-1, :, :3]
    return np.round(picture * 255).astype(np.uint8)


def film(index: int, output: Path) -> None:
    """Build, export and render one scene into `output`."""
    walk_m = build(index)
    scene, layer = bpy.context.scene, bpy.context.view_layer
    blockout, _ = addon("blockout").export_blockout(scene, layer, 1.0, 1)
    export_camera = addon("camera").export_camera
    names, c2w, intrinsics, pictures = [], [], [], []
    first: np.ndarray | None = None
    with tempfile.TemporaryDirectory() as folder:
        for name, pose in moves(walk_m).items():
            paths, shown = [], []
            for sample in range(FRAMES):
                place_camera(pose, 0.5 - 0.5 * math.cos(math.pi * sample / (FRAMES - 1)))
                paths.append(export_camera(scene, layer, scene.camera, 1.0, 1))
                if sample in RENDERED:
                    # All moves of a scene begin at one place.
                    picture = first if sample == 0 and first is not None else rendered(Path(folder))
                    first = picture if sample == 0 else first
                    shown.append(picture)
            names.append(name)
            c2w.append(np.concatenate([path.c2w for path in paths]))
            intrinsics.append(np.concatenate([path.intrinsics for path in paths]))
            pictures.append(np.stack(shown))
            print(f"scene {index + 1}, {name}", flush=True)
    geometry = {f"blockout_{name}": getattr(blockout, name) for name in blockout.__dataclass_fields__}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        moves=np.array(names),
        c2w=np.stack(c2w),
        intrinsics=np.stack(intrinsics),
        frames=np.array(RENDERED),
        pictures=np.stack(pictures),
        **geometry,
    )
    partial = output.with_suffix(".partial")
    partial.write_bytes(buffer.getvalue())
    partial.replace(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "blender_heldout")
    parser.add_argument("--scenes", type=int, default=6)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for index in range(options.scenes):
        target = options.output / f"scene_{index}.npz"
        if not target.exists():
            film(index, target)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene's geometry -> Blockout: what renders, in world space and metres, with its rigid motion."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import bpy
import numpy as np
from bpy.types import Collection, Depsgraph, DepsgraphObjectInstance, Mesh, Object, Scene, ViewLayer

from ..backend.protocol import Blockout, ProtocolError
from .colour import srgb_from_linear
from .timeline import each_sample, playhead_kept, refuse_while_occupied

MAX_TRIANGLES = 3_000_000
MAX_POSES = 1_000_000
# Samples at which whole shapes are compared; every sample would cost as much as the scene has vertices.
_SHAPE_CHECKS = 9
_NO_MATERIAL = (0.8, 0.8, 0.8)

Key = tuple  # names and persistent id of an object or instance: the same at every sample


@dataclass
class _Shape:
    """One evaluated mesh in its own space."""

    vertices: np.ndarray  # (V, 3) float32
    triangles: np.ndarray  # (T, 3) int32
    materials: np.ndarray  # (T,) int32, material index


@dataclass
class _Part:
    """The triangles of one object or instance that have one viewport colour: an object of the blockout."""

    key: Key
    name: str
    colour: np.ndarray  # (3,) sRGB
    chosen: np.ndarray  # indices into the triangles of its shape


def export_blockout(
    scene: Scene, view_layer: ViewLayer, frame_start: float, count: int
) -> tuple[Blockout, list[str]]:
    """Triangles of everything that renders, as it stands at the first camera sample, and how it moves.

    Meshes, curves, texts, metaballs and instances (collections, geometry nodes, particles), with modifiers as
    the viewport evaluates them. An object of several viewport colours becomes one object per colour. Colours
    are what Workbench shows for the scene's own setting; its random, attribute and texture colours count as
    material colours. Shapes are frozen at the first sample; rigid motion is exact.

    Args:
        frame_start: scene frame of sample 0; sample i is taken i / 16 s of scene time later.
        count: number of samples.

    Returns:
        The blockout, and a sentence for everything that moves in a way it cannot hold.

    Raises:
        ProtocolError: too many triangles or moving objects, or Blender is playing or rendering.
    """
    refuse_while_occupied()
    with playhead_kept(scene), _evaluated_as_rendered(view_layer):
        tracker = None
        for index, depsgraph in each_sample(scene, view_layer, frame_start, count):
            if tracker is None:
                tracker = _Tracker(scene, view_layer, depsgraph, count)
            else:
                tracker.follow(view_layer, depsgraph, index)
    return tracker.blockout(scene), tracker.warnings()


class _Tracker:
    """Everything visible at the first sample, followed through the others."""

    def __init__(self, scene: Scene, view_layer: ViewLayer, depsgraph: Depsgraph, count: int) -> None:
        shading = scene.display.shading
        self._count = count
        self._shapes: list[_Shape] = []
        self._parts: list[_Part] = []
        self._shape_of: dict[Key, int] = {}
        self._first: dict[Key, np.ndarray] = {}
        self._poses: dict[Key, np.ndarray] = {}
        self._changed: dict[str, None] = {}  # names in the order they were noticed
        self._came_or_went: dict[str, None] = {}
        self._checks = set(np.linspace(0, count - 1, min(count, _SHAPE_CHECKS)).round().astype(int).tolist())
        triangles = 0
        known: dict[int, int] = {}
        for key, instance in _rendered(view_layer, depsgraph):
            mesh = _mesh_of(instance.object)
            pointer = mesh.as_pointer()
            if pointer not in known:
                known[pointer] = len(self._shapes)
                self._shapes.append(_shape_of(mesh))
            shape = self._shapes[known[pointer]]
            if not len(shape.triangles):
                continue
            triangles += len(shape.triangles)
            if triangles > MAX_TRIANGLES:
                raise ProtocolError(
                    f"The scene has more than {MAX_TRIANGLES:,} triangles, too many for a blockout; hide "
                    "what the camera does not need from renders, or lower its subdivision."
                )
            self._shape_of[key] = known[pointer]
            self._first[key] = _matrix(instance)
            name = _display_name(key)
            for colour, chosen in _colour_parts(instance.object, shape, shading):
                self._parts.append(_Part(key, name, colour, chosen))

    def follow(self, view_layer: ViewLayer, depsgraph: Depsgraph, index: int) -> None:
        """Note where everything is at sample `index`, and whether it is still the same."""
        seen = set()
        compared: dict[tuple[int, int], bool] = {}
        for key, instance in _rendered(view_layer, depsgraph):
            if key not in self._first:
                if len(_mesh_of(instance.object).polygons):
                    self._came_or_went[_display_name(key)] = None
                continue
            seen.add(key)
            matrix, first = _matrix(instance), self._first[key]
            if key in self._poses or np.abs(matrix - first).max() > 1e-6:
                self._pose_track(key)[index:] = matrix  # holds if it vanishes later
            if index in self._checks:
                mesh = _mesh_of(instance.object)
                pair = (mesh.as_pointer(), self._shape_of[key])
                if pair not in compared:
                    compared[pair] = _same_shape(mesh, self._shapes[pair[1]])
                if not compared[pair]:
                    self._changed[_display_name(key)] = None
        self._came_or_went.update((_display_name(key), None) for key in self._first.keys() - seen)

    def _pose_track(self, key: Key) -> np.ndarray:
        if key not in self._poses:
            if (len(self._poses) + 1) * self._count > MAX_POSES:
                raise ProtocolError(
                    f"More than {len(self._poses):,} objects move over {self._count} camera samples, too "
                    "many for a blockout; hide what the camera does not need from renders, or shorten the "
                    "range."
                )
            self._poses[key] = np.tile(self._first[key], (self._count, 1, 1))
        return self._poses[key]

    def blockout(self, scene: Scene) -> Blockout:
        """Everything put together, in metres."""
        metres = scene.unit_settings.scale_length
        motion = {key: self._rigid_motion(key, poses, metres) for key, poses in self._poses.items()}
        vertices, faces, face_object = [], [], []
        offset = 0
        for index, part in enumerate(self._parts):
            shape = self._shapes[self._shape_of[part.key]]
            used, indices = np.unique(shape.triangles[part.chosen], return_inverse=True)
            matrix = self._first[part.key]
            vertices.append((shape.vertices[used] @ matrix[:3, :3].T + matrix[:3, 3]) * metres)
            faces.append(indices.reshape(-1, 3) + offset)
            face_object.append(np.full(len(part.chosen), index))
            offset += len(used)
        moving = [index for index, part in enumerate(self._parts) if part.key in motion]
        return Blockout(
            vertices=np.concatenate(vertices) if vertices else np.zeros((0, 3)),
            faces=np.concatenate(faces) if faces else np.zeros((0, 3)),
            face_object=np.concatenate(face_object) if faces else np.zeros(0),
            object_names=np.array([part.name for part in self._parts], dtype=np.str_),
            object_colors=np.array([part.colour for part in self._parts]).reshape(-1, 3),
            moving=np.array(moving),
            motion=np.array([motion[self._parts[index].key] for index in moving]).reshape(
                -1, self._count, 4, 4
            ),
            background=srgb_from_linear(scene.world.color) if scene.world else np.zeros(3),
        )

    def _rigid_motion(self, key: Key, poses: np.ndarray, metres: float) -> np.ndarray:
        """(F, 4, 4) world motion since sample 0; of an object whose scale changes, what is left without."""
        first = self._first[key]
        linear = poses[:, :3, :3] @ np.linalg.pinv(first[:3, :3])
        left, stretch, right = np.linalg.svd(linear)
        rotation = left @ right
        if np.abs(stretch - 1).max() > 1e-4 or (np.linalg.det(rotation) < 0).any():
            self._changed[_display_name(key)] = None
            mirrored = np.linalg.det(rotation) < 0
            left[mirrored, :, 2] *= -1
            rotation = left @ right
        motion = np.tile(np.eye(4), (len(poses), 1, 1))
        motion[:, :3, :3] = rotation
        motion[:, :3, 3] = (poses[:, :3, 3] - rotation @ first[:3, 3]) * metres
        motion[0] = np.eye(4)
        return motion

    def warnings(self) -> list[str]:
        """Sentences; complete after `blockout`."""
        sentences = []
        if self._changed:
            sentences.append(
                f"{_listed(self._changed)} changes shape or size inside the range; "
                "the clip shows the shape of its first frame."
            )
        if self._came_or_went:
            sentences.append(
                f"{_listed(self._came_or_went)} appears or disappears inside the range; "
                "the clip shows what is there at its first frame."
            )
        return sentences


def _rendered(view_layer: ViewLayer, depsgraph: Depsgraph) -> Iterator[tuple[Key, DepsgraphObjectInstance]]:
    """Meshes that a render of this view layer shows; each instance is valid until the next is asked for."""
    in_render = {obj.as_pointer() for obj in _objects_in_render(view_layer)}
    for instance in depsgraph.object_instances:
        obj = instance.object
        if obj.type != "MESH":  # curves, texts and metaballs come again as the mesh they evaluate to
            continue
        top = instance.parent if instance.is_instance else obj
        if top.hide_render or top.original.as_pointer() not in in_render:
            continue
        if instance.is_instance:
            if top.instance_type != "NONE" and obj.hide_render:
                continue
            key = (top.name_full, obj.name_full, *instance.persistent_id)
        else:
            if obj.is_instancer and not obj.show_instancer_for_render:
                continue
            if obj.parent and obj.parent.instance_type in {"VERTS", "FACES"}:  # shown as instances only
                continue
            key = (obj.name_full,)
        yield key, instance


def _objects_in_render(view_layer: ViewLayer) -> Iterator[Object]:
    """Objects in a collection that neither the view layer nor the render leaves out."""
    waiting = [view_layer.layer_collection]
    while waiting:
        layer_collection = waiting.pop()
        if layer_collection.exclude:
            waiting.extend(layer_collection.children)  # excluding does not pass on to children included again
        elif not layer_collection.collection.hide_render:
            yield from layer_collection.collection.objects
            waiting.extend(layer_collection.children)


@contextmanager
def _evaluated_as_rendered(view_layer: ViewLayer) -> Iterator[None]:
    """Have Blender evaluate what is hidden in the viewport only; hidden again afterwards."""
    hidden: list[tuple[Object | Collection, str]] = []
    eyes: list[Object] = []
    for owner in (*bpy.data.collections, *bpy.data.objects):
        if owner.hide_viewport and not owner.hide_render:
            hidden.append((owner, "hide_viewport"))
    waiting = [view_layer.layer_collection]
    while waiting:
        layer_collection = waiting.pop()
        waiting.extend(layer_collection.children)
        if layer_collection.hide_viewport and not layer_collection.collection.hide_render:
            hidden.append((layer_collection, "hide_viewport"))
    try:
        for owner, name in hidden:
            setattr(owner, name, False)
        for obj in view_layer.objects:
            if obj.hide_get(view_layer=view_layer) and not obj.hide_render:
                eyes.append(obj)
                obj.hide_set(False, view_layer=view_layer)
        yield
    finally:
        for obj in eyes:
            obj.hide_set(True, view_layer=view_layer)
        for owner, name in hidden:
            setattr(owner, name, True)


def _mesh_of(obj: Object) -> Mesh:
    """The evaluated mesh; of an object in Edit Mode, whose own is empty, as edited so far."""
    return obj.to_mesh() if obj.data.is_editmode else obj.data


def _shape_of(mesh: Mesh) -> _Shape:
    mesh.calc_loop_triangles()
    triangles = np.empty((len(mesh.loop_triangles), 3), np.int32)
    mesh.loop_triangles.foreach_get("vertices", triangles.ravel())
    materials = np.zeros(len(triangles), np.int32)
    if len(mesh.materials) > 1:
        mesh.loop_triangles.foreach_get("material_index", materials)
    return _Shape(_positions(mesh), triangles, materials)


def _positions(mesh: Mesh) -> np.ndarray:
    positions = np.empty((len(mesh.vertices), 3), np.float32)
    mesh.vertices.foreach_get("co", positions.ravel())
    return positions


def _same_shape(mesh: Mesh, shape: _Shape) -> bool:
    if len(mesh.vertices) != len(shape.vertices):
        return False
    tolerance = 1e-4 * float(np.ptp(shape.vertices, axis=0).max())
    return bool(np.abs(_positions(mesh) - shape.vertices).max() <= tolerance)


def _colour_parts(obj: Object, shape: _Shape, shading) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Viewport colours (3,) in sRGB, each with the indices of its triangles."""
    everything = np.arange(len(shape.triangles))
    if shading.color_type == "OBJECT":
        yield srgb_from_linear(obj.color[:3]), everything
    elif shading.color_type == "SINGLE":
        yield srgb_from_linear(shading.single_color), everything
    else:
        used, slots = np.unique(shape.materials, return_inverse=True)
        by_slot = np.array([_material_colour(obj, int(index)) for index in used])
        colours, slot_colour = np.unique(by_slot, axis=0, return_inverse=True)
        triangle_colour = slot_colour.ravel()[slots.ravel()]
        for index, colour in enumerate(colours):
            yield srgb_from_linear(colour), everything[triangle_colour == index]


def _material_colour(obj: Object, index: int) -> tuple[float, ...]:
    """Scene-linear viewport colour of a material slot; an index past the last slot counts as the last."""
    materials = obj.data.materials
    if not len(materials):
        return _NO_MATERIAL
    index = min(index, len(materials) - 1)
    material = materials[index]
    if index < len(obj.material_slots) and obj.material_slots[index].link == "OBJECT":
        material = obj.material_slots[index].material
    return tuple(material.diffuse_color)[:3] if material else _NO_MATERIAL


def _matrix(instance: DepsgraphObjectInstance) -> np.ndarray:
    return np.array(instance.matrix_world, np.float64)


def _display_name(key: Key) -> str:
    return key[0] if len(key) == 1 or key[0] == key[1] else f"{key[0]}/{key[1]}"


def _listed(names: dict[str, None]) -> str:
    shown = sorted(names)[:8]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")

# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a camera stands inside of the scene's geometry, or moves through it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from bpy.types import Depsgraph, Object, Scene, ViewLayer
from mathutils import Vector

from ..backend.protocol import FPS
from .timeline import at_samples, playhead_kept, refuse_while_occupied, scene_fps

# The scene is evaluated at so many moments of the shot; between two of them only the camera moves.
MOMENTS = 33
_MOST_SURFACES = 64
# Both ways along three crossed lines, slanted so that they seldom meet an edge. A plane is met by three of them at
# most, so four say that something is all around.
_LINES = np.linalg.qr(np.array([[0.62, -0.41, 0.67], [0.53, 0.84, 0.12], [-0.58, 0.35, 0.74]]))[0]
_DIRECTIONS = [Vector(sign * line) for line in _LINES for sign in (1, -1)]
_ALL_AROUND = 4


@dataclass(frozen=True)
class Collision:
    """An object that the camera is in, or goes through.

    Attributes:
        name: of the object.
        frame: scene frame at which it was found first.
        is_inside: the camera stands in it; else it only passes a surface of it.
        throughout: it stands in it at every moment, as in a room.
    """

    name: str
    frame: int
    is_inside: bool
    throughout: bool = False

    def in_words(self) -> str:
        if self.throughout:
            return f"Inside {self.name} all along: right if it is a room"
        return f"{'Inside' if self.is_inside else 'Through'} {self.name}"


def find_collisions(
    scene: Scene, view_layer: ViewLayer, c2w: np.ndarray, cuts: list[int], frame_start: float
) -> list[Collision]:
    """What a camera path meets of what renders, the first of each object.

    Args:
        c2w: (F, 4, 4) the path in metres.
        cuts: samples that a jump leads to.

    Raises:
        ProtocolError: Blender is playing or rendering.
    """
    refuse_while_occupied()
    places = [Vector(place) for place in c2w[:, :3, 3] / scene.unit_settings.scale_length]
    moments = np.unique(
        np.linspace(0, len(places) - 1, min(len(places), MOMENTS)).round().astype(int)
    ).tolist()
    inside: dict[str, list[int]] = {}
    through: dict[str, int] = {}
    before = 0
    with playhead_kept(scene):
        for moment, depsgraph in at_samples(scene, view_layer, frame_start, moments):
            for sample in range(before, moment):
                if sample + 1 not in cuts:
                    for thing in _passed(scene, depsgraph, places[sample], places[sample + 1]):
                        through.setdefault(thing.name, sample + 1)
            for thing in _enclosing(scene, depsgraph, places[moment]):
                inside.setdefault(thing.name, []).append(moment)
            before = moment
    step = scene_fps(scene) / FPS
    found = [
        Collision(name, round(frame_start + at[0] * step), True, len(at) == len(moments))
        for name, at in inside.items()
    ]
    found += [
        Collision(name, round(frame_start + sample * step), False)
        for name, sample in through.items()
        if name not in inside
    ]
    return sorted(found, key=lambda collision: (collision.throughout, collision.frame))


def _passed(scene: Scene, depsgraph: Depsgraph, start: Vector, end: Vector) -> set[Object]:
    """What renders and has a surface between two places."""
    return {
        thing for thing, _is_behind in _surfaces(scene, depsgraph, start, end - start, (end - start).length)
    }


def _enclosing(scene: Scene, depsgraph: Depsgraph, place: Vector) -> list[Object]:
    """What is all around a place: left through the back of its faces, and not entered again, most ways."""
    votes: dict[Object, int] = {}
    for direction in _DIRECTIONS:
        crossed: dict[Object, list[bool]] = {}
        for thing, is_behind in _surfaces(scene, depsgraph, place, direction):
            crossed.setdefault(thing, []).append(is_behind)
        for thing, behind in crossed.items():
            if len(behind) % 2 and behind[0]:
                votes[thing] = votes.get(thing, 0) + 1
        left = len(_DIRECTIONS) - 1 - _DIRECTIONS.index(direction)
        if max(votes.values(), default=0) + left < _ALL_AROUND:
            break
    return [thing for thing, count in votes.items() if count >= _ALL_AROUND]


def _surfaces(
    scene: Scene, depsgraph: Depsgraph, origin: Vector, direction: Vector, distance: float = 1e6
) -> list[tuple[Object, bool]]:
    """Every surface along a ray of what renders, nearest first, and whether it is met from behind."""
    found = []
    if distance == 0:
        return found
    direction = direction.normalized()
    for _ in range(_MOST_SURFACES):
        hit, place, normal, _face, thing, _matrix = scene.ray_cast(
            depsgraph, origin, direction, distance=distance
        )
        if not hit:
            break
        if not thing.hide_render:
            found.append((thing.original, normal.dot(direction) > 0))
        step = (place - origin).length + max(1e-5, 1e-6 * place.length)
        origin, distance = origin + direction * step, distance - step
        if distance <= 0:
            break
    return found

# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain solids as vertices and faces, for the demo's blockout; z up, lengths in metres."""

from __future__ import annotations

import math
from collections.abc import Iterable

Point = tuple[float, float, float]
Mesh = tuple[list[Point], list[tuple[int, ...]]]


def merged(meshes: Iterable[Mesh]) -> Mesh:
    """Several meshes as one."""
    vertices: list[Point] = []
    faces: list[tuple[int, ...]] = []
    for part_vertices, part_faces in meshes:
        faces += [tuple(index + len(vertices) for index in face) for face in part_faces]
        vertices += part_vertices
    return vertices, faces


def box(centre: Point, size: Point) -> Mesh:
    """Edges along the axes."""
    cx, cy, cz = centre
    x, y, z = (side / 2 for side in size)
    vertices = [
        (cx + sx * x, cy + sy * y, cz + sz * z)
        for sz in (-1, 1)
        for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    return vertices, _walls(4)


def gable(base: Point, size: Point) -> Mesh:
    """A roof on `base`, the centre of its underside, with its ridge along y."""
    cx, cy, cz = base
    x, y, z = size[0] / 2, size[1] / 2, size[2]
    vertices = [(cx + sx * x, cy + sy * y, cz) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    vertices += [(cx, cy - y, cz + z), (cx, cy + y, cz + z)]
    return vertices, [(3, 2, 1, 0), (0, 1, 4), (2, 3, 5), (1, 2, 5, 4), (3, 0, 4, 5)]


def cylinder(
    base: Point,
    radii: tuple[float, float],
    height: float,
    sides: int,
    turn: float = 0.0,
    along_x: bool = False,
) -> Mesh:
    """A cylinder, cone or prism from `base` upwards, or along x; `radii` at its beginning and its end."""
    vertices = []
    for radius, z in ((radii[0], 0.0), (radii[1], height)):
        for side in range(sides):
            angle = turn + 2 * math.pi * side / sides
            u, v = radius * math.cos(angle), radius * math.sin(angle)
            offset = (z, u, v) if along_x else (u, v, z)
            vertices.append(tuple(b + o for b, o in zip(base, offset, strict=True)))
    return vertices, _walls(sides)


def sphere(centre: Point, radius: float, segments: int = 20, rings: int = 12) -> Mesh:
    """Poles up and down."""
    cx, cy, cz = centre
    vertices: list[Point] = [(cx, cy, cz - radius)]
    for ring in range(1, rings):
        polar = math.pi * ring / rings
        for segment in range(segments):
            angle = 2 * math.pi * segment / segments
            vertices.append(
                (
                    cx + radius * math.sin(polar) * math.cos(angle),
                    cy + radius * math.sin(polar) * math.sin(angle),
                    cz - radius * math.cos(polar),
                )
            )
    vertices.append((cx, cy, cz + radius))
    top = len(vertices) - 1
    faces: list[tuple[int, ...]] = []
    for segment in range(segments):
        after = (segment + 1) % segments
        faces.append((0, 1 + after, 1 + segment))
        for ring in range(rings - 2):
            low, high = 1 + ring * segments, 1 + (ring + 1) * segments
            faces.append((low + segment, low + after, high + after, high + segment))
        faces.append((top, top - segments + segment, top - segments + after))
    return vertices, faces


def arch(centre: Point, radius: float, spring: float, width: float, height: float, depth: float) -> Mesh:
    """A wall across y with a round-headed opening: straight to `spring`, then half a circle of `radius`."""
    cx, cy, cz = centre
    segments = 20
    inner = [(-radius, 0.0)]
    for index in range(segments + 1):
        angle = math.pi - math.pi * index / segments
        inner.append((radius * math.cos(angle), spring + radius * math.sin(angle)))
    inner.append((radius, 0.0))
    # Every point of the opening has its partner on the wall's outline: up, or out to the side.
    outer = [(-width / 2, 0.0)]
    for x, _z in inner[1:-1]:
        outer.append((x * (width / 2) / radius, height))
    outer.append((width / 2, 0.0))
    outline = inner + outer
    count = len(inner)
    vertices = [(cx + x, cy + side * depth / 2, cz + z) for side in (-1, 1) for x, z in outline]
    back = len(outline)
    faces: list[tuple[int, ...]] = []
    for i in range(count - 1):
        j = i + 1
        faces.append((i, j, count + j, count + i))
        faces.append((back + j, back + i, back + count + i, back + count + j))
        faces.append((j, i, back + i, back + j))
        faces.append((count + i, count + j, back + count + j, back + count + i))
    for i in (0, count - 1):
        ring = (i, back + i, back + count + i, count + i)
        faces.append(ring if i else ring[::-1])
    return vertices, faces


def _walls(sides: int) -> list[tuple[int, ...]]:
    """Faces of a prism whose `sides` lower vertices come before its upper ones, anticlockwise from above."""
    walls = [(i, (i + 1) % sides, sides + (i + 1) % sides, sides + i) for i in range(sides)]
    return [*walls, tuple(reversed(range(sides))), tuple(range(sides, 2 * sides))]

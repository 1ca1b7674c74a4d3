# SPDX-License-Identifier: GPL-3.0-or-later
"""Triangle meshes of simple solids, from which the training scenes are built."""

from __future__ import annotations

import numpy as np

Mesh = tuple[np.ndarray, np.ndarray]
"""Vertices (V, 3) float64 in metres and faces (T, 3) int."""


def box(size: np.ndarray) -> Mesh:
    """A box standing on z = 0, centred in x and y; `size` (3,) in metres."""
    corners = np.array([[x, y, z] for z in (0, 1) for y in (-0.5, 0.5) for x in (-0.5, 0.5)]) * size
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [triangle for a, b, c, d in quads for triangle in ((a, c, b), (a, d, c))]
    return corners, np.array(faces)


def frustum(radius: float, top_radius: float, height: float, sides: int) -> Mesh:
    """A cylinder, cone or pyramid standing on z = 0; metres."""
    angle = np.arange(sides) * 2 * np.pi / sides
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(sides)], axis=1)
    low, high = ring * radius, ring * max(top_radius, 1e-3) + [0, 0, height]
    vertices = np.concatenate([low, high, [[0, 0, 0], [0, 0, height]]])
    here, after = np.arange(sides), (np.arange(sides) + 1) % sides
    faces = np.concatenate(
        [
            np.stack([here, after, sides + after], 1),
            np.stack([here, sides + after, sides + here], 1),
            np.stack([np.full(sides, 2 * sides), after, here], 1),
            np.stack([np.full(sides, 2 * sides + 1), sides + here, sides + after], 1),
        ]
    )
    return vertices, faces


def sphere(radius: float, rings: int = 9, sides: int = 16) -> Mesh:
    """A ball resting on z = 0; metres."""
    polar = np.linspace(0, np.pi, rings + 1)
    around = np.arange(sides) * 2 * np.pi / sides
    vertices = np.stack(
        [
            np.outer(np.sin(polar), np.cos(around)),
            np.outer(np.sin(polar), np.sin(around)),
            np.repeat(-np.cos(polar)[:, None], sides, axis=1) + 1,
        ],
        axis=-1,
    ).reshape(-1, 3)
    return vertices * radius, _grid_faces(rings, sides, wrap=True)


def terrain(extent_m: float, heights: np.ndarray) -> Mesh:
    """A square ground of side `extent_m` around the origin with `heights` (N, N) in metres."""
    cells = len(heights) - 1
    axis = np.linspace(-extent_m / 2, extent_m / 2, cells + 1)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return np.stack([x, y, heights], -1).reshape(-1, 3), _grid_faces(cells, cells + 1, wrap=False)


def turned(mesh: Mesh, angle: float, offset: np.ndarray) -> Mesh:
    """The mesh turned about z by `angle` radians, then moved by `offset` (3,) metres."""
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return mesh[0] @ rotation.T + offset, mesh[1]


def joined(meshes: list[Mesh]) -> Mesh:
    """One mesh of several."""
    starts = np.cumsum([0] + [len(vertices) for vertices, _ in meshes[:-1]])
    return (
        np.concatenate([vertices for vertices, _ in meshes]),
        np.concatenate([faces + start for (_, faces), start in zip(meshes, starts, strict=True)]),
    )


def _grid_faces(rows: int, columns: int, wrap: bool) -> np.ndarray:
    row, column = np.meshgrid(np.arange(rows), np.arange(columns if wrap else columns - 1), indexing="ij")
    after = (column + 1) % columns
    a, b = row * columns + column, row * columns + after
    c, d = a + columns, b + columns
    return np.stack([np.stack([a, b, d], -1), np.stack([a, d, c], -1)], -2).reshape(-1, 3)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Random blockout scenes, each with the look that the finished picture shall have.

The blockout is what a user would model: plain solids with a display colour. The look is what the first
frame shows of it: textures, sun, shadow, fog and sky. The guide's display colours resemble the look's
in two thirds of the scenes and are one clay grey in the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..protocol.blockout import Blockout
from . import shapes

PATTERNS = ("plain", "checker", "stripes", "bricks", "noise")
CLAY_SHARE = 1 / 3
UNTEXTURED_SHARE = 0.12


@dataclass(frozen=True, eq=False)
class Look:
    """How a scene is really coloured and lit. Colours are linear RGB, directions and lengths world metres.

    Attributes:
        albedo, second_albedo: (K, 3) the two colours of each object's pattern.
        pattern: (K,) int, index into PATTERNS.
        period_m: (K,) size of the pattern.
        sun_direction: (3,) unit vector towards the sun.
        sun, sky_light: (3,) irradiance over pi of the sun and of the sky overhead.
        zenith, horizon: (3,) radiance of the sky.
        fog_per_m: extinction; 0 is clear air. The fog has the horizon's colour.
        exposure: factor before the sRGB curve.
        viewport: the picture is the viewport's own shading, as when a blockout render is the first frame.
    """

    albedo: np.ndarray
    second_albedo: np.ndarray
    pattern: np.ndarray
    period_m: np.ndarray
    sun_direction: np.ndarray
    sun: np.ndarray
    sky_light: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    fog_per_m: float
    exposure: float
    viewport: bool


@dataclass(frozen=True, eq=False)
class TrainingScene:
    """A blockout, its look, and the size in metres that its camera moves go by."""

    blockout: Blockout
    look: Look
    extent_m: float


def random_scene(rng: np.random.Generator) -> TrainingScene:
    """A street, a square, a landscape or a hall, with its look."""
    layout = rng.choice(4, p=(0.35, 0.35, 0.2, 0.1))
    extent_m = float(rng.uniform(14, 45))
    meshes = (_street, _square, _landscape, _hall)[layout](rng, extent_m)
    count = len(meshes)
    albedo = _palette(rng, count)
    if rng.random() < CLAY_SHARE:
        display = np.full((count, 3), rng.uniform(0.55, 0.85))
    else:
        display = np.clip(albedo ** (1 / 2.2) + rng.normal(0, 0.08, (count, 3)), 0.02, 1)
    vertices, faces = shapes.joined(meshes)
    blockout = Blockout(
        vertices=vertices,
        faces=faces,
        face_object=np.repeat(np.arange(count), [len(mesh[1]) for mesh in meshes]),
        object_names=np.array([f"object {index}" for index in range(count)]),
        object_colors=display,
        moving=np.zeros(0),
        motion=np.zeros((0, 1, 4, 4)),
        background=np.full(3, 0.25) if rng.random() < 0.5 else rng.uniform(0.1, 0.9, 3),
    )
    return TrainingScene(blockout, _random_look(rng, albedo, extent_m), extent_m)


def _street(rng: np.random.Generator, extent: float) -> list[shapes.Mesh]:
    width = rng.uniform(5, 11)
    meshes = [_ground(rng)]
    for side in (-1, 1):
        along = -extent
        while along < 1.6 * extent:
            front, depth = rng.uniform(3, 9), rng.uniform(4, 8)
            height = rng.uniform(2.5, 13)
            offset = [side * (width / 2 + depth / 2 + rng.uniform(0, 1)), along + front / 2, 0]
            meshes.append(shapes.turned(shapes.box(np.array([depth, front, height])), 0, np.array(offset)))
            along += front + (rng.uniform(0, 3) if rng.random() < 0.4 else 0)
    if rng.random() < 0.5:
        meshes.append(_arch(rng, width, rng.uniform(3, extent)))
    return meshes + _clutter(rng, int(rng.integers(4, 14)), width / 2, extent)


def _square(rng: np.random.Generator, extent: float) -> list[shapes.Mesh]:
    meshes = [_ground(rng)]
    for _ in range(int(rng.integers(5, 16))):
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.5) * extent
        size = np.array([rng.uniform(3, 12), rng.uniform(3, 12), rng.uniform(2, 14)])
        place = np.array([far * np.cos(angle), far * np.sin(angle), 0])
        meshes.append(shapes.turned(shapes.box(size), rng.uniform(0, np.pi), place))
    return meshes + _clutter(rng, int(rng.integers(8, 30)), extent / 2, extent / 2)


def _landscape(rng: np.random.Generator, extent: float) -> list[shapes.Mesh]:
    cells, side = 40, 8 * extent
    axis = np.linspace(-1, 1, cells + 1)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    heights = np.zeros_like(x)
    for _ in range(6):
        fx, fy, phase = rng.normal(0, 5), rng.normal(0, 5), rng.uniform(0, 6.3)
        heights += np.sin(fx * x + fy * y + phase) * extent * rng.uniform(0.01, 0.08)
    # Level around the camera, hilly in the distance.
    heights = (heights - heights.min()) * np.clip(np.hypot(x, y) * 3 - 0.45, 0, 1.5)
    meshes = [shapes.terrain(side, heights)]
    return meshes + _clutter(rng, int(rng.integers(12, 40)), extent * 0.7, extent * 0.9)


def _hall(rng: np.random.Generator, extent: float) -> list[shapes.Mesh]:
    width, length, height = rng.uniform(0.4, 0.8) * extent, 1.2 * extent, rng.uniform(3, 7)
    floor = shapes.box(np.array([width, 2 * length, 0.2]))
    meshes = [shapes.turned(floor, 0, np.array([0, 0, -0.2]))]
    for side in (-1, 1):
        wall = shapes.box(np.array([0.3, 2 * length, height]))
        meshes.append(shapes.turned(wall, 0, np.array([side * width / 2, 0, 0])))
    meshes.append(shapes.turned(shapes.box(np.array([width, 0.3, height])), 0, np.array([0, length, 0])))
    if rng.random() < 0.6:
        ceiling = shapes.box(np.array([width, 2 * length, 0.2]))
        meshes.append(shapes.turned(ceiling, 0, np.array([0, 0, height])))
    return meshes + _clutter(rng, int(rng.integers(6, 20)), 0.42 * width, 0.8 * length)


def _ground(rng: np.random.Generator) -> shapes.Mesh:
    return shapes.terrain(float(rng.uniform(300, 900)), np.zeros((2, 2)))


def _arch(rng: np.random.Generator, width: float, along: float) -> shapes.Mesh:
    height, thick = rng.uniform(3, 5.5), rng.uniform(0.6, 1.5)
    pillar = shapes.box(np.array([thick, thick, height]))
    beam = shapes.box(np.array([width, thick, thick]))
    reach = width / 2 - thick / 2
    parts = [(pillar, (-reach, 0, 0)), (pillar, (reach, 0, 0)), (beam, (0, 0, height))]
    return shapes.turned(
        shapes.joined([shapes.turned(mesh, 0, np.array(place)) for mesh, place in parts]),
        0,
        np.array([0, along, 0]),
    )


def _clutter(rng: np.random.Generator, count: int, half_width: float, reach: float) -> list[shapes.Mesh]:
    """Free-standing things in front of the camera, which looks along +y from around the origin."""
    meshes = []
    for _ in range(count):
        size = rng.uniform(0.3, 2.2)
        kind = rng.integers(6)
        if kind == 0:
            mesh = shapes.box(size * rng.uniform(0.5, 1.5, 3))
        elif kind == 1:
            mesh = shapes.frustum(0.35 * size, 0.35 * size, size * rng.uniform(0.6, 3), 18)
        elif kind == 2:
            mesh = shapes.frustum(0.6 * size, 0, size * rng.uniform(0.8, 2.5), int(rng.integers(4, 18)))
        elif kind == 3:
            mesh = shapes.sphere(0.6 * size)
        elif kind == 4:
            body = shapes.frustum(0.22, 0.3, 1.45, 12)
            mesh = shapes.joined([body, shapes.turned(shapes.sphere(0.15), 0, np.array([0, 0, 1.45]))])
        else:
            step = np.array([1.5 * size, 0.4, 0.18])
            steps = [shapes.box(step * [1, 1, n + 1]) for n in range(5)]
            mesh = shapes.joined(
                [shapes.turned(block, 0, np.array([0, 0.4 * n, 0])) for n, block in enumerate(steps)]
            )
        place = np.array([rng.uniform(-half_width, half_width), rng.uniform(1.5, reach), 0])
        meshes.append(shapes.turned(mesh, rng.uniform(0, 2 * np.pi), place))
    return meshes


def _palette(rng: np.random.Generator, count: int) -> np.ndarray:
    """Linear albedos: muted, around a tint of the scene, with a few strong ones; the ground comes first."""
    tint = rng.uniform(0.5, 1, 3)
    value = rng.uniform(0.06, 0.6, (count, 1))
    albedo = value * (tint + rng.normal(0, 0.18, (count, 3)))
    strong = rng.random(count) < 0.25
    albedo[strong] = rng.uniform(0.02, 0.75, (int(strong.sum()), 3))
    return np.clip(albedo, 0.015, 0.8)


def _random_look(rng: np.random.Generator, albedo: np.ndarray, extent_m: float) -> Look:
    count = len(albedo)
    elevation, azimuth = np.radians(rng.uniform(12, 70)), rng.uniform(0, 2 * np.pi)
    warm = (np.radians(70) - elevation) * rng.uniform(0, 0.5)
    overcast = rng.uniform(0, 0.8) if rng.random() < 0.4 else 0.0
    horizon = np.clip(rng.uniform(0.3, 0.85) * np.array([1, 0.97, 0.95]) + rng.normal(0, 0.06, 3), 0.05, 1)
    blue = np.array([0.22, 0.4, 0.8]) * rng.uniform(0.5, 1.2)
    zenith = blue * (1 - overcast) + horizon * overcast
    sun_power = rng.uniform(0.9, 2.2) * (1 - overcast)
    haze = np.exp(rng.uniform(np.log(0.12), np.log(1.1)))
    fog_per_m = float(haze / extent_m) if rng.random() < 0.6 else 0.0
    return Look(
        albedo=albedo,
        second_albedo=np.clip(albedo * rng.uniform(0.45, 1.6, (count, 1)), 0.01, 0.9),
        pattern=rng.choice(len(PATTERNS), count, p=(0.34, 0.14, 0.14, 0.12, 0.26)),
        period_m=rng.uniform(0.3, 2.5, count),
        sun_direction=np.array(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
        ),
        sun=sun_power * np.array([1, 1 - 0.35 * warm, 1 - 0.8 * warm]),
        sky_light=rng.uniform(0.35, 0.8) * (0.5 * zenith / zenith.mean() + 0.5),
        zenith=zenith,
        horizon=horizon,
        fog_per_m=fog_per_m,
        exposure=float(rng.uniform(0.75, 1.25)),
        viewport=bool(rng.random() < UNTEXTURED_SHARE),
    )

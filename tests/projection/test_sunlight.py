# SPDX-License-Identifier: GPL-3.0-or-later
"""The sun of the first frame: found from what it lights, and its shadows go on where the first frame did not look."""

import numpy as np
import pytest

from backend.projection.scene import RayScene
from backend.projection.sunlight import find_sun
from tests.projection.test_projection import SIZE, blockout, camera, frames_of, view

# Low and from the left: the box's shadow leaves the first frame on its right.
SUN = np.array([-0.85, 0.15, 0.35]) / np.linalg.norm([-0.85, 0.15, 0.35])


def is_lit(scene: RayScene, hits) -> np.ndarray:
    """(H, W) bool, by straight lines to the sun."""
    lit = np.zeros(hits.depth_m.shape, bool)
    facing = ~hits.is_sky & (hits.normals @ SUN > 0)
    points = hits.points[facing] + 0.01 * hits.normals[facing]
    lit[facing] = scene.visible_between(points, points + 100 * SUN, 0)
    return lit


def sunny(scene: RayScene, hits) -> np.ndarray:
    """(H, W, 3), the viewport's colours with that sun on them."""
    light = is_lit(scene, hits) * np.maximum(hits.normals @ SUN, 0)
    return (hits.color * (0.4 + 0.6 * light[..., None]) ** 0.45).astype(np.float32)


def found(scene: RayScene, hits, first_frame: np.ndarray) -> np.ndarray | None:
    solid = ~hits.is_sky
    features = np.concatenate([np.ones((solid.sum(), 1)), hits.color[solid], hits.normals[solid]], axis=1)
    return find_sun(scene, hits, solid, first_frame, features, hits.object_id[solid])


def test_the_sun_is_found_to_a_few_degrees():
    scene, path = RayScene(blockout()), camera([[0, 0, 1.5]])
    hits = view(scene, path, 0)
    sun = found(scene, hits, sunny(scene, hits))
    assert np.degrees(np.arccos(sun @ SUN)) < 4


@pytest.mark.parametrize("picture", ["noise", "waves"])
def test_no_sun_is_found_where_none_shines(picture):
    scene, path = RayScene(blockout()), camera([[0, 0, 1.5]])
    hits = view(scene, path, 0)
    if picture == "noise":
        first_frame = np.random.default_rng(3).random((SIZE[1], SIZE[0], 3)).astype(np.float32)
    else:
        waves = np.sin(np.nan_to_num(hits.points) * [0.9, 0.6, 1.3])
        first_frame = (hits.color + 0.1 * waves.sum(-1, keepdims=True)).astype(np.float32)
    assert found(scene, hits, first_frame) is None


def test_shadows_go_on_where_the_first_frame_did_not_look():
    world = blockout()
    path, scene = camera([[0, 0, 1.5]] * 2, [0, -16]), RayScene(world)
    first, second = (view(scene, path, sample) for sample in (0, 1))
    frame = frames_of(world, path, sunny(scene, first))[1]
    hole, lit = (frame.visible < 0.01) & ~frame.is_sky, is_lit(scene, second)
    shadow = hole & ~lit & (second.normals @ SUN > 0.1)
    assert shadow.sum() > 25 and (hole & lit).sum() > 100
    error = np.abs(frame.base - sunny(scene, second)).mean(-1)
    assert error[shadow].mean() < 0.03 and error[hole & lit].mean() < 0.03

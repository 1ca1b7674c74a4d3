# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the sun of the first frame stands, found from its shadows and its shading on the blockout.

Every direction predicts which surfaces are lit. The one whose light explains the first frame best is taken, if it
explains more than a chance pattern would: judged on parts of the picture that it was not fitted to.
"""

from __future__ import annotations

import numpy as np

from .scene import Hits, RayScene

# Pixels of the first frame that the search looks at.
PIXELS = 2_500
# Directions tried first, spread evenly between these elevations in degrees, and how the best are then refined.
DIRECTIONS, LOWEST_DEG, HIGHEST_DEG = 160, 8, 80
CANDIDATES, FIRST_STEP, REFINEMENTS, NEIGHBOURS = 4, 0.12, 4, 6
# A sun has to take this share away from the error in parts of the picture that it was not fitted to.
LEAST_GAIN = 0.4
_TILES = 8
_PENALTY = 1e-4


def light_features(
    scene: RayScene, hits: Hits, wanted: np.ndarray, sun: np.ndarray, sample: int
) -> np.ndarray:
    """What a sun adds to each surface: a constant and its viewport colour, in full light and by its angle.

    Args:
        scene, hits: the blockout, and what the pixels see of it.
        wanted: (H, W) bool, N pixels, none of them sky.
        sun: (3,) unit vector towards the sun.
        sample: camera sample whose object motion applies.

    Returns:
        (N, 8) float32, 0 in shadow.
    """
    return _light_on(
        scene,
        hits.points[wanted],
        hits.normals[wanted],
        hits.color[wanted],
        hits.depth_m[wanted],
        sun,
        sample,
    )


def find_sun(
    scene: RayScene,
    hits: Hits,
    wanted: np.ndarray,
    first_frame: np.ndarray,
    features: np.ndarray,
    groups: np.ndarray,
) -> np.ndarray | None:
    """The sun's direction, or None where no sun explains the picture.

    Args:
        scene, hits: the blockout, and what the first camera pose sees of it.
        wanted: (H, W) bool, N pixels, none of them sky.
        first_frame: (H, W, 3) float32, 0..1.
        features: (N, K) what else explains the colours.
        groups: (N,) int, surfaces that may each have a colour of their own.

    Returns:
        (3,) float64 unit vector towards the sun.
    """
    count = len(groups)
    picked = np.random.default_rng(0).permutation(count)[:PIXELS]
    rows, columns = (axis[picked] for axis in np.nonzero(wanted))
    surface = tuple(values[rows, columns] for values in (hits.points, hits.normals, hits.color, hits.depth_m))
    _, own = np.unique(groups[picked], return_inverse=True)
    tile = (rows * _TILES // wanted.shape[0] + columns * _TILES // wanted.shape[1]) % 2 == 0
    known = _Explained(own, tile, features[picked], first_frame[rows, columns])

    def error(sun: np.ndarray) -> float:
        return known.error(_light_on(scene, *surface, sun, 0))

    candidates = sorted((error(sun), tuple(sun)) for sun in _spread_directions())[:CANDIDATES]
    for refinement in range(REFINEMENTS):
        for index, (_, sun) in enumerate(candidates):
            around = _neighbours(np.array(sun), FIRST_STEP / 2**refinement)
            candidates[index] = min(candidates[index], *((error(near), tuple(near)) for near in around))
    best = np.array(min(candidates)[1])
    light = _light_on(scene, *surface, best, 0)
    without, with_sun = known.error_elsewhere(None), known.error_elsewhere(light)
    return best if with_sun < (1 - LEAST_GAIN) * without else None


class _Explained:
    """How well features explain colours, when every surface has a colour of its own besides."""

    def __init__(
        self, groups: np.ndarray, half: np.ndarray, features: np.ndarray, wanted: np.ndarray
    ) -> None:
        self._groups, self._half = groups, half
        self._count = np.maximum(np.bincount(groups), 1)
        self._features = self._centred(features)
        self._wanted = self._centred(wanted)

    def error(self, more: np.ndarray) -> float:
        """Sum of squares that is left with these features (N, K) too."""
        features = np.concatenate([self._features, self._centred(more)], axis=1)
        return self._left(features, slice(None), slice(None))

    def error_elsewhere(self, more: np.ndarray | None) -> float:
        """The same, in each half of the picture's tiles with a fit to the other half."""
        features = self._features
        if more is not None:
            features = np.concatenate([features, self._centred(more)], axis=1)
        halves = ((self._half, ~self._half), (~self._half, self._half))
        return sum(self._left(features, fitted, judged) for fitted, judged in halves)

    def _left(self, features: np.ndarray, fitted: slice | np.ndarray, judged: slice | np.ndarray) -> float:
        gram = features[fitted].T @ features[fitted]
        gram += _PENALTY * len(features) * np.eye(len(gram))
        weights = np.linalg.solve(gram, features[fitted].T @ self._wanted[fitted])
        return float(np.square(self._wanted[judged] - features[judged] @ weights).sum())

    def _centred(self, values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float64)
        means = [np.bincount(self._groups, column) / self._count for column in values.T]
        return values - np.stack(means, axis=1)[self._groups]


def _light_on(
    scene: RayScene,
    points: np.ndarray,
    normals: np.ndarray,
    color: np.ndarray,
    depth_m: np.ndarray,
    sun: np.ndarray,
    sample: int,
) -> np.ndarray:
    facing = normals @ sun.astype(np.float32)
    lit = np.flatnonzero(facing > 0)
    # Away from the surface, as far as a pixel there is coarse.
    start = points[lit] + normals[lit] * (2e-3 + 5e-4 * depth_m[lit, None])
    free = scene.visible_between(start, start + sun * scene.diameter_m, sample)
    lit = lit[free]
    features = np.zeros((len(points), 8), np.float32)
    angle = np.sqrt(facing[lit, None])
    features[lit] = np.concatenate([np.ones_like(angle), angle, color[lit], color[lit] * angle], axis=1)
    return features


def _spread_directions() -> np.ndarray:
    """(DIRECTIONS, 3) unit vectors on a spiral of equal areas."""
    turn = np.arange(DIRECTIONS) + 0.5
    low, high = np.sin(np.radians([LOWEST_DEG, HIGHEST_DEG]))
    up = low + (high - low) * turn / DIRECTIONS
    around = np.pi * (1 + np.sqrt(5)) * turn
    level = np.sqrt(1 - up * up)
    return np.stack([level * np.cos(around), level * np.sin(around), up], axis=1)


def _neighbours(direction: np.ndarray, step: float) -> np.ndarray:
    """(NEIGHBOURS, 3) unit vectors on a ring of about `step` radians."""
    across = np.cross(direction, [0, 0, 1.0])
    across /= np.linalg.norm(across)
    along = np.cross(direction, across)
    angle = 2 * np.pi * np.arange(NEIGHBOURS)[:, None] / NEIGHBOURS
    ring = direction + step * (np.cos(angle) * across + np.sin(angle) * along)
    return ring / np.linalg.norm(ring, axis=1, keepdims=True)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Colours for what the first frame does not show: viewport colours, matched to the first frame."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from .scene import Hits, RayScene, ray_directions
from .sunlight import find_sun, light_features

# Pixels of the first frame that the colour match is fitted to; more change nothing but the time.
FITTED_PIXELS = 30_000
# Ridge penalty, as a share of the fitted pixels.
PENALTY = 1e-4
# An object or a side of it that fills this share of the first frame has half of its own colour taken over.
TRUSTED_SHARE = 4e-4
_SIDES = 6

Sun = np.ndarray | Literal["search", "none"]


class GuidedFill:
    """Learns from the first frame how viewport colour, orientation, distance and object become its colours.

    Solid things: one ridge regression over all pixels (with terms for haze, and for the light and the shadows of a
    sun if the first frame shows one), then what it misses, object by object and side by side. Sky: a ridge
    regression on the direction of the ray.

    Args:
        scene: the blockout.
        hits: what the first camera pose sees of it.
        c2w, intrinsics: (4, 4) and (4,), that pose and its lens.
        first_frame: (H, W, 3) float32, 0..1.
        sun: where it stands, (3,) unit vector; "search" it in the first frame; or "none", and light is told by the
            surfaces' directions alone.

    Attributes:
        sun: the same; "none" where the search found none.
    """

    def __init__(
        self,
        scene: RayScene,
        hits: Hits,
        c2w: np.ndarray,
        intrinsics: np.ndarray,
        first_frame: np.ndarray,
        sun: Sun = "search",
    ) -> None:
        self._scene = scene
        self.sun: Sun = sun
        objects = len(scene.blockout.object_names)
        solid = ~hits.is_sky
        self._unit_m = float(np.median(hits.depth_m[solid])) if solid.any() else 1.0
        self._groups = np.zeros((objects * _SIDES, 3), np.float32)
        self._surface = np.zeros((0, 3), np.float32)
        if solid.any():
            self._fit_surface(hits, solid, first_frame)
        self._sky: np.ndarray | None = None
        if not solid.all():
            self._fit_sky(
                ~solid, ray_directions(c2w, intrinsics, solid.shape[1], np.arange(len(solid))), first_frame
            )

    def predict(
        self, hits: Hits, c2w: np.ndarray, intrinsics: np.ndarray, sample: int, wanted: np.ndarray
    ) -> np.ndarray:
        """The colours of pixels as if the first frame had never shown them.

        Args:
            hits, c2w, intrinsics: what the pixels see, from which pose and through which lens.
            sample: camera sample whose object motion applies.
            wanted: (H, W) bool, N pixels.

        Returns:
            (H, W, 3) float32, 0..1; the viewport's colour elsewhere.
        """
        picture = hits.color.copy()
        self._paint_solid(picture, hits, ~hits.is_sky & wanted, sample)
        sky = hits.is_sky & wanted
        if self._sky is not None and sky.any():
            rows = np.flatnonzero(sky.any(1))
            rays = ray_directions(c2w, intrinsics, sky.shape[1], rows)
            picture[sky] = self._sky_colors(rays[sky[rows]])
        return np.clip(picture, 0, 1)

    def predict_rays(self, hits: Hits, directions: np.ndarray, sample: int) -> np.ndarray:
        """The same, (1, N, 3), for what single rays (N, 3) see: `hits` of RayScene.cast_rays."""
        picture = hits.color.copy()
        self._paint_solid(picture, hits, ~hits.is_sky, sample)
        if self._sky is not None and hits.is_sky.any():
            picture[hits.is_sky] = self._sky_colors(directions[hits.is_sky[0]])
        return np.clip(picture, 0, 1)

    def _paint_solid(self, picture: np.ndarray, hits: Hits, solid: np.ndarray, sample: int) -> None:
        if len(self._surface) and solid.any():
            values = self._features(hits, solid, sample) @ self._surface
            picture[solid] = values + self._groups[_group(hits, solid)]

    def _fit_surface(self, hits: Hits, solid: np.ndarray, first_frame: np.ndarray) -> None:
        wanted = first_frame[solid]
        group = _group(hits, solid)
        plain = _surface_features(hits, solid, self._unit_m)
        if isinstance(self.sun, str) and self.sun == "search":
            found = find_sun(self._scene, hits, solid, first_frame, plain, group)
            self.sun = "none" if found is None else found
        features = self._with_light(plain, hits, solid, 0)
        chosen = slice(None, None, max(1, len(wanted) // FITTED_PIXELS))
        self._surface = _ridge(features[chosen], wanted[chosen])
        missed = wanted - features @ self._surface
        trusted = TRUSTED_SHARE * solid.size
        of_object = _shrunk_means(group // _SIDES, missed, len(self._groups) // _SIDES, trusted)
        missed = missed - of_object[group // _SIDES]
        self._groups = np.repeat(of_object, _SIDES, axis=0) + _shrunk_means(
            group, missed, len(self._groups), trusted
        )

    def _features(self, hits: Hits, solid: np.ndarray, sample: int) -> np.ndarray:
        return self._with_light(_surface_features(hits, solid, self._unit_m), hits, solid, sample)

    def _with_light(self, plain: np.ndarray, hits: Hits, solid: np.ndarray, sample: int) -> np.ndarray:
        if isinstance(self.sun, str):
            return plain
        return np.concatenate([plain, light_features(self._scene, hits, solid, self.sun, sample)], axis=1)

    def _fit_sky(self, sky: np.ndarray, rays: np.ndarray, first_frame: np.ndarray) -> None:
        rays, wanted = rays[sky], first_frame[sky]
        chosen = slice(None, None, max(1, len(wanted) // FITTED_PIXELS))
        rays, wanted = rays[chosen], wanted[chosen]
        unit = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
        self._lowest, self._highest = float(unit[:, 2].min()), float(unit[:, 2].max())
        self._ahead = unit.mean(0)
        self._ahead /= max(np.linalg.norm(self._ahead), 1e-6)
        self._sky_mean = wanted.mean(0)
        self._sky = _ridge(self._sky_features(rays), wanted - self._sky_mean)

    def _sky_colors(self, rays: np.ndarray) -> np.ndarray:
        return self._sky_mean + self._sky_features(rays) @ self._sky

    def _sky_features(self, rays: np.ndarray) -> np.ndarray:
        """(..., 6): 1, elevation with its square and root, and the angle to the middle of the seen sky."""
        unit = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
        # Only a little beyond what was seen: a polynomial knows nothing of the rest.
        margin = 0.25 * (self._highest - self._lowest) + 0.02
        up = np.clip(unit[..., 2], self._lowest - margin, self._highest + margin)
        aside = np.clip(unit @ np.array([self._ahead[1], -self._ahead[0], 0], np.float32), -0.7, 0.7)
        return np.stack(
            [np.ones_like(up), up, up * up, np.sqrt(np.maximum(up + 0.35, 0)), aside, aside * aside], axis=-1
        ).astype(np.float32)


def spread(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Carry values from where they are known over the rest, smoother the further away (push-pull).

    Args:
        values: (H, W, 3) float32; ignored where `known` is 0.
        known: (H, W) float32 weights, 0..1.

    Returns:
        (H, W, 3) float32; the values themselves where `known` is 1.
    """
    levels = [(values * known[..., None], known)]
    while min(levels[-1][1].shape) > 2:
        weighted, weights = levels[-1]
        levels.append((cv2.pyrDown(weighted), cv2.pyrDown(weights)))
    weighted, weights = levels.pop()
    carried = weighted / np.maximum(weights, 1e-4)[..., None] * np.minimum(1, 4 * weights)[..., None]
    for weighted, weights in reversed(levels):
        height, width = weights.shape
        coarse = cv2.pyrUp(carried, dstsize=(width, height))
        trust = np.minimum(1, weights)[..., None]
        carried = weighted / np.maximum(weights, 1e-4)[..., None] * trust + coarse * (1 - trust)
    return carried


def _surface_features(hits: Hits, solid: np.ndarray, unit_m: float) -> np.ndarray:
    """(N, 16) float32: 1, colour, haze, and the light's direction as the colour sees it."""
    color, normals = hits.color[solid], hits.normals[solid]
    distance = hits.depth_m[solid][:, None] / unit_m
    near, clear = 1 / (1 + distance), np.exp(-0.4 * distance)
    brightness = color.mean(1, keepdims=True)
    return np.concatenate(
        [
            np.ones_like(near),
            color,
            near,
            clear,
            color * clear,
            normals,
            brightness * normals,
            normals[:, 2:] ** 2,
        ],
        axis=1,
        dtype=np.float32,
    )


def _group(hits: Hits, solid: np.ndarray) -> np.ndarray:
    """(N,) int: the object, and which of the six directions its surface faces most."""
    normals = hits.normals[solid]
    axis = np.abs(normals).argmax(1)
    side = 2 * axis + (np.take_along_axis(normals, axis[:, None], 1)[:, 0] > 0)
    return hits.object_id[solid] * _SIDES + side


def _shrunk_means(group: np.ndarray, values: np.ndarray, groups: int, trusted: float) -> np.ndarray:
    """(groups, 3) float32 means, drawn to zero where a group has few values."""
    count = np.bincount(group, minlength=groups)
    total = np.stack([np.bincount(group, values[:, channel], groups) for channel in range(3)], axis=1)
    return (total / (count + trusted)[:, None]).astype(np.float32)


def _ridge(features: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(K, 3) float32; the first feature, the constant, is not penalised."""
    features, wanted = features.astype(np.float64), wanted.astype(np.float64)
    penalty = np.full(features.shape[1], PENALTY * len(features))
    penalty[0] = 1e-9 * len(features)
    gram = features.T @ features + np.diag(penalty)
    return np.linalg.solve(gram, features.T @ wanted).astype(np.float32)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a camera sees of the blockout: depth, normals, object ids and viewport colour by ray casting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from ..protocol.blockout import Blockout
from ..protocol.errors import ProtocolError
from .shading import studio_shading

# Rows are cast in blocks of about this many rays, which bounds the temporaries at any image size.
RAYS_PER_BLOCK = 1 << 17


@dataclass(frozen=True, eq=False)
class Hits:
    """What every pixel of one image sees first.

    Attributes:
        depth_m: (H, W) float32, distance along the optical axis in metres; inf where the pixel sees the sky.
        points: (H, W, 3) float32, world, metres; nan in the sky.
        normals: (H, W, 3) float32, world, unit length, turned towards the camera; 0 in the sky.
        object_id: (H, W) int32, index into the blockout's objects; -1 in the sky.
        face: (H, W) int32, index into the blockout's faces; -1 in the sky.
        color: (H, W, 3) float32, object colours shaded as in the viewport, sRGB 0..1; background in the sky.
    """

    depth_m: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    object_id: np.ndarray
    face: np.ndarray
    color: np.ndarray

    @property
    def is_sky(self) -> np.ndarray:
        """(H, W) bool."""
        return self.face < 0


class _Part:
    """Triangles that move together, with their own acceleration structure in the place of sample 0."""

    def __init__(self, blockout: Blockout, faces: np.ndarray, motion: np.ndarray | None) -> None:
        vertices = blockout.vertices.astype(np.float64)
        corners = vertices[blockout.faces[faces]]
        # Single precision is spent around the geometry, wherever in the world it stands.
        self.center = np.median(corners.reshape(-1, 3), axis=0)
        self.faces = faces
        self.motion = motion
        low, high = corners.min((0, 1)), corners.max((0, 1))
        self.box = np.array(
            [[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]
        )
        self._scene = EmbreeScene(robust=True)
        self._mesh = TriangleMesh(self._scene, (corners - self.center).astype(np.float32))

    def pose(self, sample: int) -> np.ndarray:
        """(4, 4) float64: the place at sample 0 -> the place at `sample`."""
        return np.eye(4) if self.motion is None else self.motion[sample]

    def exists(self, sample: int) -> bool:
        """An object scaled to nothing cannot be seen."""
        return abs(np.linalg.det(self.pose(sample)[:3, :3])) > 1e-12

    def cast(self, origin: np.ndarray, directions: np.ndarray, sample: int) -> tuple[np.ndarray, np.ndarray]:
        """Nearest hits: distance in units of `directions` (inf: none) and blockout face (-1: none)."""
        origins, directions = self._to_rest(np.broadcast_to(origin, directions.shape), directions, sample)
        found = self._scene.run(origins, directions, query="INTERSECT", output=True)
        hit = found["primID"] >= 0
        return np.where(hit, found["tfar"], np.inf), np.where(hit, self.faces[found["primID"]], -1)

    def blocks(self, origins: np.ndarray, directions: np.ndarray, sample: int) -> np.ndarray:
        """(N,) bool: is anything hit before the end of origin + 1 x direction?"""
        origins, directions = self._to_rest(origins, directions, sample)
        reach = np.ones(len(origins), np.float32)
        return self._scene.run(origins, directions, query="OCCLUDED", dists=reach) >= 0

    def _to_rest(
        self, origins: np.ndarray, directions: np.ndarray, sample: int
    ) -> tuple[np.ndarray, np.ndarray]:
        # An affine map keeps the distance along an unnormalised ray, so hits need no scaling back.
        inverse = np.linalg.inv(self.pose(sample))
        turn = inverse[:3, :3].T
        origins = origins @ turn + (inverse[:3, 3] - self.center)
        if self.motion is not None:
            directions = directions @ turn.astype(directions.dtype)
        return (
            np.ascontiguousarray(origins, dtype=np.float32),
            np.ascontiguousarray(directions, dtype=np.float32),
        )


class RayScene:
    """A blockout made ready for rays. Nothing is rebuilt when objects move: rays go to the objects' place
    at sample 0 instead, one acceleration structure for each set of objects with a common motion.

    Attributes:
        blockout: as given.
        diameter_m: longer than any line within the scene at sample 0.
    """

    def __init__(self, blockout: Blockout) -> None:
        self.blockout = blockout
        self._face_normals = _face_normals(blockout)
        solid = np.flatnonzero(np.abs(self._face_normals).sum(1) > 0)
        motion_of = {
            int(index): motion for index, motion in zip(blockout.moving, blockout.motion, strict=True)
        }
        shared: dict[bytes, list[int]] = {}
        for index, motion in motion_of.items():
            shared.setdefault(motion.tobytes(), []).append(index)
        solid_object = blockout.face_object[solid]
        still = solid[~np.isin(solid_object, blockout.moving)]
        self._parts = [_Part(blockout, still, None)] if len(still) else []
        for objects in shared.values():
            faces = solid[np.isin(solid_object, objects)]
            if len(faces):
                self._parts.append(_Part(blockout, faces, motion_of[objects[0]]))
        self.diameter_m = 1 + float(np.linalg.norm(np.ptp(blockout.vertices, axis=0))) if len(solid) else 1.0
        colors = blockout.object_colors[blockout.face_object]
        self._face_colors = np.stack([studio_shading(colors, side * self._face_normals) for side in (1, -1)])

    def cast(self, c2w: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int], sample: int) -> Hits:
        """One ray through the centre of every pixel: through ((u + 0.5 - cx) / fx, (v + 0.5 - cy) / fy, 1).

        Args:
            c2w: (4, 4) camera to world, OpenCV axes, metres.
            intrinsics: (4,) fx, fy, cx, cy in pixels of the image of `size`.
            size: (width, height) in pixels.
            sample: camera sample whose object motion applies.

        Raises:
            ProtocolError: the size is not positive or the blockout has no motion for `sample`.
        """
        width, height = size
        if width < 1 or height < 1:
            raise ProtocolError(
                f"An image of {width} x {height} pixels cannot be seen; both must be positive."
            )
        self._check_sample(sample)
        images, sides = self._nothing((height, width)), self._faces_at(sample)
        depth_m, face = images[0], images[4]
        windows = [
            (part, _window(part, c2w, intrinsics, size, sample))
            for part in self._parts
            if part.exists(sample)
        ]
        rows = max(1, RAYS_PER_BLOCK // width)
        for top in range(0, height, rows):
            block = slice(top, min(height, top + rows))
            directions = ray_directions(c2w, intrinsics, width, np.arange(block.start, block.stop))
            for part, (left, upper, right, lower) in windows:
                first, last = max(upper, block.start), min(lower, block.stop)
                if first >= last or left >= right:
                    continue
                rays = directions[first - top : last - top, left:right]
                distance, found = part.cast(c2w[:3, 3], rays.reshape(-1, 3), sample)
                distance, found = distance.reshape(rays.shape[:2]), found.reshape(rays.shape[:2])
                nearer = distance < depth_m[first:last, left:right]
                depth_m[first:last, left:right][nearer] = distance[nearer]
                face[first:last, left:right][nearer] = found[nearer]
            self._shade(Hits(*(image[block] for image in images)), c2w[:3, 3], directions, sides)
        return Hits(*images)

    def cast_rays(self, origin: np.ndarray, directions: np.ndarray, sample: int) -> Hits:
        """What single rays from one place see: Hits whose images have one row, (1, N).

        Args:
            origin: (3,) world, metres.
            directions: (N, 3) float32 world, 1 m along the optical axis.
            sample: camera sample whose object motion applies.

        Raises:
            ProtocolError: the blockout has no motion for `sample`.
        """
        self._check_sample(sample)
        images = self._nothing((1, len(directions)))
        depth_m, face = images[0], images[4]
        for part in self._parts:
            if part.exists(sample):
                distance, found = part.cast(origin, directions, sample)
                nearer = distance < depth_m[0]
                depth_m[0, nearer], face[0, nearer] = distance[nearer], found[nearer]
        hits = Hits(*images)
        self._shade(hits, origin, directions[None], self._faces_at(sample))
        return hits

    def first_hits(
        self, origin: np.ndarray, directions: np.ndarray, sample: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """What single rays from one place meet first.

        Args:
            origin: (3,) world, metres.
            directions: (N, 3) world; not necessarily of unit length.
            sample: camera sample whose object motion applies.

        Returns:
            Distance (N,) float64 in lengths of `directions` (inf: none) and object (N,) int32 (-1: none).

        Raises:
            ProtocolError: the blockout has no motion for `sample`.
        """
        self._check_sample(sample)
        directions = np.asarray(directions, np.float64)
        distance = np.full(len(directions), np.inf)
        object_id = np.full(len(directions), -1, np.int32)
        for part in self._parts:
            if part.exists(sample):
                reached, face = part.cast(np.asarray(origin, np.float64), directions, sample)
                nearer = reached < distance
                distance[nearer] = reached[nearer]
                object_id[nearer] = self.blockout.face_object[face[nearer]]
        return distance, object_id

    def visible_between(
        self, start: np.ndarray, end: np.ndarray, sample: int, margin_m: float = 1e-3
    ) -> np.ndarray:
        """Is the straight line between two points free? (For the shadow of a sun, put `end` far away.)

        Args:
            start, end: (N, 3), world, metres.
            margin_m: this much at both ends of the line may be blocked: the surfaces the points lie on.

        Returns:
            (N,) bool.
        """
        self._check_sample(sample)
        start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
        length = np.linalg.norm(end - start, axis=-1, keepdims=True)
        step = (end - start) / np.maximum(length, 1e-12) * margin_m
        free = np.ones(len(start), bool)
        for part in self._parts:
            if part.exists(sample):
                free &= ~part.blocks(start + step, end - start - 2 * step, sample)
        return free | (length[:, 0] <= 2 * margin_m)

    def rest_from_world(self, object_id: np.ndarray, sample: int) -> tuple[np.ndarray, np.ndarray]:
        """Maps that carry each pixel's world point back to where it was at sample 0.

        Returns:
            (N, 4, 4) float64 maps, the first of which is the identity, and (like `object_id`) which to use.
        """
        self._check_sample(sample)
        maps, which = [np.eye(4)], np.zeros(len(self.blockout.object_names) + 1, np.int32)
        for index, motion in zip(self.blockout.moving, self.blockout.motion, strict=True):
            if np.any(object_id == index):
                which[index] = len(maps)
                maps.append(np.linalg.inv(motion[sample]))
        return np.stack(maps), which[object_id]

    def _nothing(self, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
        """The images of Hits, all sky."""
        color = np.empty((*shape, 3), np.float32)
        color[:] = self.blockout.background
        return (
            np.full(shape, np.inf, np.float32),
            np.full((*shape, 3), np.nan, np.float32),
            np.zeros((*shape, 3), np.float32),
            np.full(shape, -1, np.int32),
            np.full(shape, -1, np.int32),
            color,
        )

    def _shade(
        self,
        hits: Hits,
        origin: np.ndarray,
        directions: np.ndarray,
        sides: tuple[np.ndarray, np.ndarray],
    ) -> None:
        """Fill in what follows from depth and face; `sides` from `_faces_at`."""
        face_normals, face_colors = sides
        hit = hits.face >= 0
        seen, along = hits.face[hit], directions[hit]
        hits.points[hit] = along * hits.depth_m[hit][:, None].astype(np.float64) + origin
        facing = face_normals[seen]
        behind = np.einsum("nc,nc->n", facing, along) > 0
        hits.normals[hit] = np.where(behind[:, None], -facing, facing)
        hits.color[hit] = face_colors[behind.astype(np.int8), seen]
        hits.object_id[hit] = self.blockout.face_object[seen]

    def _check_sample(self, sample: int) -> None:
        samples = self.blockout.motion.shape[1]
        if len(self.blockout.moving) and not 0 <= sample < samples:
            raise ProtocolError(
                f"The blockout's moving objects have {samples} samples, so there is no sample {sample}; "
                "export the blockout again together with the camera."
            )

    def _faces_at(self, sample: int) -> tuple[np.ndarray, np.ndarray]:
        """(T, 3) normals and (2, T, 3) colours of the front and back of every face at `sample`."""
        normals, colors = self._face_normals, self._face_colors
        moved = [part for part in self._parts if part.motion is not None and part.exists(sample)]
        if moved:
            normals, colors = normals.copy(), colors.copy()
        for part in moved:
            turned = self._face_normals[part.faces] @ np.linalg.inv(part.pose(sample)[:3, :3])
            turned /= np.linalg.norm(turned, axis=1, keepdims=True)
            normals[part.faces] = turned
            plain = self.blockout.object_colors[self.blockout.face_object[part.faces]]
            colors[0, part.faces], colors[1, part.faces] = (
                studio_shading(plain, turned),
                studio_shading(plain, -turned),
            )
        return normals, colors


def ray_directions(c2w: np.ndarray, intrinsics: np.ndarray, width: int, rows: np.ndarray) -> np.ndarray:
    """(rows, width, 3) float32 world directions through the pixel centres, 1 m along the optical axis."""
    across, down = np.arange(width) + 0.5, np.asarray(rows) + 0.5
    return pixel_rays(c2w, intrinsics, across[None], down[:, None])


def pixel_rays(c2w: np.ndarray, intrinsics: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """(..., 3) float32 world directions through places of the image in pixels, 1 m along the optical axis."""
    fx, fy, cx, cy = intrinsics
    right, below, ahead = c2w[:3, :3].T
    x, y = (across - cx) / fx, (down - cy) / fy
    return (x[..., None] * right + y[..., None] * below + ahead).astype(np.float32)


def _window(
    part: _Part, c2w: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int], sample: int
) -> tuple[int, int, int, int]:
    """The image area (left, top, right, bottom) that can see the part, from its bounding box."""
    width, height = size
    pose = np.linalg.inv(c2w) @ part.pose(sample)
    box = part.box @ pose[:3, :3].T + pose[:3, 3]
    if box[:, 2].min() < 1e-3:
        return (0, 0, width, height) if box[:, 2].max() > 0 else (0, 0, 0, 0)
    fx, fy, cx, cy = intrinsics
    u, v = fx * box[:, 0] / box[:, 2] + cx, fy * box[:, 1] / box[:, 2] + cy
    left, right = np.clip([np.floor(u.min()) - 1, np.ceil(u.max()) + 1], 0, width).astype(int)
    top, bottom = np.clip([np.floor(v.min()) - 1, np.ceil(v.max()) + 1], 0, height).astype(int)
    return left, top, right, bottom


def _face_normals(blockout: Blockout) -> np.ndarray:
    """(T, 3) float32 unit normals; 0 for triangles without an area."""
    corners = blockout.vertices.astype(np.float64)[blockout.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(area > 0, normals / np.where(area > 0, area, 1), 0).astype(np.float32)

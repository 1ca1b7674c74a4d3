# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras as files record them, at any times, and the rotations and world axes that they come in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .errors import ProtocolError

# Rotations of the world, (3, 3): Blender's has z up; OpenCV's x right, y down, z forward; Nuke's y up.
# A level camera that looks along Blender's +y is the identity in OpenCV's world.
BLENDER_FROM_OPENCV_WORLD = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
BLENDER_FROM_Y_UP_WORLD = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
# Camera axes, (4, 4): OpenCV's look along +z with +y down, OpenGL's and Blender's along -z with +y up.
OPENCV_FROM_OPENGL_CAMERA = np.diag([1.0, -1.0, -1.0, 1.0])

MAX_DURATION_S = 3600.0
# Files round their numbers; a rotation further off than this was never one.
_ROUNDED = 1e-2


@dataclass(frozen=True)
class Recorded:
    """Cameras as a file holds them.

    Attributes:
        c2w: (N, 4, 4), OpenCV axes, Blender's world, metres; rotations as exact as the file.
        intrinsics: (N, 4) fx, fy, cx, cy in pixels of an image of `image_size`.
        image_size: (width, height) in pixels.
        times_s: (N,) seconds, rising.
        names: of the N pictures, where the file names them; else empty.
    """

    c2w: np.ndarray
    intrinsics: np.ndarray
    image_size: tuple[int, int]
    times_s: np.ndarray
    names: tuple[str, ...] = ()


def checked(recorded: Recorded, name: str) -> Recorded:
    """The same cameras with the rotations nearest to their matrices, once everything else is in order.

    Args:
        name: of the file; begins the sentence when something is wrong.

    Raises:
        ProtocolError: no cameras, times that do not rise, more than MAX_DURATION_S, or a matrix that is no
            rotation.
    """
    times = np.asarray(recorded.times_s, dtype=np.float64)
    if len(times) == 0:
        raise ProtocolError(f"{name} holds no camera.")
    back = np.flatnonzero(np.diff(times) <= 0)
    if len(back):
        raise ProtocolError(
            f"{name}: camera {back[0] + 2} is not later than the one before it "
            f"({times[back[0] + 1]:g} s after {times[back[0]]:g} s)."
        )
    duration_s = times[-1] - times[0]
    if duration_s > MAX_DURATION_S:
        raise ProtocolError(
            f"{name} spans {duration_s:g} s, more than {MAX_DURATION_S:g} s; check the unit of its times."
        )
    rotations = nearest_rotations(recorded.c2w[:, :3, :3], name)
    return replace(recorded, c2w=rigid(rotations, recorded.c2w[:, :3, 3]), times_s=times)


def nearest_rotations(matrices: np.ndarray, name: str) -> np.ndarray:
    """(N, 3, 3) the rotations nearest to matrices that a file has rounded; ProtocolError if one is far off."""
    if not np.isfinite(matrices).all():
        raise ProtocolError(f"{name} contains numbers that are not finite.")
    drift = np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    wrong = np.flatnonzero((drift > _ROUNDED) | (np.linalg.det(matrices) <= 0))
    if len(wrong):
        raise ProtocolError(f"{name}: the matrix of camera {wrong[0] + 1} is scaled, sheared or mirrored.")
    u, _, vh = np.linalg.svd(matrices)
    return u @ vh


def quaternions_from(rotations: np.ndarray) -> np.ndarray:
    """(N, 3, 3) rotations -> (N, 4) unit quaternions w, x, y, z with w >= 0."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.moveaxis(rotations, 0, -1)
    # Row i is the quaternion times 4 q_i; the longest row is the one that loses no digits.
    products = np.array(
        [
            [1 + xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz],
        ]
    )
    products = np.moveaxis(products, -1, 0)
    longest = np.argmax(np.diagonal(products, axis1=1, axis2=2), axis=1)
    quaternions = products[np.arange(len(products)), longest]
    quaternions = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
    return np.where(quaternions[:, :1] < 0, -quaternions, quaternions)


def rotations_from(quaternions: np.ndarray) -> np.ndarray:
    """(N, 4) unit quaternions w, x, y, z -> (N, 3, 3) rotations."""
    w, x, y, z = quaternions.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def rigid(rotations: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(N, 3, 3) and (N, 3) -> (N, 4, 4)."""
    matrices = np.tile(np.eye(4), (len(rotations), 1, 1))
    matrices[:, :3, :3], matrices[:, :3, 3] = rotations, positions
    return matrices


def rigid_inverse(matrices: np.ndarray) -> np.ndarray:
    """(N, 4, 4) rigid transforms -> their inverses."""
    back = matrices[:, :3, :3].transpose(0, 2, 1)
    return rigid(back, -(back @ matrices[:, :3, 3:])[..., 0])


def turn_world(rotation: np.ndarray, c2w: np.ndarray) -> np.ndarray:
    """(3, 3) new world from old, (N, 4, 4) -> the same cameras in the new world."""
    return rigid(rotation @ c2w[:, :3, :3], c2w[:, :3, 3] @ rotation.T)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera paths as motion: poses between samples, steps in the camera's own axes, angles; and pixels as rays."""

from __future__ import annotations

import numpy as np


def poses_at(c2w: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The path between its samples, standing still before the first and after the last.

    Args:
        c2w: (F, 4, 4) float64.
        times: (N,) in samples; fractions lie between two of them.

    Returns:
        (N, 4, 4) float64.
    """
    times = np.clip(times, 0, len(c2w) - 1)
    before = np.minimum(np.floor(times).astype(int), max(len(c2w) - 2, 0))
    share = times - before
    poses = c2w[before].copy()
    after = c2w[np.minimum(before + 1, len(c2w) - 1)]
    poses[:, :3, 3] += share[:, None] * (after[:, :3, 3] - poses[:, :3, 3])
    turns = rotation_vectors(poses[:, :3, :3].transpose(0, 2, 1) @ after[:, :3, :3])
    poses[:, :3, :3] = poses[:, :3, :3] @ rotations(share[:, None] * turns)
    return poses


def steps(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How the camera moves and turns from each first pose (N, 4, 4) to its second, in the axes of the first.

    Returns:
        (N, 3) metres and (N, 3) rotation vectors in radians; nan where a pose is.
    """
    back = first[:, :3, :3].transpose(0, 2, 1)
    moves = np.einsum("nij,nj->ni", back, second[:, :3, 3] - first[:, :3, 3])
    return moves, rotation_vectors(back @ second[:, :3, :3])


def rotations(vectors: np.ndarray) -> np.ndarray:
    """(N, 3) axis times radians to (N, 3, 3); the inverse of `rotation_vectors`."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    x, y, z = vectors.T
    none = np.zeros_like(x)
    cross = np.stack([none, -z, y, z, none, -x, -y, x, none], axis=1).reshape(-1, 3, 3)
    # sin(a) / a and (1 - cos(a)) / a^2, without a division by zero.
    return np.eye(3) + np.sinc(angle / np.pi) * cross + 0.5 * np.sinc(angle / np.pi / 2) ** 2 * cross @ cross


def rotation_vectors(matrices: np.ndarray) -> np.ndarray:
    """(N, 3, 3) rotations by less than 180 degrees to (N, 3) axis times radians."""
    axis = 0.5 * np.stack(
        [
            matrices[:, 2, 1] - matrices[:, 1, 2],
            matrices[:, 0, 2] - matrices[:, 2, 0],
            matrices[:, 1, 0] - matrices[:, 0, 1],
        ],
        axis=1,
    )
    sine = np.linalg.norm(axis, axis=1)
    angle = np.arctan2(sine, (np.trace(matrices, axis1=1, axis2=2) - 1) / 2)
    return axis * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 1)[:, None]


def angles_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) radians between (N, 3, 3) rotations, exact for small angles too."""
    chord = np.linalg.norm(first - second, axis=(1, 2)) / np.sqrt(8)
    return 2 * np.arcsin(np.clip(chord, 0, 1))


def camera_matrix(intrinsics: np.ndarray) -> np.ndarray:
    """(3, 3) for pixels whose first centre is 0, as OpenCV counts; in a path's (4,) intrinsics it is 0.5."""
    fx, fy, cx, cy = intrinsics
    return np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1.0]])


def pixel_directions(pixels: np.ndarray, intrinsics: np.ndarray, c2w: np.ndarray) -> np.ndarray:
    """(N, 3) world directions, 1 m along the optical axis, through (N, 2) pixels as OpenCV counts them."""
    fx, fy, cx, cy = intrinsics
    across, down = (pixels[:, 0] + 0.5 - cx) / fx, (pixels[:, 1] + 0.5 - cy) / fy
    return np.column_stack([across, down, np.ones(len(pixels))]) @ c2w[:3, :3].T

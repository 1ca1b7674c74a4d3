# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbers that stage 1 reads for a known move: 8 frames forward, 8 frames forward while turning left."""

import numpy as np
import pytest
import torch

from backend.conditioning.camera import camera_tokens, chunk_plucker, relative_c2w
from backend.protocol.camera_path import CameraPath

GRID = (3, 22, 40)


def yaw(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def walk(start: np.ndarray | None = None) -> CameraPath:
    """0.05 forward per frame, from frame 9 on turning 1.2 degrees per frame to the left before each step."""
    pose = np.eye(4)
    poses = [pose]
    for frame in range(16):
        pose = pose.copy()
        if frame >= 8:
            pose[:3, :3] = yaw(-1.2) @ pose[:3, :3]
        pose[:3, 3] += 0.05 * pose[:3, 2]
        poses.append(pose)
    c2w = np.stack(poses)
    if start is not None:
        c2w = start @ c2w
    return CameraPath(c2w, np.tile([800.0, 810.0, 640.0, 352.0], (17, 1)), (1280, 704))


def test_camera_tokens_of_a_known_move():
    last = camera_tokens(walk(), GRID)[-1]
    expected = [
        0.985996, 0, -0.1667687, -0.0376, 0, 1, 0, 0, 0.1667687, 0, 0.985996, 0.7977664, 0, 0, 0, 1,
        25.0, 25.3125, 20.0, 11.0,
    ]  # fmt: skip
    torch.testing.assert_close(last, torch.tensor(expected), atol=1e-6, rtol=0)


def test_plucker_chunks_of_a_known_move():
    plucker = chunk_plucker(walk(), GRID)
    assert plucker.shape == (48, *GRID)
    assert plucker.mean().item() == pytest.approx(0.1361168914, abs=1e-6)
    assert plucker.std().item() == pytest.approx(0.3923377445, abs=1e-6)
    corner = plucker[:, 0, 0, 0]
    torch.testing.assert_close(corner[:3], torch.tensor([-0.591563, -0.321343, 0.739454]), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        corner[6:12],
        torch.tensor([-0.591563, -0.321343, 0.739454, 0.0160671, -0.0295782, 0.0]),
        atol=1e-6,
        rtol=0,
    )
    end = plucker[:18, 2, 21, 39]
    expected = [
        0.561173, 0.300041, 0.771401, -0.135015, 0.253329, -0.00031418,
        0.544895, 0.300041, 0.782985, -0.150004, 0.274877, -0.000942401,
        0.528378, 0.300041, 0.794224,
    ]  # fmt: skip
    torch.testing.assert_close(end[:15], torch.tensor(expected), atol=1e-6, rtol=0)


def test_first_latent_frame_looks_ahead_and_short_paths_repeat_the_last_frame():
    plucker = chunk_plucker(walk(), GRID)
    assert not torch.equal(plucker[6:12, 0], plucker[:6, 0])
    still = walk()
    single = CameraPath(still.c2w[:1], still.intrinsics[:1], still.image_size)
    one = chunk_plucker(single, (1, 22, 40))
    torch.testing.assert_close(one[42:], one[:6])


def test_conditioning_does_not_depend_on_where_the_path_starts_in_the_world():
    start = np.eye(4)
    start[:3, :3] = yaw(70) @ [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    start[:3, 3] = [12.0, -7.0, 1.7]
    moved = walk(start)
    assert np.array_equal(relative_c2w(moved)[0], np.eye(4))
    torch.testing.assert_close(camera_tokens(moved, GRID), camera_tokens(walk(), GRID), atol=1e-5, rtol=0)
    torch.testing.assert_close(chunk_plucker(moved, GRID), chunk_plucker(walk(), GRID), atol=1e-5, rtol=0)


def test_a_path_of_another_length_is_refused():
    with pytest.raises(ValueError, match="17 samples, but 4 latent frames need 25"):
        camera_tokens(walk(), (4, 22, 40))

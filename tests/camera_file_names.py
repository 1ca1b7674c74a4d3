# SPDX-License-Identifier: GPL-3.0-or-later
"""What camera files of each format are called by those who write them."""

NAMES = {
    "SANA_WM": "gate_pose.npy",
    "TRANSFORMS": "transforms.json",
    "REALESTATE10K": "re10k.txt",
    "TUM": "tum.txt",
    "KITTI": "kitti.txt",
    "COLMAP": "sparse",
    "CHAN": "camera.chan",
}

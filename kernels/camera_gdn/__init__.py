# SPDX-License-Identifier: GPL-3.0-or-later
"""Frame-wise Gated DeltaNet in ray coordinates: the camera branch of a stage-1 block.

Queries, keys and values are taken to the coordinates of their own token's ray, the recurrence of `kernels.frame_gdn`
runs there without a denominator, and what is read is taken back. The transform itself is public for softmax blocks.
"""

from .ucpe import Rays, decode, encode_key_or_value, encode_query, rays_at
from .vectorized import camera_gdn

__all__ = ["Rays", "camera_gdn", "decode", "encode_key_or_value", "encode_query", "path", "rays_at"]


def path(device: str) -> tuple[str, str]:
    """Which implementation a torch device such as "cpu" or "cuda:0" takes, and why."""
    return "vectorized", "torch's own operations run on any device, and there is no Triton kernel yet"

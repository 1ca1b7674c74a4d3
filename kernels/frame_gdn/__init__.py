# SPDX-License-Identifier: GPL-3.0-or-later
"""Frame-wise Gated DeltaNet with a normalising denominator: the main branch of a stage-1 block.

One recurrence for three ways of looking at time. Bidirectional: one chunk, every frame sees all others.
Chunk-causal: several chunks in one call, the forward direction runs through, the backward direction ends with each
chunk. Cached: one chunk in a call, the forward direction goes on from the state `start` that the chunk before left.
"""

from .vectorized import frame_gdn

__all__ = ["frame_gdn", "path"]


def path(device: str) -> tuple[str, str]:
    """Which implementation a torch device such as "cpu" or "cuda:0" takes, and why."""
    return "vectorized", "torch's own operations run on any device, and there is no Triton kernel yet"

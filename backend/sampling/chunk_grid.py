# SPDX-License-Identifier: GPL-3.0-or-later
"""How a clip is cut into chunks of latent frames for the chunk-causal teacher and the streaming student."""

from __future__ import annotations

from ..protocol.limits import STREAMING_CHUNK, TEMPORAL_STRIDE

CHUNK_FRAMES = STREAMING_CHUNK // TEMPORAL_STRIDE


def chunk_grid(frames: int) -> list[slice]:
    """Chunks of 3 latent frames; what is left over after the division goes to chunk 0.

    A clip of 24 k + 1 pixel frames has 3 k + 1 latent ones, so that chunk 0 is the given frame and three others.

    Raises:
        ValueError: there are no more than 3 frames.
    """
    if frames <= CHUNK_FRAMES:
        raise ValueError(
            f"{frames} latent frames are no more than one chunk of {CHUNK_FRAMES}; use the bidirectional variant "
            "for so short a clip, or make it longer."
        )
    starts = [0, *range(frames % CHUNK_FRAMES + CHUNK_FRAMES, frames, CHUNK_FRAMES)]
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], frames], strict=True)]

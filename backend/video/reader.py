# SPDX-License-Identifier: GPL-3.0-or-later
"""The frames of a finished clip, one by one, as a player shows them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from .writer import VideoError


def read_frames(clip: Path, frame_count: int) -> Iterator[np.ndarray]:
    """Decoded frames (H, W, 3) uint8; closing the iterator ends the decoder.

    Args:
        clip: an mp4.
        frame_count: how many it has to have.

    Raises:
        VideoError: it cannot be decoded, or has another number of frames.
    """
    count = 0
    try:
        with closing(imageio_ffmpeg.read_frames(str(clip))) as reader:
            width, height = next(reader)["size"]
            for frame in reader:
                count += 1
                yield np.frombuffer(frame, np.uint8).reshape(height, width, 3)
    except (OSError, RuntimeError, StopIteration) as error:
        raise VideoError(f"{clip} cannot be decoded after frame {count}.") from error
    if count != frame_count:
        raise VideoError(f"{clip} has {count} frames and should have {frame_count}.")

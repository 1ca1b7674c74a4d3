# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model is given to make a shot's frames, and what it has to offer for that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..finished_chunks import FinishedChunks
from ..overlap import Overlap
from ..progress import Progress
from ..protocol import CameraPath, Preset, Shot


@dataclass(frozen=True)
class Shooting:
    """One making of one shot.

    Attributes:
        shot: with the preset as the weights want it.
        path: its camera path, fitted to the clip's size.
        first_frame: (H, W, 3) float32 of the clip's size, sRGB 0..1.
        finished: latents that an earlier run has made, and where those of this one go.
        first: the delivered frame to begin with; those before it are in the growing clip already.
        progress: reports, and ends the making when asked.
    """

    shot: Shot
    path: CameraPath
    first_frame: np.ndarray
    finished: FinishedChunks
    first: int
    progress: Progress


class Models(Protocol):
    """What a preset needs, loaded or ready to be.

    Attributes:
        sha256: of every weights file that takes part, by name.
        device: the torch device that computes.
    """

    sha256: dict[str, str]
    device: str

    def as_trained(self, preset: Preset) -> tuple[Preset, list[str]]:
        """The preset as these weights want it, and what the user should know of that."""
        ...

    def check(self, shot: Shot) -> None:
        """Refuse what cannot be made, with a ProtocolError, before any work starts."""
        ...

    def costs(self, shot: Shot, frames: int) -> dict[str, float]:
        """Stages before the frames come, and "render" for those, with their cost in a common unit."""
        ...

    def film(self, shooting: Shooting, overlap: Overlap) -> Iterator[np.ndarray]:
        """Delivered frames (N, H, W, 3) uint8 from `shooting.first` on, a portion at a time.

        Portions end where they would end in any other run of the same shot.
        """
        ...

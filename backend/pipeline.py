# SPDX-License-Identifier: GPL-3.0-or-later
"""Shot -> Clip, the whole way on one screen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np

from .conditioning.first_frame import read_first_frame
from .progress import Progress
from .projection import project
from .protocol import FPS, Clip, JobFolder, ProtocolError, Shot, limits
from .video import ClipWriter, tags, versions

Item = TypeVar("Item")

CHUNK = 8  # frames of a latent step: what is held in memory, written and reported at a time


@dataclass(frozen=True)
class Models:
    """What a preset's model needs, loaded and warm.

    Attributes:
        name: of the model in the weights registry.
        sha256: of every weights file that takes part, by file name.
    """

    name: str
    sha256: dict[str, str]


def load_models(name: str, device: str) -> Models:
    if name != "embedded":
        raise ProtocolError(f"There is no model {name!r} here; choose a preset with the model embedded.")
    return Models(name, {})


def make_clip(job: JobFolder, shot: Shot, models: Models, progress: Progress) -> Clip:
    """Make the clip of a job.

    Frames reach `preview/` chunk by chunk; only one chunk of full-size frames is in memory at any time.

    Returns:
        The record for `clip.json`; `clip.mp4` is in place.

    Raises:
        ProtocolError: the shot cannot be made.
        VideoError, OSError: the clip cannot be written.
        Cancelled, Stopped: on request, within one step or chunk.
    """
    preset = shot.preset
    warnings = limits.require(shot.camera, preset)
    if shot.blockout is None:
        raise ProtocolError(
            "The embedded model needs the blockout's geometry; export the shot again with it."
        )
    for warning in warnings:
        progress.warn(warning)
    path = shot.camera.fitted_to(preset.image_size)
    first_frame = read_first_frame(job.first_frame_png, preset.image_size)
    clip = Clip(
        frame_count=len(path),
        image_size=preset.image_size,
        pose_offset=0,
        preset=preset.to_record(),
        seed=shot.seed,
        model=models.sha256,
        versions=versions(),
        warnings=warnings,
    )
    chunks = -(-len(path) // CHUNK)
    progress.plan({"project": 1.0, "write": 0.02})
    progress.step("project", 0, chunks)
    with ClipWriter(job.preview, preset.image_size, FPS, tags(shot, clip)) as writer:
        projected = project(shot.blockout, path, first_frame, preset.image_size)
        for done, chunk in enumerate(_in_chunks(projected, CHUNK), start=1):
            frames = []
            for frame in chunk:
                progress.check()
                frames.append(to_bytes(frame.base))
            writer.write(np.stack(frames))
            progress.event("frames", count=writer.frames_written)
            progress.step("project", done, chunks)
        progress.step("write", 0, 1)
        writer.finish(job.clip_mp4)
        progress.step("write", 1, 1)
    progress.end_stage()
    return replace(clip, duration_s={name: round(s, 3) for name, s in progress.stage_durations_s.items()})


def to_bytes(frame: np.ndarray) -> np.ndarray:
    """(..., 3) float 0..1 -> uint8, rounded."""
    return (frame * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _in_chunks(items: Iterable[Item], size: int) -> Iterator[Iterator[Item]]:
    """Groups of `size`, each to be used up before the next."""
    items = iter(items)
    for first in items:
        yield _chain_first(first, islice(items, size - 1))


def _chain_first(first: Item, rest: Iterable[Item]) -> Iterator[Item]:
    yield first
    yield from rest

# SPDX-License-Identifier: GPL-3.0-or-later
"""Shot -> Clip, the whole way on one screen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from .conditioning.first_frame import read_first_frame
from .models.embedded import EmbeddedConditioning, EmbeddedModel, projection_size
from .models.raster_clip import RasterClipBuilder
from .models.refiner import composite
from .progress import Progress
from .projection import ProjectedFrame, project
from .protocol import FPS, CameraPath, Clip, JobFolder, Preset, ProtocolError, Shot, limits
from .sampling.flow_euler import sample, sigma_schedule
from .video import ClipWriter, tags, versions
from .weights.embedded import file_hashes, load_embedded

CHUNK = 8  # frames of a latent step: held in memory, written and reported at a time


@dataclass(frozen=True)
class Models:
    """What a preset needs, loaded and warm.

    Attributes:
        network: the embedded model; None where a preset uses the projection alone.
        sha256: of every weights file that takes part, by name.
    """

    network: EmbeddedModel | None
    sha256: dict[str, str]


def load_models(preset: Preset, device: str) -> Models:
    """Load what the preset needs onto a torch device.

    Raises:
        ProtocolError: there is no such model, or its files are missing or damaged.
    """
    if preset.model != "embedded":
        raise ProtocolError(
            f"There is no model {preset.model!r} here; choose a preset with the model embedded."
        )
    if preset.network_blend == 0:
        return Models(None, {})
    try:
        return Models(load_embedded(device), file_hashes())
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        why = " ".join(str(error).split())
        raise ProtocolError(
            f"The embedded model's weights cannot be loaded ({why}); install the extension again."
        ) from error


def make_clip(job: JobFolder, shot: Shot, models: Models, progress: Progress) -> Clip:
    """Make the clip of a job.

    The first frame is carried along the camera path over the blockout. The network looks at a small version
    of that, all frames at once, and says what to change in its holes. Then every full-size frame is projected
    again, completed and written, so that only `CHUNK` of them are in memory at any time.

    Returns:
        The record for `clip.json`; `clip.mp4` is in place.

    Raises:
        ProtocolError: the shot cannot be made.
        VideoError, OSError: the clip cannot be written.
        Cancelled, Stopped: on request, within one step or chunk.
    """
    preset, warnings = shot.preset, limits.require(shot.camera, shot.preset)
    if shot.blockout is None:
        raise ProtocolError("The embedded model needs the blockout's geometry; export the shot with it.")
    for warning in warnings:
        progress.warn(warning)
    progress.plan(_costs(preset, len(shot.camera), models.network))
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
    change = None
    if models.network is not None:
        seen = _look(shot, path, first_frame, models.network, progress)
        latents = _denoise(shot, models.network, seen, progress)
        change = models.network.residual(latents, seen), seen.clip.sky
    with ClipWriter(job.preview, preset.image_size, FPS, tags(shot, clip)) as writer:
        for frames in _render(shot, path, first_frame, change, progress):
            writer.write(frames)
            progress.event("frames", count=writer.frames_written)
        progress.step("write", 0, 1)
        writer.finish(job.clip_mp4)
        progress.step("write", 1, 1)
    progress.end_stage()
    return replace(clip, duration_s={name: round(s, 3) for name, s in progress.stage_durations_s.items()})


def _look(
    shot: Shot, path: CameraPath, first_frame: np.ndarray, network: EmbeddedModel, progress: Progress
) -> EmbeddedConditioning:
    """Project at the network's own small size and encode what it has to know."""
    raster = network.config.raster_for(path.image_size)
    small = projection_size(raster)
    scale = np.array(small) / path.image_size
    path = CameraPath(path.c2w, path.intrinsics * [*scale, *scale], small)
    first_frame = cv2.resize(first_frame, small, interpolation=cv2.INTER_AREA)
    builder = RasterClipBuilder(raster)
    for frame in _reported(
        "condition", project(shot.blockout, path, first_frame, small), len(path), progress
    ):
        builder.add(frame.base, frame.guide, frame.visible, frame.inverse_depth, frame.is_sky)
    with torch.inference_mode():
        return network.condition(builder.build(), path)


def _denoise(shot: Shot, network: EmbeddedModel, seen: EmbeddedConditioning, progress: Progress) -> Tensor:
    preset = shot.preset
    generator = torch.Generator().manual_seed(shot.seed)
    noise = torch.randn(seen.base_latents.shape, generator=generator).to(seen.base_latents.device)
    progress.step("denoise", 0, preset.steps)
    with torch.inference_mode():
        return sample(
            lambda latents, timesteps: network.velocity(latents, timesteps, seen),
            noise,
            seen.base_latents[:, :, :1],
            sigma_schedule(preset.steps, preset.shift),
            on_step=lambda step, steps, _: progress.step("denoise", step, steps),
        )


def _render(
    shot: Shot,
    path: CameraPath,
    first_frame: np.ndarray,
    change: tuple[Tensor, Tensor] | None,
    progress: Progress,
) -> Iterator[np.ndarray]:
    """Chunks (N, H, W, 3) uint8 of finished frames."""
    projected = project(shot.blockout, path, first_frame, shot.preset.image_size)
    chunk = []
    for index, frame in enumerate(_reported("render", projected, len(path), progress)):
        finished = frame.base
        if change is not None:
            residual, sky = change[0][index], change[1][index]
            blend = shot.preset.network_blend
            finished = composite(frame.base, residual, sky, frame.visible, frame.is_sky, blend)
        chunk.append((finished * 255 + 0.5).clip(0, 255).astype(np.uint8))
        if len(chunk) == CHUNK or index == len(path) - 1:
            yield np.stack(chunk)
            chunk.clear()


def _reported(
    stage: str, frames: Iterator[ProjectedFrame], count: int, progress: Progress
) -> Iterator[ProjectedFrame]:
    """The same frames, with a step reported for each chunk and a chance to cancel after each frame."""
    steps = -(-count // CHUNK)
    progress.step(stage, 0, steps)
    for index, frame in enumerate(frames):
        yield frame
        progress.check()
        if (index + 1) % CHUNK == 0 or index == count - 1:
            progress.step(stage, index // CHUNK + 1, steps)


def _costs(preset: Preset, frames: int, network: EmbeddedModel | None) -> dict[str, float]:
    """Expected cost of every stage, in projected pixels."""
    costs = {"render": frames * math.prod(preset.image_size)}
    costs["write"] = 0.01 * costs["render"]
    if network is None:
        return costs
    look = frames * math.prod(projection_size(network.config.raster_for(preset.image_size)))
    return {"condition": look, "denoise": 0.5 * preset.steps * look, **costs}

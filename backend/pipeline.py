# SPDX-License-Identifier: GPL-3.0-or-later
"""Shot -> Clip, the whole way on one screen."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from safetensors import SafetensorError
from torch import Tensor

from .camera_match import match_camera
from .conditioning.first_frame import read_first_frame
from .embedded_film import EmbeddedFilm, EmbeddedStudent, Sampled
from .finished_chunks import FinishedChunks
from .models.embedded import EmbeddedConditioning, EmbeddedModel, projection_size
from .models.vae.linear_codec import PATCH
from .overlap import Overlap
from .progress import Cancelled, Progress, Stopped
from .protocol import FPS, CameraMatch, CameraPath, Clip, JobFolder, Preset, ProtocolError, Shot, limits
from .sampling import chunk_flow_euler, self_forcing
from .sampling.blockout_guidance import BlockoutGuidance, Preview, seen_cells
from .sampling.chunk_grid import chunk_grid
from .sampling.flow_euler import sigma_schedule
from .video import ClipWriter, read_frames, tags, versions
from .weights.embedded import file_hashes, load_embedded
from .weights.streaming_release import steps_to_take


@dataclass(frozen=True)
class Models:
    """What a preset needs, loaded and warm.

    Attributes:
        network: the embedded model; None where a preset uses the projection alone.
        sha256: of every weights file that takes part, by name.
        device: the torch device they are on.
        trained_steps: the step list that the student was trained with, if its weights say so.
    """

    network: EmbeddedModel | None
    sha256: dict[str, str]
    device: str
    trained_steps: tuple[float, ...] | None = None


def load_models(preset: Preset, device: str) -> Models:
    """Load what the preset needs onto a torch device.

    Raises:
        ProtocolError: the model cannot run here, or its files are missing or damaged.
    """
    refused = limits.check_model(preset)
    if refused:
        raise ProtocolError(refused.message)
    if preset.network_blend == 0:
        return Models(None, {}, device)
    try:
        return Models(load_embedded(device), file_hashes(), device)
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        why = " ".join(str(error).split())
        raise ProtocolError(
            f"The embedded model's weights cannot be loaded ({why}); install the extension again."
        ) from error


def make_clip(job: JobFolder, shot: Shot, models: Models, progress: Progress) -> Clip:
    """Make the clip of a job, or go on with one that an earlier worker began.

    The network looks at a small projection of the first frame along the path and says what to change in its holes;
    every full-size frame is projected, completed and written. All of that happens chunk by chunk and at the same
    time, so that whatever the length of the clip only a few chunks of large frames are in memory.

    Returns:
        The record for `clip.json`; `clip.mp4` is in place.

    Raises:
        ProtocolError: the shot cannot be made.
        VideoError, OSError: the clip cannot be written.
        Cancelled, Stopped: on request, within one step or frame.
    """
    warnings = limits.require(shot.camera, shot.preset)
    preset, of_weights = _as_trained(shot.preset, models)
    if shot.blockout is None:
        raise ProtocolError("The embedded model needs the blockout's geometry; export the shot with it.")
    warnings += of_weights
    for warning in warnings:
        progress.warn(warning)
    shot, network = replace(shot, preset=preset), models.network
    path = shot.camera.fitted_to(preset.image_size)
    first_frame = read_first_frame(job.first_frame_png, preset.image_size)
    clip = _record(shot, path, models, warnings)
    stages = _Stages(preset, len(path), network, progress)
    film = EmbeddedFilm(network, shot.blockout, path, first_frame, _chunks(preset, len(path)), stages.looked)
    finished = FinishedChunks(job, {**clip.model, **clip.versions}, models.device)
    with (
        Overlap(models.device) as overlap,
        ClipWriter(
            job.preview, preset.image_size, FPS, tags(shot, clip), resume=finished.continues
        ) as writer,
    ):
        stages.rendered(writer.frames_written)
        if network is None:
            changes = film.unchanged()
        else:
            sampled = overlap.ahead(_sampled(shot, network, film, finished, stages))
            changes = overlap.ahead(film.changes(sampled))
        frames = film.render(changes, preset, writer.frames_written, progress.check)
        for portion in overlap.ahead(frames):
            writer.write(portion)
            progress.event("frames", count=writer.frames_written)
            stages.rendered(writer.frames_written)
        progress.step("write", 0, 1)
        writer.finish(job.clip_mp4)
        progress.step("write", 1, 1)
    match = _matched(job, shot, path, clip, progress)
    durations_s = {name: round(seconds, 3) for name, seconds in progress.stage_durations_s.items()}
    return replace(clip, match=match, duration_s=durations_s)


def _matched(job: JobFolder, shot: Shot, path: CameraPath, clip: Clip, progress: Progress) -> CameraMatch:
    """Whether the finished clip follows its camera. What goes wrong here does not cost the clip."""

    def on_frame(count: int) -> None:
        progress.check()
        if count % FPS == 0:
            progress.step("match", count, clip.frame_count)

    progress.step("match", 0, clip.frame_count)
    try:
        if shot.preset.marks_unseen:
            match = CameraMatch(unmeasured="A preview shows the planned camera and is not measured.")
        else:
            with closing(read_frames(job.clip_mp4, clip.frame_count)) as frames:
                match = match_camera(frames, shot.blockout, path, clip.pose_offset, on_frame)
    except (Cancelled, Stopped):
        raise
    except Exception as error:
        progress.log("".join(traceback.format_exception(error)))
        match = CameraMatch(unmeasured="The measurement failed; log.txt in the job folder has the details.")
    progress.step("match", clip.frame_count, clip.frame_count)
    return match


def _sampled(
    shot: Shot, network: EmbeddedModel, film: EmbeddedFilm, finished: FinishedChunks, stages: _Stages
) -> Iterator[Sampled]:
    """Latents of one chunk after the other, kept as soon as they are there."""
    sample = _streamed if shot.preset.variant == "streaming" else _at_once
    for chunk, latents in zip(film.chunks, sample(shot, network, film, finished, stages), strict=True):
        finished.save(chunk, latents)
        yield chunk, latents, film.seen(chunk)


def _streamed(
    shot: Shot, network: EmbeddedModel, film: EmbeddedFilm, finished: FinishedChunks, stages: _Stages
) -> Iterator[Tensor]:
    """The student: one chunk after the other, each with a look of its own."""
    first = film.see(film.chunks[:1]).base_latents[:, :, :1]
    channels, _, height, width = first[0].shape
    return self_forcing.sample(
        EmbeddedStudent(network, film),
        self_forcing.chunk_noise((channels, height, width), shot.seed, first.dtype, first.device),
        first,
        _noise_levels(shot.preset),
        film.chunks,
        finished.load,
        lambda chunk, step: stages.check(),
        _guidance(shot.preset, lambda chunk: film.see([chunk])),
    )


def _at_once(
    shot: Shot, network: EmbeddedModel, film: EmbeddedFilm, finished: FinishedChunks, stages: _Stages
) -> Iterator[Tensor]:
    """The teacher, and the bidirectional model, which is a teacher with a single chunk."""
    preset, seen = shot.preset, film.see(film.chunks)
    kept = [finished.load(chunk) for chunk in film.chunks]
    if all(latents is not None for latents in kept):
        yield from kept
        return
    generator = torch.Generator().manual_seed(shot.seed)
    noise = torch.randn(seen.base_latents.shape, generator=generator).to(seen.base_latents.device)
    stages.denoised(0, preset.steps)
    yield from chunk_flow_euler.sample(
        lambda latents, timesteps, _: network.velocity(latents, timesteps, seen),
        noise,
        seen.base_latents[:, :, :1],
        _noise_levels(preset),
        film.chunks,
        on_step=stages.denoised,
        guidance=_guidance(preset, lambda frames: seen),
    )


def _noise_levels(preset: Preset) -> list[float]:
    if preset.variant == "streaming":
        return [step / 1000 for step in preset.step_list]
    return sigma_schedule(preset.steps, preset.shift)


def _guidance(preset: Preset, look: Callable[[slice], EmbeddedConditioning]) -> BlockoutGuidance | None:
    """To the projection that a look at these latent frames, and maybe more, has shown already."""
    if preset.blockout_guidance == 0:
        return None

    def preview(frames: slice) -> Preview:
        seen = look(frames)
        first = seen.latents.start
        own = slice(frames.start - first, frames.stop - first)
        cells = seen_cells(seen.clip.visible, PATCH, begins=first == 0)
        return seen.base_latents[:, :, own], cells[:, :, own]

    return BlockoutGuidance(preview, preset.blockout_guidance, preset.blockout_guidance_end)


def _chunks(preset: Preset, frames: int) -> list[slice]:
    latents = (frames - 1) // limits.TEMPORAL_STRIDE + 1
    return [slice(0, latents)] if preset.variant == "bidirectional" else chunk_grid(latents)


def _as_trained(preset: Preset, models: Models) -> tuple[Preset, list[str]]:
    """The preset with the steps that the weights were trained with, and what the user should know of that."""
    warnings, network = [], models.network
    if preset.variant == "streaming":
        steps, warning = steps_to_take(models.trained_steps, preset.step_list)
        preset, warnings = replace(preset, step_list=steps), [warning] if warning else []
    if network is not None and preset.variant not in network.config.trained_variants:
        trained = " and ".join(network.config.trained_variants)
        warnings.append(f"The weights were trained {trained}; {preset.variant} runs with them untrained.")
    levels = _noise_levels(preset)[1:]
    if network is not None and preset.blockout_guidance > 0 and max(levels) < preset.blockout_guidance_end:
        warnings.append(
            f"Blockout guidance does nothing: it ends at {preset.blockout_guidance_end:g}, but the first step "
            f"already leads to {max(levels):g}. Lower its end, or take more steps."
        )
    return preset, warnings


def _record(shot: Shot, path: CameraPath, models: Models, warnings: list[str]) -> Clip:
    return Clip(
        frame_count=len(path),
        image_size=shot.preset.image_size,
        pose_offset=0,
        preset=shot.preset.to_record(),
        seed=shot.seed,
        model=models.sha256,
        versions=versions(),
        warnings=warnings,
    )


class _Stages:
    """What the stages report. The student's work interleaves, so that its one stage is the finished clip."""

    def __init__(
        self, preset: Preset, frames: int, network: EmbeddedModel | None, progress: Progress
    ) -> None:
        self._frames, self._progress = frames, progress
        self._looked = 0
        self._interleaved = preset.variant == "streaming" or network is None
        render = frames * math.prod(preset.image_size)
        costs = {"render": render, "write": 0.01 * render, "match": 0.02 * render}
        if not self._interleaved:
            look = frames * math.prod(projection_size(network.config.raster_for(preset.image_size)))
            costs = {"condition": look, "denoise": 0.5 * preset.steps * look, **costs}
        progress.plan(costs)

    def check(self) -> None:
        self._progress.check()

    def looked(self) -> None:
        """Called for every frame, said once a latent frame."""
        self._looked += 1
        if self._interleaved or self._looked % limits.TEMPORAL_STRIDE != 1:
            self.check()
        else:
            self._progress.step("condition", self._looked, self._frames)

    def denoised(self, step: int, steps: int) -> None:
        self._progress.step("denoise", step, steps)

    def rendered(self, frames: int) -> None:
        self._progress.step("render", frames, self._frames)

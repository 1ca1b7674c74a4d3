# SPDX-License-Identifier: GPL-3.0-or-later
"""Shot -> Clip, the whole way on one screen."""

from __future__ import annotations

import traceback
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from .camera_match import match_camera
from .conditioning.first_frame import read_first_frame
from .films.shooting import Models, Shooting
from .finished_chunks import FinishedChunks
from .overlap import Overlap
from .progress import Cancelled, Progress, Stopped
from .protocol import FPS, CameraMatch, CameraPath, Clip, JobFolder, Preset, ProtocolError, Shot, limits
from .video import ClipWriter, read_frames, tags, versions


def load_models(preset: Preset, device: str, weights: Path | None = None) -> Models:
    """What the preset needs, on a torch device.

    Args:
        weights: folder of the released weights.

    Raises:
        ProtocolError: the model cannot run here, or its files are missing or damaged.
    """
    refused = limits.check_model(preset)
    if refused:
        raise ProtocolError(refused.message)
    if preset.model == "embedded":
        from .films.embedded import EmbeddedModels

        return EmbeddedModels.load(preset, device)
    from .films.released_models import ReleasedModels

    return ReleasedModels(preset, device, weights)


def make_clip(job: JobFolder, shot: Shot, models: Models, progress: Progress) -> Clip:
    """Make the clip of a job, or go on with one that an earlier worker began.

    Returns:
        The record for `clip.json`; `clip.mp4` is in place.

    Raises:
        ProtocolError: the shot cannot be made.
        VideoError, OSError: the clip cannot be written.
        Cancelled, Stopped: on request, within one step or frame.
    """
    warnings = limits.require(shot.camera, shot.preset)
    preset, of_weights = models.as_trained(shot.preset)
    shot, warnings = replace(shot, preset=preset), warnings + of_weights
    models.check(shot)
    for warning in warnings:
        progress.warn(warning)
    path = shot.camera.fitted_to(preset.image_size)
    first_frame = read_first_frame(job.first_frame_png, preset.image_size)
    clip = _record(shot, path, models, warnings)
    costs = models.costs(shot, len(path))
    progress.plan({**costs, "write": 0.01 * costs["render"], "match": 0.02 * costs["render"]})
    finished = FinishedChunks(job, {**clip.model, **clip.versions}, models.device)
    with (
        Overlap(models.device) as overlap,
        ClipWriter(
            job.preview, preset.image_size, FPS, tags(shot, clip), resume=finished.continues
        ) as writer,
    ):
        progress.step("render", writer.frames_written, clip.frame_count)
        shooting = Shooting(shot, path, first_frame, finished, writer.frames_written, progress)
        for portion in models.film(shooting, overlap):
            writer.write(portion)
            progress.event("frames", count=writer.frames_written)
            progress.step("render", writer.frames_written, clip.frame_count)
        progress.step("write", 0, 1)
        writer.finish(job.clip_mp4)
        progress.step("write", 1, 1)
    match = _matched(job, shot, path, clip, progress)
    durations_s = {name: round(seconds, 3) for name, seconds in progress.stage_durations_s.items()}
    return replace(clip, match=match, duration_s=durations_s)


def _record(shot: Shot, path: CameraPath, models: Models, warnings: list[str]) -> Clip:
    offset = shot.preset.pose_offset
    return Clip(
        frame_count=len(path) - offset,
        image_size=shot.preset.image_size,
        pose_offset=offset,
        preset=shot.preset.to_record(),
        seed=shot.seed,
        model=models.sha256,
        versions=versions(),
        warnings=warnings,
    )


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
        elif shot.blockout is None:
            match = CameraMatch(unmeasured="The shot has no blockout geometry to measure the camera against.")
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

# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of a shot in its scene -> a Shot."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import bpy
from bpy.types import Context, Object, Scene

from ..backend.protocol import CameraPath, Finding, Preset, ProtocolError, Shot, Source, limits
from ..backend.protocol.fingerprint import fingerprint
from ..backend.protocol.weights_ready import why_not_ready
from . import blockout, camera, camera_motion, first_frame, paths, timeline, weights
from .backend_process import find_backend
from .properties import SANAWM_PG_finding, SANAWM_PG_shot, presets, shot_settings


def obstacle(settings: SANAWM_PG_shot) -> str:
    """The first thing that is missing before a clip can be made here, in a sentence; else empty."""
    try:
        _preset(settings)
        paths.jobs_root()
    except ProtocolError as error:
        return str(error)
    return weights_obstacle(settings) or obstacle_in_scene(settings) or backend_obstacle()


def weights_obstacle(settings: SANAWM_PG_shot) -> str:
    """Which of the preset's weights are not on this machine, or may not be used yet, in a sentence; else empty."""
    try:
        return why_not_ready(weights.folder(), _preset(settings))
    except ProtocolError as error:
        return str(error)


def backend_obstacle() -> str:
    """Why there is no backend, in a sentence; else empty."""
    try:
        find_backend(paths.backend_folder())
    except ProtocolError as error:
        return str(error)
    return ""


def obstacle_in_scene(settings: SANAWM_PG_shot) -> str:
    """The first thing that is missing before the shot can be written; what takes long is not looked at."""
    scene = settings.id_data
    try:
        preset = _preset(settings)
        camera.shot_camera(scene, settings.camera, *settings.range_of(scene))
        sample_count(settings, preset)
        if settings.first_frame_source == "IMAGE":
            _first_frame_file(settings)
    except ProtocolError as error:
        return str(error)
    return ""


def sample_count(settings: SANAWM_PG_shot, preset: Preset) -> int:
    """Camera samples, which are the clip's frames, of the longest clip that the range holds.

    Raises:
        ProtocolError: the range is too short or too long for the preset, or ends before it starts.
    """
    scene = settings.id_data
    count = timeline.sample_count(scene, *settings.range_of(scene), preset.variant)
    wrong = limits.check_length(count, preset)
    if wrong:
        raise ProtocolError(wrong.message)
    return count


def check(context: Context) -> Filmed | None:
    """Follow the camera of the shot in the panel and keep what is wrong or doubtful for the panel to show.

    Returns:
        What was filmed; None if the camera cannot be followed.
    """
    filmed = None
    try:
        filmed = _film(context, shot_settings(context.scene))
        found = limits.check(filmed.path, filmed.preset)
    except ProtocolError as error:
        found = [Finding(True, str(error))]
    finally:
        context.window_manager.progress_end()
    _keep_findings(context, found)
    return filmed


def findings(context: Context, settings: SANAWM_PG_shot) -> list[Finding]:
    """What is wrong or doubtful about a shot.

    Raises:
        ProtocolError: its camera cannot be followed at all.
    """
    try:
        filmed = _film(context, settings)
        return limits.check(filmed.path, filmed.preset)
    finally:
        context.window_manager.progress_end()


def export(context: Context, settings: SANAWM_PG_shot) -> tuple[Shot, bytes]:
    """A shot of the context's scene, and its first frame as PNG.

    Raises:
        ProtocolError: something is missing, or the model cannot film this; the message says what to do.
    """
    try:
        return _export(context, settings)
    finally:
        context.window_manager.progress_end()


def _export(context: Context, settings: SANAWM_PG_shot) -> tuple[Shot, bytes]:
    filmed = _film(context, settings)
    found = limits.check(filmed.path, filmed.preset)
    _keep_findings(context, found)
    limits.refuse_errors(found)
    shot, warnings = _shot(context, settings, filmed)
    _keep_findings(context, [*found, *(Finding(False, warning) for warning in warnings)])
    if settings.first_frame_source == "IMAGE":
        return shot, first_frame.image_file(_first_frame_file(settings), filmed.path.image_size)
    scene = settings.id_data
    return shot, first_frame.render_blockout(scene, context.view_layer, filmed.camera, filmed.frame_start)


def current_fingerprint(context: Context, settings: SANAWM_PG_shot) -> dict[str, str]:
    """What a clip of the shot would be made from now, without rendering anything.

    Raises:
        ProtocolError: the shot cannot be followed; the message says what to do.
    """
    try:
        filmed = _film(context, settings)
        shot, _warnings = _shot(context, settings, filmed)
        chosen = None
        if settings.first_frame_source == "IMAGE":
            chosen = first_frame.image_file(_first_frame_file(settings), filmed.path.image_size)
        return fingerprint(shot, chosen)
    finally:
        context.window_manager.progress_end()


def _shot(context: Context, settings: SANAWM_PG_shot, filmed: Filmed) -> tuple[Shot, list[str]]:
    """The shot, and what its blockout leaves out."""
    scene = settings.id_data
    _begin_progress(context, len(filmed.path), rounds_done=1)
    geometry, warnings = blockout.export_blockout(
        scene, context.view_layer, filmed.frame_start, len(filmed.path)
    )
    shot = Shot(
        code=settings.code,
        name=settings.name or scene.name,
        camera=filmed.path,
        prompt=settings.prompt_in_full(),
        negative_prompt=settings.negative_prompt.strip(),
        seed=settings.seed,
        preset=filmed.preset,
        source=Source(
            bpy.data.filepath, scene.name, filmed.camera.name, filmed.frame_start, filmed.frame_end,
            timeline.scene_fps(scene), uuid.uuid4().hex, chosen_first_frame(settings),
        ),
        blockout=geometry,
    )  # fmt: skip
    return shot, warnings


def chosen_first_frame(settings: SANAWM_PG_shot) -> str:
    """The absolute path of the image chosen as the first frame; empty for the blockout's own picture."""
    return bpy.path.abspath(settings.first_frame_path) if settings.first_frame_source == "IMAGE" else ""


def current_findings(context: Context) -> list[SANAWM_PG_finding]:
    """The findings of the last check, unless the shot has changed since."""
    last = context.window_manager.sana_wm_check
    return list(last.findings) if last.subject == subject(context.scene) else []


@dataclass(frozen=True)
class Filmed:
    """The camera followed over the range."""

    camera: Object
    frame_start: int
    frame_end: int
    preset: Preset
    path: CameraPath


def _film(context: Context, settings: SANAWM_PG_shot) -> Filmed:
    scene = settings.id_data
    preset = _preset(settings)
    start, end = settings.range_of(scene)
    filming = camera.shot_camera(scene, settings.camera, start, end)
    count = sample_count(settings, preset)  # refused before the camera is followed for minutes
    _begin_progress(context, count, rounds_done=0)
    path = camera.export_camera(scene, context.view_layer, filming, start, count)
    return Filmed(filming, start, end, preset, path)


def _begin_progress(context: Context, count: int, rounds_done: int) -> None:
    """The cursor's scale for one round of samples: the camera's, the blockout's, and then the first frame."""
    context.window_manager.progress_begin(-rounds_done * count, (2.5 - rounds_done) * count)


def _preset(settings: SANAWM_PG_shot) -> Preset:
    """The chosen preset, if this version can run it."""
    preset = presets().get(settings.preset)
    if preset is None:
        raise ProtocolError("Choose a preset: the one this file was saved with is not part of this version.")
    wrong = limits.check_model(preset)
    if wrong:
        raise ProtocolError(wrong.message)
    return preset


def _first_frame_file(settings: SANAWM_PG_shot) -> Path:
    if not settings.first_frame_path:
        raise ProtocolError("Choose the image of the first frame, or take the blockout.")
    file = Path(bpy.path.abspath(settings.first_frame_path))
    if not file.is_file():
        raise ProtocolError(f"The image of the first frame is missing: {file}.")
    return file


def _keep_findings(context: Context, found: list[Finding]) -> None:
    last = context.window_manager.sana_wm_check
    last.findings.clear()
    last.subject = subject(context.scene)
    for finding in found:
        entry = last.findings.add()
        entry.name, entry.is_error = finding.message, finding.is_error


def subject(scene: Scene) -> str:
    """What findings depend on, as far as it is cheap to see."""
    settings = shot_settings(scene)
    frames = settings.range_of(scene)
    try:
        filming = camera.shot_camera(scene, settings.camera, *frames)
        moves = filming.name, camera_motion.state(filming)
    except ProtocolError as error:
        moves = str(error)
    size = camera.render_size(scene)
    return repr((scene.name, settings.code, moves, frames, timeline.scene_fps(scene), settings.preset, size))

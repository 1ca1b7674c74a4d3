# SPDX-License-Identifier: GPL-3.0-or-later
"""What cures a camera that is too fast or a shot that is too long: slower, smaller, in two shots."""

from __future__ import annotations

import math

from bpy.types import Context, Object, Scene

from ..backend.protocol import FPS, ProtocolError, limits
from . import camera, camera_check, camera_motion, shot_list, timeline
from .camera_check import Report
from .properties import SANAWM_PG_shot, presets, shot_settings

# Gentle to the eye of the check, with a little room for its sampling.
_MARGIN = 1.01
# The shortest clip of any preset, in seconds.
_SHORTEST_S = limits.TEMPORAL_STRIDE / FPS
_LONGEST_S = (limits.MAX_FRAMES - 1) / FPS


def slow_down(context: Context) -> str:
    """Stretch the camera's move, and the shot with it, until it is gentle.

    Returns:
        What was done, in a sentence.

    Raises:
        ProtocolError: the shot has cuts, its camera is not moved by its own keys, or it would pass 60 s.
    """
    settings, report, filming = _checked(context)
    scene = context.scene
    start, end = settings.range_of(scene)
    factor = report.check.needed_slowdown
    if factor <= limits.RATE_TOLERANCE:
        raise ProtocolError("The camera is gentle already.")
    camera_motion.refuse_unkeyed(filming)
    behind = end + 1  # where the last sample may lie
    new_behind = start + math.ceil((behind - start) * factor * _MARGIN)
    new_s = (new_behind - start) / timeline.scene_fps(scene)
    if new_s > _LONGEST_S:
        raise ProtocolError(
            f"Slowed down to be gentle, the shot would last {new_s:.0f} s, and a clip has at most {_LONGEST_S:.0f} s; "
            "split the shot first, or scale the camera's path."
        )
    camera_motion.slow_down(filming, start, behind, (new_behind - start) / (behind - start))
    _move_later_shots(scene, settings, filming, end, new_behind - behind)
    _set_end(settings, new_behind - 1)
    camera_check.look(context)
    return (
        f"The move takes {new_s:.1f} s now, {factor:.1f} times as long; frames {start} to {new_behind - 1}."
    )


def scale_path(context: Context) -> str:
    """Shrink the camera's path about its first place until its speed is gentle; time, turns and lens stay.

    Returns:
        What was done, in a sentence.

    Raises:
        ProtocolError: the shot has cuts, or its camera is not moved by its own keys.
    """
    settings, report, filming = _checked(context)
    factor = report.check.needed_scale
    if factor * limits.RATE_TOLERANCE >= 1:
        raise ProtocolError("The camera's speed is gentle already.")
    camera_motion.refuse_unkeyed(filming)
    factor /= _MARGIN
    start, end = settings.range_of(context.scene)
    camera_motion.scale(filming, start, end + 1, factor)
    report = camera_check.look(context)
    way = f", {report.check.distance_m:.2f} m" if report else ""
    return f"The path is {factor:.0%} of its size now{way}; look whether it still frames what it should."


def split_frame(context: Context) -> int:
    """The scene frame at which a shot is best split: where a marker or a jump cuts, else in the middle."""
    settings = shot_settings(context.scene)
    start, end = settings.range_of(context.scene)
    report = camera_check.current(context.scene)
    if report is not None and report.check.cuts:
        return _first_frame_after_jump(context, report)
    return _marker_cut(settings) or start + (end - start + 1) // 2


def must_be_split(settings: SANAWM_PG_shot) -> bool:
    """Whether the shot is too long for a clip, or a marker cuts inside; cheap enough for drawing."""
    start, end = settings.range_of(settings.id_data)
    is_too_long = (end - start + 1) / timeline.scene_fps(settings.id_data) >= _LONGEST_S + 1 / FPS
    return is_too_long or _marker_cut(settings) is not None


def _marker_cut(settings: SANAWM_PG_shot) -> int | None:
    """The first frame inside the range at which a marker switches to another camera."""
    scene, (start, end) = settings.id_data, settings.range_of(settings.id_data)
    if settings.camera is not None:
        return None
    try:
        first = camera.shot_camera(scene, None, start, start)
    except ProtocolError:
        return None
    cuts = (m.frame for m in scene.timeline_markers if m.camera and m.camera != first)
    return min((frame for frame in cuts if start < frame <= end), default=None)


def split(context: Context, frame: int) -> str:
    """End the shot before a scene frame; where there is a shot list, add the rest to it as the next shot.

    Returns:
        What was done, in a sentence.

    Raises:
        ProtocolError: one of the parts would be too short for a clip.
    """
    scene, settings = context.scene, shot_settings(context.scene)
    start, end = settings.range_of(scene)
    shortest = math.ceil(_SHORTEST_S * timeline.scene_fps(scene))
    if frame - start < shortest or end - frame + 1 < shortest:
        raise ProtocolError(
            f"Split at frame {frame}, one of the parts would be shorter than {_SHORTEST_S:g} s; a clip needs that much."
        )
    new_end = frame - 1
    if _last_sample_lies_at(settings, frame) and _jumps_at(context, frame):
        new_end -= 1  # a clip that fills the range to its end would show the frame behind it
    if not scene.sana_wm_shots:
        settings.range_source, settings.frame_start, settings.frame_end = "CUSTOM", start, new_end
        camera_check.look(context)
        return (
            f"The shot ends at frame {new_end} now. The rest, frames {frame} to {end}, is in no shot: "
            "the scene has no shot list."
        )
    shot_list.duplicate(scene)
    rest_index = shot_list.active_index(scene)
    settings, rest = scene.sana_wm_shots[rest_index - 1], scene.sana_wm_shots[rest_index]
    rest.range_source, rest.frame_start, rest.frame_end = "CUSTOM", frame, end
    rest.first_frame_source = "RENDER"  # the chosen picture shows where the first part begins
    settings.range_source, settings.frame_start, settings.frame_end = "CUSTOM", start, new_end
    scene.sana_wm_shot_index = rest_index - 1
    camera_check.look(context)
    return f"The shot ends at frame {new_end} now, and {rest.code} films frames {frame} to {end}."


def _checked(context: Context) -> tuple[SANAWM_PG_shot, Report, Object]:
    """The shot, its check of now, and its camera."""
    settings = shot_settings(context.scene)
    report = camera_check.current(context.scene) or camera_check.look(context)
    if report is None:
        raise ProtocolError("The shot's camera cannot be followed; check the shot to see why.")
    if report.check.cuts:
        raise ProtocolError("The shot has a cut inside; split it there first.")
    filming = camera.shot_camera(context.scene, settings.camera, *settings.range_of(context.scene))
    return settings, report, filming


def _set_end(settings: SANAWM_PG_shot, frame: int) -> None:
    if settings.range_source == "CUSTOM":
        settings.frame_end = frame
    else:
        settings.id_data.frame_end = frame


def _move_later_shots(scene: Scene, changed: SANAWM_PG_shot, filming: Object, end: int, by: int) -> None:
    """Shots of the list that the same camera films later, whose keys were moved."""
    for shot in scene.sana_wm_shots:
        if shot.range_source == "CUSTOM" and shot.frame_start > end and shot.code != changed.code:
            if shot.camera == filming:
                shot.frame_start += by
                shot.frame_end += by


def _last_sample_lies_at(settings: SANAWM_PG_shot, frame: int) -> bool:
    """Whether a clip of the range up to this frame has its last sample there."""
    fps = timeline.scene_fps(settings.id_data)
    whole_s = (frame - settings.range_of(settings.id_data)[0]) / fps
    count = limits.frame_count_for(whole_s, presets()[settings.preset].variant)
    return abs((count - 1) / FPS - whole_s) * fps < 1e-3


def _jumps_at(context: Context, frame: int) -> bool:
    report = camera_check.current(context.scene)
    return bool(report and report.check.cuts) and _first_frame_after_jump(context, report) == frame


def _first_frame_after_jump(context: Context, report: Report) -> int:
    """The scene frame that the first jump leads to; samples lie up to a few frames apart."""
    scene, settings = context.scene, shot_settings(context.scene)
    step = timeline.scene_fps(scene) / FPS
    jump = report.check.cuts[0]
    before, after = (report.frame_start + (jump - back) * step for back in (1, 0))
    filming = camera.shot_camera(scene, settings.camera, *settings.range_of(scene))
    return camera.largest_step(scene, context.view_layer, filming, math.floor(before), math.ceil(after))

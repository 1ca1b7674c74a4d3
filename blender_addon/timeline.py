# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene's time: its rate, its playhead, and the camera samples at 16 a second in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import bpy
from bpy.types import Depsgraph, Scene, ViewLayer

from ..backend.protocol import FPS, ProtocolError, frame_count_for


def scene_fps(scene: Scene) -> float:
    """Frames per second of the scene, 23.976 for 24 / 1.001."""
    return scene.render.fps / scene.render.fps_base


def sample_count(scene: Scene, frame_start: float, frame_end: float, variant: str = "bidirectional") -> int:
    """Camera samples at 16 fps that fit into the scene frames `frame_start` .. `frame_end`, both inclusive.

    Raises:
        ProtocolError: the range ends before it starts.
    """
    if frame_end < frame_start:
        raise ProtocolError(
            f"The range ends at frame {frame_end:g}, before it starts at frame {frame_start:g}; "
            "set an end frame after the start frame."
        )
    return frame_count_for((frame_end - frame_start + 1) / scene_fps(scene), variant)


def occupied() -> str:
    """Why the playhead must be left alone now, in a sentence: a playback or a render; else empty."""
    if any(window.screen.is_animation_playing for window in bpy.context.window_manager.windows):
        return "The animation is playing; stop the playback first."
    if bpy.app.is_job_running("RENDER"):
        return "A render is running; wait for it to end or cancel it first."
    return ""


def refuse_while_occupied() -> None:
    """Sampling moves the playhead, which must not happen under a playback or a render.

    Raises:
        ProtocolError: an animation is playing or a render is running.
    """
    sentence = occupied()
    if sentence:
        raise ProtocolError(sentence)


@contextmanager
def playhead_kept(scene: Scene) -> Iterator[None]:
    """Leave the scene at the frame, the subframe and the active camera it had, whatever happens inside."""
    frame, subframe, camera = scene.frame_current, scene.frame_subframe, scene.camera
    try:
        yield
    finally:
        scene.frame_set(frame, subframe=subframe)
        if scene.camera != camera:
            scene.camera = camera


def each_sample(
    scene: Scene, view_layer: ViewLayer, frame_start: float, count: int
) -> Iterator[tuple[int, Depsgraph]]:
    """Step the scene to `frame_start` + i / 16 s for each sample i; the caller keeps the playhead.

    Counts the samples at Blender's progress cursor, where one was begun.
    """
    return at_samples(scene, view_layer, frame_start, range(count))


def at_samples(
    scene: Scene, view_layer: ViewLayer, frame_start: float, samples: Iterable[int]
) -> Iterator[tuple[int, Depsgraph]]:
    """The same for some of the samples."""
    step = scene_fps(scene) / FPS
    for index in samples:
        bpy.context.window_manager.progress_update(index)
        time = frame_start + index * step
        frame = math.floor(time)
        scene.frame_set(frame, subframe=time - frame)
        yield index, view_layer.depsgraph

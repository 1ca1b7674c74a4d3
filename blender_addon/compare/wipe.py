# SPDX-License-Identifier: GPL-3.0-or-later
"""The clip on one side of a line and the blockout on the other, in the viewport, through the shot's camera."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import bpy
import gpu
import numpy as np
from bpy.app.handlers import persistent
from bpy.types import Context, Image, Region, RegionView3D, Scene, SpaceView3D
from bpy_extras.view3d_utils import location_3d_to_region_2d
from gpu_extras.batch import batch_for_shader

from ...backend.protocol import JobFolder, ProtocolError
from .. import compat
from ..clip_time import ClipTime
from .looked_at import filming_camera, load_movie
from .registration import ACROSS, WHOLE, Rectangle, clip_rectangle

GRAB_PX = 12
LINE_PX = 2.0
_LINE_COLOUR = (1.0, 1.0, 1.0, 0.9)
_QUAD = ((0, 1, 2), (0, 2, 3))  # its two triangles


@dataclass(eq=False)
class Wipe:
    """A wipe that is on. It knows data-blocks by their names, because an undo replaces them.

    Attributes:
        scene, camera, image: the shot's scene and camera, and the clip as Blender has it.
        size: of the clip, pixels.
        axis: ACROSS for an upright line with the clip left of it, UP for a level one with the clip below it.
        split: share of the clip's width or height at which the line stands.
        held: what is shown whole, as long as a key is held.
    """

    scene: str
    camera: str
    image: str
    movie: Path
    time: ClipTime
    size: tuple[int, int]
    axis: int = ACROSS
    split: float = 0.5
    held: Literal["", "CLIP", "BLOCKOUT"] = ""
    _texture: gpu.types.GPUTexture | None = None
    _frame: int = -1  # of the clip, in the texture

    @property
    def is_flipped(self) -> bool:
        return self.held != ""

    def shown_share(self) -> float:
        """How much of the clip is shown, from its left or lower edge on."""
        return {"": self.split, "CLIP": 1.0, "BLOCKOUT": 0.0}[self.held]

    def is_clip_at(self, rectangle: Rectangle, point: tuple[float, float]) -> bool:
        """Whether the clip is on that side of the line."""
        return rectangle.share(self.axis, point[self.axis]) < self.split

    def is_near_line(self, rectangle: Rectangle, point: tuple[float, float]) -> bool:
        off = abs(point[self.axis] - rectangle.at(self.axis, self.split))
        return rectangle.contains(*point) and off <= GRAB_PX

    def texture(self, scene: Scene) -> gpu.types.GPUTexture | None:
        """The clip frame that belongs to the scene's frame, uploaded once; None if Blender cannot read it.

        The texture is held here: Blender frees its own after a while, and would then load another frame.
        """
        frame, image = self.time.frame_at(scene.frame_current_final), bpy.data.images.get(self.image)
        if frame != self._frame and image is not None:
            image.gl_free()
            try:
                image.gl_load(frame=frame + 1)  # Blender counts a movie's frames from 1
            except RuntimeError:
                return None
            self._texture, self._frame = gpu.texture.from_image(image), frame
        return self._texture


active: Wipe | None = None
_handle: object | None = None


def start(scene: Scene, job: JobFolder) -> Wipe:
    """Show the wipe in every viewport that looks through the shot's camera.

    Raises:
        ProtocolError: the job has no clip, Blender cannot read it, or its camera is not in the file.
    """
    global active, _handle
    stop()
    time, camera = ClipTime.of_job(job, scene), filming_camera(job)
    image = _load(job.clip_mp4)
    active = Wipe(scene.name, camera.name, image.name, job.clip_mp4, time, tuple(image.size))
    _handle = SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")
    return active


def stop() -> None:
    """Take the wipe away; nothing happens if there is none."""
    global active, _handle
    if _handle is not None:
        SpaceView3D.draw_handler_remove(_handle, "WINDOW")
    image = bpy.data.images.get(active.image) if active is not None else None
    if image is not None:
        bpy.data.images.remove(image)
    active = _handle = None


def rectangle_in(region: Region, view: RegionView3D, wipe: Wipe) -> Rectangle | None:
    """Where the clip is in a viewport; None if it does not look through the shot's camera."""
    scene, camera = bpy.data.scenes.get(wipe.scene), bpy.data.objects.get(wipe.camera)
    if view.view_perspective != "CAMERA" or scene is None or camera is None:
        return None
    place = camera.matrix_world.normalized()  # a camera's scale does not count
    corners = [
        location_3d_to_region_2d(region, view, place @ corner)
        for corner in camera.data.view_frame(scene=scene)
    ]
    if any(corner is None for corner in corners):
        return None
    return clip_rectangle(np.array(corners), wipe.size)


def rectangle_at(context: Context, wipe: Wipe) -> Rectangle | None:
    """The same for the viewport of a context, whose scene and camera must be the shot's."""
    space = context.space_data
    if context.scene.name != wipe.scene or space is None or space.type != "VIEW_3D":
        return None
    looks_through = space.camera if space.use_local_camera else context.scene.camera
    if looks_through is None or looks_through.name != wipe.camera or context.region_data is None:
        return None
    return rectangle_in(context.region, context.region_data, wipe)


def draw(wipe: Wipe, scene: Scene, rectangle: Rectangle) -> None:
    """The clip's side, and the line; the other side is left as it is."""
    texture, share = wipe.texture(scene), wipe.shown_share()
    if texture is None:
        return
    if share > 0:
        shader = compat.image_shader()
        shader.uniform_sampler("image", texture)
        places, uvs = (whole.part(wipe.axis, share).corners() for whole in (rectangle, WHOLE))
        quad = batch_for_shader(shader, "TRIS", {"pos": places, "texCoord": uvs}, indices=_QUAD)
        quad.draw(shader)
    if not wipe.is_flipped:
        _draw_line(wipe, rectangle)


def _draw() -> None:
    rectangle = rectangle_at(bpy.context, active) if active is not None else None
    if rectangle is not None:
        draw(active, bpy.context.scene, rectangle)


def _draw_line(wipe: Wipe, rectangle: Rectangle) -> None:
    """With two arrow heads in its middle, to be dragged."""
    along, grip = 1 - wipe.axis, GRAB_PX / 2
    line, middle = rectangle.at(wipe.axis, wipe.split), rectangle.at(along, 0.5)
    ends = [(0.0, rectangle.at(along, 0) - middle), (0.0, rectangle.at(along, 1) - middle)]
    for side in (-1, 1):
        tip = (side * 2 * grip, 0.0)
        ends += [tip, (side * grip, grip), tip, (side * grip, -grip)]
    points = np.zeros((len(ends), 3), np.float32)
    points[:, [wipe.axis, along]] = np.array(ends) + (line, middle)
    shader = gpu.shader.from_builtin("POLYLINE_UNIFORM_COLOR")
    shader.uniform_float("viewportSize", gpu.state.viewport_get()[2:])
    shader.uniform_float("lineWidth", LINE_PX)
    shader.uniform_float("color", _LINE_COLOUR)
    gpu.state.blend_set("ALPHA")
    batch_for_shader(shader, "LINES", {"pos": points}).draw(shader)
    gpu.state.blend_set("NONE")


def _load(movie: Path) -> Image:
    image = load_movie(movie, check_existing=False)
    image.name = f"Wipe {movie.parent.name}"
    return image


@persistent
def _stop_with_file(_path: str) -> None:
    stop()


@persistent
def _load_again(_scene: Scene) -> None:
    """An undo takes the image, which no undo step knows."""
    if active is not None and active.image not in bpy.data.images:
        try:
            active.image = _load(active.movie).name
        except (ProtocolError, RuntimeError):  # the clip was deleted
            stop()


def register() -> None:
    bpy.app.handlers.load_pre.append(_stop_with_file)
    for handlers in (bpy.app.handlers.undo_post, bpy.app.handlers.redo_post):
        handlers.append(_load_again)


def unregister() -> None:
    stop()
    for handlers in (bpy.app.handlers.undo_post, bpy.app.handlers.redo_post):
        handlers.remove(_load_again)
    bpy.app.handlers.load_pre.remove(_stop_with_file)

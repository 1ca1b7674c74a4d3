# SPDX-License-Identifier: GPL-3.0-or-later
"""The clip on one side of a line and the blockout on the other, in the viewport, through the shot's camera."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import gpu
import numpy as np
from bpy.app.handlers import persistent
from bpy.types import Context, Image, Object, Region, RegionView3D, Scene, SpaceView3D
from bpy_extras.view3d_utils import location_3d_to_region_2d
from gpu_extras.batch import batch_for_shader

from ...backend.protocol import JobFolder, ProtocolError
from .looked_at import ClipTime
from .stack import clip_area

GRAB_PX = 12
_LINE_COLOUR = (1.0, 1.0, 1.0, 0.9)


@dataclass(frozen=True)
class Rectangle:
    """In pixels of a region, from its lower left corner."""

    left: float
    bottom: float
    right: float
    top: float

    def share(self, x: float) -> float:
        """Where x lies between left and right, 0..1."""
        return min(max((x - self.left) / max(self.right - self.left, 1e-6), 0.0), 1.0)

    def at(self, share: float) -> float:
        return self.left + share * (self.right - self.left)


@dataclass(eq=False)
class Wipe:
    """A wipe that is on.

    Attributes:
        split: share of the clip's width at which the line stands; the clip is left of it.
        is_flipped: the whole clip is shown, as long as a key is held.
    """

    scene: Scene
    camera: Object
    image: Image
    time: ClipTime
    size: tuple[int, int]
    split: float = 0.5
    is_flipped: bool = False
    loaded_frame: int = -1


active: Wipe | None = None
_handle: object | None = None


def start(scene: Scene, job: JobFolder) -> Wipe:
    """Show the wipe in every viewport that looks through the shot's camera.

    Raises:
        ProtocolError: the job has no clip, Blender cannot read it, or its camera is not in the file.
    """
    global active, _handle
    stop()
    time, name = ClipTime.of_job(job, scene), job.source().camera
    camera = bpy.data.objects.get(name)
    if camera is None or camera.type != "CAMERA":
        raise ProtocolError(f"The camera {name} of {job.name} is not in this file any more.")
    image = bpy.data.images.load(str(job.clip_mp4), check_existing=False)
    if image.source != "MOVIE" or image.size[0] == 0:
        bpy.data.images.remove(image)
        raise ProtocolError(f"Blender cannot read {job.clip_mp4}; generate the shot again.")
    image.name = f"Wipe {job.name}"
    active = Wipe(scene, camera, image, time, tuple(image.size))
    _handle = SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")
    return active


def stop() -> None:
    """Take the wipe away; nothing happens if there is none."""
    global active, _handle
    if _handle is not None:
        SpaceView3D.draw_handler_remove(_handle, "WINDOW")
    if active is not None:
        try:
            bpy.data.images.remove(active.image)
        except ReferenceError:  # an undo took it
            pass
    active = _handle = None


def clip_rectangle(corners: np.ndarray, clip_size: tuple[int, int]) -> Rectangle:
    """Where the clip lies in the camera's frame: cut from its middle.

    Args:
        corners: (4, 2) of the camera's frame in a region, pixels.
    """
    (left, bottom), (right, top) = corners.min(0), corners.max(0)
    inner = clip_area((right - left, top - bottom), clip_size)
    return Rectangle(left + inner[0], bottom + inner[1], left + inner[2], bottom + inner[3])


def shown_share(wipe: Wipe) -> float:
    """How much of the clip is shown, from its left edge on."""
    return 1.0 if wipe.is_flipped else wipe.split


def rectangle_in(region: Region, view: RegionView3D, wipe: Wipe) -> Rectangle | None:
    """Where the clip is in a viewport; None if it does not look through the shot's camera."""
    if view.view_perspective != "CAMERA":
        return None
    place = wipe.camera.matrix_world
    corners = [
        location_3d_to_region_2d(region, view, place @ corner)
        for corner in wipe.camera.data.view_frame(scene=wipe.scene)
    ]
    if any(corner is None for corner in corners):
        return None
    return clip_rectangle(np.array(corners), wipe.size)


def rectangle_at(context: Context, wipe: Wipe) -> Rectangle | None:
    """The same for the viewport of a context, whose scene and camera must be the shot's."""
    space = context.space_data
    if context.scene != wipe.scene or space is None or space.type != "VIEW_3D":
        return None
    looks_through = space.camera if space.use_local_camera else context.scene.camera
    if looks_through != wipe.camera or context.region_data is None:
        return None
    return rectangle_in(context.region, context.region_data, wipe)


def _texture(wipe: Wipe) -> gpu.types.GPUTexture:
    """The clip's current frame; uploaded once for each frame. Blender counts a movie's frames from 1."""
    frame = wipe.time.frame_at(wipe.scene.frame_current_final)
    if frame != wipe.loaded_frame:
        wipe.image.gl_free()
        wipe.image.gl_load(frame=frame + 1)
        wipe.loaded_frame = frame
    return gpu.texture.from_image(wipe.image)


def _draw() -> None:
    wipe = active
    rectangle = rectangle_at(bpy.context, wipe) if wipe is not None else None
    if rectangle is None:
        return
    share = shown_share(wipe)
    edge = rectangle.at(share)
    shader = gpu.shader.from_builtin("IMAGE_SCENE_LINEAR_TO_REC709_SRGB")
    corners = [
        (rectangle.left, rectangle.bottom), (edge, rectangle.bottom), (edge, rectangle.top),
        (rectangle.left, rectangle.top),
    ]  # fmt: skip
    places = [(0, 0), (share, 0), (share, 1), (0, 1)]
    shader.uniform_sampler("image", _texture(wipe))
    batch_for_shader(shader, "TRI_FAN", {"pos": corners, "texCoord": places}).draw(shader)
    if not wipe.is_flipped:
        _draw_line(edge, rectangle)


def _draw_line(x: float, rectangle: Rectangle) -> None:
    middle, grip = (rectangle.bottom + rectangle.top) / 2, GRAB_PX / 2
    lines = [(x, rectangle.bottom), (x, rectangle.top)]
    for side in (-1, 1):  # two arrow heads, to be dragged
        tip = (x + side * 2 * grip, middle)
        lines += [tip, (x + side * grip, middle + grip), tip, (x + side * grip, middle - grip)]
    shader = gpu.shader.from_builtin("POLYLINE_UNIFORM_COLOR")
    shader.uniform_float("viewportSize", gpu.state.viewport_get()[2:])
    shader.uniform_float("lineWidth", 2.0)
    shader.uniform_float("color", _LINE_COLOUR)
    places = np.array([(*point, 0.0) for point in lines], np.float32)
    gpu.state.blend_set("ALPHA")
    batch_for_shader(shader, "LINES", {"pos": places}).draw(shader)
    gpu.state.blend_set("NONE")


@persistent
def _forget(_path: str) -> None:
    stop()


def register() -> None:
    bpy.app.handlers.load_pre.append(_forget)


def unregister() -> None:
    stop()
    bpy.app.handlers.load_pre.remove(_forget)

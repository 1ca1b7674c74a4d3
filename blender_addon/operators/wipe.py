# SPDX-License-Identifier: GPL-3.0-or-later
"""Drag the line between clip and blockout; hold a key to see the one instead of the other."""

from __future__ import annotations

from bpy.types import Context, Event, Operator

from ...backend.protocol import ProtocolError
from ..compare import viewport, wipe
from ..compare.looked_at import job_looked_at
from ..compare.registration import Rectangle

FLIP_KEY, TURN_KEY = "F", "V"
_HINT = "Drag the line   |   Hold F: the other picture   |   V: turn the line   |   Esc, right click: end the wipe"


class SANAWM_OT_wipe(Operator):
    bl_idname = "sanawm.wipe"
    bl_label = "Wipe"
    bl_description = (
        "Show the clip on one side of a line and the blockout on the other. Over the picture: drag the line, hold F "
        "for the other picture instead of the one under the mouse, V turns the line, Esc or a right click ends it"
    )
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if context.space_data is None or context.space_data.type != "VIEW_3D":
            cls.poll_message_set("The wipe belongs to a 3D viewport")
            return False
        if wipe.active is None and job_looked_at(context.scene) is None:
            cls.poll_message_set("This shot has no clip yet")
            return False
        return True

    def invoke(self, context: Context, _event: Event) -> set[str]:
        if wipe.active is not None:
            self._end(context)
            return {"FINISHED"}
        job = job_looked_at(context.scene)
        try:
            viewport.leave_all(context)
            self._wipe = wipe.start(context.scene, job)
            viewport.look_through_camera(context, job)
        except (ProtocolError, RuntimeError, OSError) as error:
            wipe.stop()
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self._dragged = None  # area, region and view, while the line is dragged there
        context.workspace.status_text_set(_HINT)
        context.window_manager.modal_handler_add(self)
        _redraw(context)
        return {"RUNNING_MODAL"}

    def modal(self, context: Context, event: Event) -> set[str]:
        if wipe.active is not self._wipe:  # ended by its button, or by another way of looking
            if wipe.active is None:
                context.workspace.status_text_set(None)
            return {"FINISHED"}
        if event.type == "WINDOW_DEACTIVATE" or (event.type == FLIP_KEY and event.value == "RELEASE"):
            return self._release(context)
        if self._dragged is not None:
            return self._drag(context, event)
        area, region, view = _viewport_under(context, event)
        rectangle = wipe.rectangle_in(region, view, self._wipe) if region is not None else None
        point = _point_in(region, event) if region is not None else (0, 0)
        if event.value != "PRESS" or rectangle is None or not rectangle.contains(*point):
            return {"PASS_THROUGH"}
        if event.shift or event.ctrl or event.alt or event.oskey:
            return {"PASS_THROUGH"}
        return self._press(context, event, rectangle, point, (area, region, view))

    def cancel(self, context: Context) -> None:
        """Blender ends the operator, with its window or another file."""
        if wipe.active is self._wipe:
            self._end(context)

    def _press(self, context: Context, event: Event, rectangle: Rectangle, point, place) -> set[str]:
        playing = context.screen.is_animation_playing
        if event.type == "RIGHTMOUSE" or (event.type == "ESC" and not playing):  # else it stops the playback
            self._end(context)
            return {"FINISHED"}
        if event.type == FLIP_KEY:
            if not self._wipe.is_flipped:
                self._wipe.held = "BLOCKOUT" if self._wipe.is_clip_at(rectangle, point) else "CLIP"
        elif event.type == TURN_KEY:
            self._wipe.axis = 1 - self._wipe.axis
        elif event.type == "LEFTMOUSE" and self._wipe.is_near_line(rectangle, point):
            self._dragged = place
        else:
            return {"PASS_THROUGH"}
        _redraw(context)
        return {"RUNNING_MODAL"}

    def _drag(self, context: Context, event: Event) -> set[str]:
        _area, region, view = self._dragged
        rectangle = wipe.rectangle_in(region, view, self._wipe)
        if rectangle is None or (event.type == "LEFTMOUSE" and event.value == "RELEASE"):
            self._dragged = None
            return {"RUNNING_MODAL"}
        if event.type in ("MOUSEMOVE", "INBETWEEN_MOUSEMOVE"):
            axis = self._wipe.axis
            self._wipe.split = rectangle.share(axis, _point_in(region, event)[axis])
            _redraw(context)
            return {"RUNNING_MODAL"}
        return {"PASS_THROUGH"}

    def _release(self, context: Context) -> set[str]:
        """Also when another window takes the keys away."""
        self._dragged = None
        if not self._wipe.is_flipped:
            return {"PASS_THROUGH"}
        self._wipe.held = ""
        _redraw(context)
        return {"RUNNING_MODAL"}

    def _end(self, context: Context) -> None:
        wipe.stop()
        if context.workspace is not None:
            context.workspace.status_text_set(None)
        _redraw(context)


def _point_in(region, event: Event) -> tuple[int, int]:
    return event.mouse_x - region.x, event.mouse_y - region.y


def _viewport_under(context: Context, event: Event):
    """Area, window region and view of the 3D viewport under the mouse; three times None elsewhere."""
    for area in context.window.screen.areas:
        if area.type != "VIEW_3D":
            continue
        for region in area.regions:
            if region.type == "WINDOW" and _is_in(region, event) and not _covered(area, event):
                return area, region, area.spaces.active.region_3d
    return None, None, None


def _covered(area, event: Event) -> bool:
    """Whether a sidebar or a header lies over the viewport there."""
    return any(
        region.type not in ("WINDOW", "HUD") and region.width > 1 and _is_in(region, event)
        for region in area.regions
    )


def _is_in(region, event: Event) -> bool:
    x, y = _point_in(region, event)
    return 0 <= x < region.width and 0 <= y < region.height


def _redraw(context: Context) -> None:
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()

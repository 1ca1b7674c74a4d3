# SPDX-License-Identifier: GPL-3.0-or-later
"""Drag the line between clip and blockout; hold a key to see the whole clip."""

from __future__ import annotations

from bpy.types import Context, Event, Operator

from ...backend.protocol import ProtocolError
from ..compare import wipe
from ..compare.looked_at import job_looked_at

FLIP_KEY = "F"


class SANAWM_OT_wipe(Operator):
    bl_idname = "sanawm.wipe"
    bl_label = "Wipe"
    bl_description = (
        "Show the clip left of a line and the blockout right of it: drag the line, hold F for the whole clip. "
        "Again or Esc to end"
    )
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if context.space_data is None or context.space_data.type != "VIEW_3D":
            cls.poll_message_set("The wipe belongs to a 3D viewport")
            return False
        if job_looked_at(context.scene) is None:
            cls.poll_message_set("This shot has no clip yet")
            return False
        return True

    def invoke(self, context: Context, _event: Event) -> set[str]:
        if wipe.active is not None:
            wipe.stop()
            context.area.tag_redraw()
            return {"FINISHED"}
        try:
            self._wipe = wipe.start(context.scene, job_looked_at(context.scene))
        except (ProtocolError, RuntimeError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self._drags = False
        context.scene.camera = self._wipe.camera
        context.region_data.view_perspective = "CAMERA"
        context.window_manager.modal_handler_add(self)
        context.area.tag_redraw()
        return {"RUNNING_MODAL"}

    def modal(self, context: Context, event: Event) -> set[str]:
        if wipe.active is not self._wipe:  # ended by its button, or by another file
            return {"FINISHED"}
        area, region, view = _viewport_under(context, event)
        rectangle = wipe.rectangle_in(region, view, self._wipe) if region is not None else None
        if area is not None and event.type in ("MOUSEMOVE", "TIMER") or self._drags:
            _redraw(context)
        if event.type == "ESC" and event.value == "PRESS":
            wipe.stop()
            _redraw(context)
            return {"FINISHED"}
        if event.type == FLIP_KEY and (rectangle is not None or event.value == "RELEASE"):
            self._wipe.is_flipped = event.value == "PRESS"
            _redraw(context)
            return {"RUNNING_MODAL"}
        if event.type == "LEFTMOUSE" and event.value == "RELEASE" and self._drags:
            self._drags = False
            return {"RUNNING_MODAL"}
        if rectangle is None:
            return {"PASS_THROUGH"}
        x, y = event.mouse_x - region.x, event.mouse_y - region.y
        if event.type == "LEFTMOUSE" and event.value == "PRESS":
            near = abs(x - rectangle.at(self._wipe.split)) <= wipe.GRAB_PX
            if near and rectangle.bottom <= y <= rectangle.top:
                self._drags = True
                return {"RUNNING_MODAL"}
        if event.type == "MOUSEMOVE" and self._drags:
            self._wipe.split = rectangle.share(x)
            return {"RUNNING_MODAL"}
        return {"PASS_THROUGH"}


def _viewport_under(context: Context, event: Event):
    """Area, window region and view of the 3D viewport under the mouse; three times None elsewhere."""
    for area in context.window.screen.areas:
        if area.type != "VIEW_3D":
            continue
        for region in area.regions:
            inside = (
                region.x <= event.mouse_x < region.x + region.width
                and region.y <= event.mouse_y < region.y + region.height
            )
            if region.type == "WINDOW" and inside and not _covered(area, event):
                return area, region, area.spaces.active.region_3d
    return None, None, None


def _covered(area, event: Event) -> bool:
    """Whether a sidebar or a header lies over the viewport there."""
    return any(
        region.type not in ("WINDOW", "HUD")
        and region.width > 1
        and region.x <= event.mouse_x < region.x + region.width
        and region.y <= event.mouse_y < region.y + region.height
        for region in area.regions
    )


def _redraw(context: Context) -> None:
    for area in context.window.screen.areas:
        if area.type == "VIEW_3D":
            area.tag_redraw()

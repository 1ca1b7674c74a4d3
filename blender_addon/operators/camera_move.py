# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera move as one click, with its strength to change afterwards."""

from __future__ import annotations

from bpy.props import BoolProperty, EnumProperty, FloatProperty
from bpy.types import Context, Operator

from ...backend.protocol import ProtocolError
from .. import camera
from ..camera_moves import camera_moves, key_move
from ..properties import shot_settings

_ITEMS = [(stem, move.name, move.description) for stem, move in camera_moves().items()]


class SANAWM_OT_add_camera_move(Operator):
    bl_idname = "sanawm.add_camera_move"
    bl_label = "Add Camera Move"
    bl_description = "Key a camera move on the shot's camera, over the shot's range, from where it stands now"
    bl_options = {"REGISTER", "UNDO"}

    move: EnumProperty(name="Move", items=_ITEMS)
    strength: FloatProperty(
        name="Strength",
        description="How far the move goes: 1 as it comes, 0.5 half of it, -1 the other way",
        default=1.0,
        soft_min=-3.0,
        soft_max=3.0,
    )
    eased: BoolProperty(name="Ease", description="Start and stop softly", default=True)

    def execute(self, context: Context) -> set[str]:
        scene = context.scene
        settings = shot_settings(scene)
        frames = settings.range_of(scene)
        move = camera_moves()[self.move]
        try:
            filming = camera.shot_camera(scene, settings.camera, *frames)
            key_move(scene, filming, move, frames, self.strength, self.eased)
        except ProtocolError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"{move.name} keyed on {filming.name}, frames {frames[0]} to {frames[1]}")
        return {"FINISHED"}

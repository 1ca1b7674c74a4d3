# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do with a take in the sequencer: the active strip, if it is one."""

from __future__ import annotations

from bpy.types import Context, Operator

from ...backend.protocol import ProtocolError
from .. import takes
from ..compat import sequencer_scene


class _TakeOperator:
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        editor = sequencer_scene(context).sequence_editor
        return editor is not None and takes.is_take(editor.active_strip)

    def execute(self, context: Context) -> set[str]:
        scene = sequencer_scene(context)
        try:
            self.use(scene, scene.sequence_editor.active_strip)
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class SANAWM_OT_pick_take(_TakeOperator, Operator):
    bl_idname = "sanawm.pick_take"
    bl_label = "Pick Take"
    bl_description = "Show the active take of its shot and mute the others"

    def use(self, scene, strip) -> None:
        takes.pick(scene, strip)


class SANAWM_OT_remove_take(_TakeOperator, Operator):
    bl_idname = "sanawm.remove_take"
    bl_label = "Remove Take"
    bl_description = "Take the active take out of the sequencer, with its speed effect; its job folder stays"

    def use(self, scene, strip) -> None:
        takes.remove(scene, strip)


class SANAWM_OT_settings_of_take(_TakeOperator, Operator):
    bl_idname = "sanawm.settings_of_take"
    bl_label = "Settings of This Take"
    bl_description = "Set the shot's camera, range, prompt, preset and seed as they were for the active take"

    def use(self, scene, strip) -> None:
        for sentence in takes.settings_again(scene, strip):
            self.report({"WARNING"}, sentence)


class SANAWM_OT_go_on_from_take(_TakeOperator, Operator):
    bl_idname = "sanawm.go_on_from_take"
    bl_label = "Go On from Its Last Frame"
    bl_description = "Begin the next clip with the last frame of the active take"

    def use(self, scene, strip) -> None:
        takes.go_on_from(scene, strip)

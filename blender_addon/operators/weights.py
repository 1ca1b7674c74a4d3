# SPDX-License-Identifier: GPL-3.0-or-later
"""Get the released model's weights, agree to their terms, check and remove them."""

from __future__ import annotations

import bpy
from bpy.props import StringProperty
from bpy.types import Context, Event, Operator

from ...backend.protocol import ProtocolError
from ...backend.protocol.weights_folder import state
from ...backend.protocol.weights_licences import LICENCES, accept, unaccepted
from ...backend.protocol.weights_registry import needed_for
from .. import paths, session, weights
from ..backend_process import find_backend
from ..properties import presets, shot_settings


def chosen_components() -> tuple[str, ...]:
    """The ids of what the preset in the preferences needs."""
    return needed_for(presets()[paths.preferences().weights_preset])


class _ErrandOperator:
    """Runs the backend; one errand at a time."""

    component: StringProperty(name="Component", description="Empty: all that the preset needs")

    @classmethod
    def poll(cls, _context: Context) -> bool:
        if session.is_on_weights_errand():
            cls.poll_message_set("Something is being done with the weights already")
            return False
        try:
            find_backend(paths.backend_folder())
        except ProtocolError as error:
            cls.poll_message_set(str(error))
            return False
        return True

    def components(self) -> list[str]:
        return [self.component] if self.component else list(chosen_components())

    def start(self, *words: str) -> set[str]:
        try:
            session.start_weights_errand(words)
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class SANAWM_OT_download_weights(_ErrandOperator, Operator):
    bl_idname = "sanawm.download_weights"
    bl_label = "Download"
    bl_description = "Download weights from huggingface.co; a download that was stopped goes on where it was"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not bpy.app.online_access:
            ways = "in the preferences under System, Network"
            if bpy.app.online_access_override:
                ways = "by starting Blender without --offline-mode"
            cls.poll_message_set(f"Downloading needs the internet; allow online access {ways}")
            return False
        return super().poll(context)

    def execute(self, _context: Context) -> set[str]:
        root = weights.folder()
        ids = [id for id in self.components() if weights.is_to_be_fetched(root, id)]
        missing = [licence.title for licence in unaccepted(root, ids)]
        if missing:
            self.report({"ERROR"}, f"Accept first: {', '.join(missing)}")
            return {"CANCELLED"}
        if not ids:
            self.report({"INFO"}, "All of it is here already")
            return {"CANCELLED"}
        return self.start("download", *ids)


class SANAWM_OT_verify_weights(_ErrandOperator, Operator):
    bl_idname = "sanawm.verify_weights"
    bl_label = "Verify"
    bl_description = "Read every file that is here of the preset's weights, and hold it against its hash"
    bl_options = {"INTERNAL"}

    def execute(self, _context: Context) -> set[str]:
        root = weights.folder()
        return self.start("verify", *(id for id in self.components() if state(root, id) != "missing"))


class SANAWM_OT_convert_weights(_ErrandOperator, Operator):
    bl_idname = "sanawm.convert_weights"
    bl_label = "Convert"
    bl_description = "Make a file that can be loaded of the published model.pt, once; the published one stays"
    bl_options = {"INTERNAL"}

    def execute(self, _context: Context) -> set[str]:
        return self.start("convert")


class SANAWM_OT_remove_weights(_ErrandOperator, Operator):
    bl_idname = "sanawm.remove_weights"
    bl_label = "Remove Weights"
    bl_description = "Delete this component's files from its own folder in the weights folder"
    bl_options = {"INTERNAL"}

    def invoke(self, context: Context, event: Event) -> set[str]:
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, _context: Context) -> set[str]:
        return self.start("remove", *self.components())


class SANAWM_OT_cancel_weights(Operator):
    bl_idname = "sanawm.cancel_weights"
    bl_label = "Cancel"
    bl_description = "Stop; the next download goes on from here"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: Context) -> bool:
        return session.is_on_weights_errand()

    def execute(self, _context: Context) -> set[str]:
        session.weights_errand.cancel()
        return {"FINISHED"}


class SANAWM_OT_show_weights(Operator):
    bl_idname = "sanawm.show_weights"
    bl_label = "Weights in the Preferences"
    bl_description = (
        "Open the preferences where the weights of this shot's preset are downloaded and agreed to"
    )
    bl_options = {"INTERNAL"}

    def execute(self, context: Context) -> set[str]:
        paths.preferences().weights_preset = shot_settings(context.scene).preset
        return bpy.ops.preferences.addon_show(module=paths.ROOT_PACKAGE)


class SANAWM_OT_accept_licence(Operator):
    bl_idname = "sanawm.accept_licence"
    bl_label = "Accept License"
    bl_description = "Agree to the terms; recorded with the time beside the weights"
    bl_options = {"INTERNAL"}

    licence: StringProperty(name="License")

    def invoke(self, context: Context, _event: Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self, width=640, confirm_text="Accept")

    def draw(self, _context: Context) -> None:
        licence = LICENCES[self.licence]
        column = self.layout.column(align=True)
        for line in (licence.title, licence.link, *licence.summary, *filter(None, [licence.notice])):
            column.label(text=line)
        column = self.layout.box().column(align=True)
        column.label(text="By accepting you say:")
        for line in licence.statements:
            column.label(text=line, icon="DOT")

    def execute(self, _context: Context) -> set[str]:
        try:
            accept(weights.folder(), [self.licence])
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}

# SPDX-License-Identifier: GPL-3.0-or-later
"""The shot list: add, remove, order, fill from elsewhere, write."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import EnumProperty, StringProperty
from bpy.types import Context, Event, Operator, Scene
from bpy_extras.io_utils import ExportHelper, ImportHelper

from ...backend.protocol import ProtocolError
from .. import camera, shot_list, shot_sources
from ..compat import sequencer_scene
from ..properties import shot_settings
from ..shot_codes import next_code


def list_scene(context: Context) -> Scene:
    """The scene whose list the editor shows: the window's; in the sequencer its own, or that which its strips show."""
    if context.space_data is None or context.space_data.type != "SEQUENCE_EDITOR":
        return context.scene
    edit = sequencer_scene(context)
    if edit.sana_wm_shots or edit.sequence_editor is None:
        return edit
    strips = [edit.sequence_editor.active_strip, *shot_sources.scene_strips(edit)]
    shown = (strip.scene for strip in strips if strip is not None and strip.type == "SCENE" and strip.scene)
    return next((scene for scene in shown if scene.sana_wm_shots), edit)


class _ListOperator:
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Context) -> set[str]:
        try:
            said = self.use(context, list_scene(context))
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for level, sentence in said or ():
            self.report({level}, sentence)
        return {"FINISHED"}


class _OnAShot(_ListOperator):
    @classmethod
    def poll(cls, context: Context) -> bool:
        if not list_scene(context).sana_wm_shots:
            cls.poll_message_set("The shot list is empty")
            return False
        return True


class SANAWM_OT_add_shot(_ListOperator, Operator):
    bl_idname = "sanawm.add_shot"
    bl_label = "Add Shot"
    bl_description = "Add a shot at the end of the list, set up like the one in the panel"

    def use(self, context: Context, scene: Scene) -> None:
        like, taken = shot_settings(scene), shot_list.codes(scene)
        code = next_code(like.code, taken) if taken else like.code
        shot_list.fix_camera(shot_list.add_shot(scene, code, like))


class SANAWM_OT_duplicate_shot(_OnAShot, Operator):
    bl_idname = "sanawm.duplicate_shot"
    bl_label = "Duplicate Shot"
    bl_description = "Put a copy of the active shot behind it, with the next free code"

    def use(self, context: Context, scene: Scene) -> None:
        shot_list.duplicate(scene)


class SANAWM_OT_remove_shot(_OnAShot, Operator):
    bl_idname = "sanawm.remove_shot"
    bl_label = "Remove Shot"
    bl_description = "Take the active shot off the list; its clips and jobs stay"

    def use(self, context: Context, scene: Scene) -> None:
        scene.sana_wm_shots.remove(shot_list.active_index(scene))
        scene.sana_wm_shot_index = shot_list.active_index(scene)


class SANAWM_OT_move_shot(_OnAShot, Operator):
    bl_idname = "sanawm.move_shot"
    bl_label = "Move Shot"
    bl_description = "Move the active shot in the list, which is the order of a batch"

    direction: EnumProperty(items=(("UP", "Up", ""), ("DOWN", "Down", "")))

    def use(self, context: Context, scene: Scene) -> None:
        index = shot_list.active_index(scene)
        target = index + (-1 if self.direction == "UP" else 1)
        if 0 <= target < len(scene.sana_wm_shots):
            scene.sana_wm_shots.move(index, target)
            scene.sana_wm_shot_index = target


class SANAWM_OT_look_through_shot(_OnAShot, Operator):
    bl_idname = "sanawm.look_through_shot"
    bl_label = "Go to Shot"
    bl_description = "Move the playhead to the shot's first frame and look through its camera"

    def use(self, context: Context, scene: Scene) -> None:
        settings = shot_settings(scene)
        start, end = settings.range_of(scene)
        filming = camera.shot_camera(scene, settings.camera, start, end)
        scene.frame_set(start)
        scene.camera = filming  # after a marker there had its say
        if scene == context.scene and context.region_data is not None:
            context.region_data.view_perspective = "CAMERA"


class SANAWM_OT_shots_from_markers(_ListOperator, Operator):
    bl_idname = "sanawm.shots_from_markers"
    bl_label = "From Markers"
    bl_description = "A shot for each timeline marker with a camera; shots that are there already are updated"

    def use(self, context: Context, scene: Scene) -> list[tuple[str, str]]:
        return _said(shot_sources.from_markers(scene))


class SANAWM_OT_shots_from_strips(_ListOperator, Operator):
    bl_idname = "sanawm.shots_from_strips"
    bl_label = "From Scene Strips"
    bl_description = (
        "A shot for each scene strip of the sequencer, in the list of the scene that the strip shows"
    )

    def use(self, context: Context, scene: Scene) -> list[tuple[str, str]]:
        said = []
        edit = sequencer_scene(context)
        for shown, update in shot_sources.from_strips(edit).items():
            where = "" if shown == scene else f"Into the list of {shown.name}: "
            said += [(level, f"{where}{sentence}") for level, sentence in _said(update)]
        return said


class SANAWM_OT_shots_from_file(_ListOperator, ImportHelper, Operator):
    bl_idname = "sanawm.shots_from_file"
    bl_label = "From File"
    bl_description = "Shots from a CSV, OTIO or EDL file; an empty cell changes nothing"

    filter_glob: StringProperty(default="*.csv;*.otio;*.edl", options={"HIDDEN"})

    def use(self, context: Context, scene: Scene) -> list[tuple[str, str]]:
        return _said(shot_sources.from_file(scene, Path(self.filepath)))


class SANAWM_OT_write_shots(_OnAShot, ExportHelper, Operator):
    bl_idname = "sanawm.write_shots"
    bl_label = "Write Shot List"
    bl_description = "Write the list with status, take, clip and match, as CSV, OTIO or EDL"
    bl_options = {"INTERNAL"}

    filename_ext = ".csv"
    check_extension = None  # the chosen format says it
    filter_glob: StringProperty(default="*.csv;*.otio;*.edl", options={"HIDDEN"})
    format: EnumProperty(
        name="Format",
        items=(
            (".csv", "CSV", "A table for a spreadsheet, which can be read again"),
            (".otio", "OTIO", "An edit for OpenTimelineIO, with everything the list knows"),
            (".edl", "EDL", "A CMX 3600 edit decision list"),
        ),
        description="In an edit, shots that overlap in time follow one another in the list's order",
    )

    def check(self, _context: Context) -> bool:
        wanted = str(Path(self.filepath).with_suffix(self.format))
        changed, self.filepath = wanted != self.filepath, wanted
        return changed

    def invoke(self, context: Context, event: Event) -> set[str]:
        blend = Path(bpy.data.filepath)
        self.filepath = str(blend.with_suffix(self.format)) if blend.name else f"shots{self.format}"
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def use(self, context: Context, scene: Scene) -> list[tuple[str, str]]:
        path = Path(self.filepath)
        return [("INFO", f"{shot_sources.to_file(scene, path)} shots written to {path.name}")]


def _said(update: shot_sources.Update) -> list[tuple[str, str]]:
    """Every note; the counts last, which is what the status bar shows."""
    counts = ("WARNING" if update.notes else "INFO", update.in_words())
    return [("WARNING", note) for note in update.notes[1:]] + [counts]

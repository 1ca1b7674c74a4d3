# SPDX-License-Identifier: GPL-3.0-or-later
"""The shot list: add, remove, order, fill from elsewhere, write."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import EnumProperty, StringProperty
from bpy.types import Context, Event, Operator, Scene
from bpy_extras.io_utils import ExportHelper, ImportHelper

from ...backend.protocol import ProtocolError
from .. import camera, shot_sources
from ..compat import sequencer_scene
from ..properties import shot_settings
from ..shot_rows import add_shot, next_code


def list_scene(context: Context) -> Scene:
    """The scene whose list the editor shows: the sequencer's own, or the window's."""
    in_sequencer = context.space_data is not None and context.space_data.type == "SEQUENCE_EDITOR"
    return sequencer_scene(context) if in_sequencer else context.scene


class _ListOperator:
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Context) -> set[str]:
        try:
            said = self.use(list_scene(context))
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for level, sentence in said or ():
            self.report({level}, sentence)
        return {"FINISHED"}


class _OnAShot(_ListOperator):
    @classmethod
    def poll(cls, context: Context) -> bool:
        return bool(list_scene(context).sana_wm_shots)


class SANAWM_OT_add_shot(_ListOperator, Operator):
    bl_idname = "sanawm.add_shot"
    bl_label = "Add Shot"
    bl_description = "Add a shot to the list, set up like the one in the panel"

    def use(self, scene: Scene) -> None:
        like = shot_settings(scene)
        taken = {shot.code for shot in scene.sana_wm_shots}
        add_shot(scene, next_code(like.code, taken) if taken else like.code, like)


class SANAWM_OT_remove_shot(_OnAShot, Operator):
    bl_idname = "sanawm.remove_shot"
    bl_label = "Remove Shot"
    bl_description = "Take the active shot off the list; its clips and jobs stay"

    def use(self, scene: Scene) -> None:
        index = min(scene.sana_wm_shot_index, len(scene.sana_wm_shots) - 1)
        scene.sana_wm_shots.remove(index)
        scene.sana_wm_shot_index = max(0, min(index, len(scene.sana_wm_shots) - 1))


class SANAWM_OT_move_shot(_OnAShot, Operator):
    bl_idname = "sanawm.move_shot"
    bl_label = "Move Shot"
    bl_description = "Move the active shot in the list, which is the order of a batch"

    direction: EnumProperty(items=(("UP", "Up", ""), ("DOWN", "Down", "")))

    def use(self, scene: Scene) -> None:
        index = min(scene.sana_wm_shot_index, len(scene.sana_wm_shots) - 1)
        target = index + (-1 if self.direction == "UP" else 1)
        if 0 <= target < len(scene.sana_wm_shots):
            scene.sana_wm_shots.move(index, target)
            scene.sana_wm_shot_index = target


class SANAWM_OT_look_through_shot(_OnAShot, Operator):
    bl_idname = "sanawm.look_through_shot"
    bl_label = "Go to Shot"
    bl_description = "Move the playhead to the shot's first frame and make its camera the scene's"

    def use(self, scene: Scene) -> None:
        settings = shot_settings(scene)
        start, end = settings.range_of(scene)
        scene.camera = camera.shot_camera(scene, settings.camera, start, end)
        scene.frame_set(start)


class SANAWM_OT_shots_from_markers(_ListOperator, Operator):
    bl_idname = "sanawm.shots_from_markers"
    bl_label = "From Markers"
    bl_description = "A shot for each timeline marker with a camera; shots that are there already are updated"

    def use(self, scene: Scene) -> list[tuple[str, str]]:
        return _said(shot_sources.from_markers(scene))


class SANAWM_OT_shots_from_strips(_ListOperator, Operator):
    bl_idname = "sanawm.shots_from_strips"
    bl_label = "From Scene Strips"
    bl_description = (
        "A shot for each scene strip of the sequencer, in the list of the scene that the strip shows"
    )

    def use(self, scene: Scene) -> list[tuple[str, str]]:
        said = []
        for shown, update in shot_sources.from_strips(scene).items():
            said += [(level, f"{shown.name}: {sentence}") for level, sentence in _said(update)]
        return said


class SANAWM_OT_shots_from_file(_ListOperator, ImportHelper, Operator):
    bl_idname = "sanawm.shots_from_file"
    bl_label = "From File"
    bl_description = "Shots from a CSV, OTIO or EDL file; an empty cell changes nothing"

    filter_glob: StringProperty(default="*.csv;*.otio;*.edl", options={"HIDDEN"})

    def use(self, scene: Scene) -> list[tuple[str, str]]:
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
    )

    def check(self, _context: Context) -> bool:
        wanted = str(Path(self.filepath).with_suffix(self.format))
        changed, self.filepath = wanted != self.filepath, wanted
        return changed

    def invoke(self, context: Context, event: Event) -> set[str]:
        self.filepath = bpy.path.ensure_ext(Path(bpy.data.filepath).stem or "shots", self.format)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def use(self, scene: Scene) -> list[tuple[str, str]]:
        path = Path(self.filepath)
        return [("INFO", f"{shot_sources.to_file(scene, path)} shots written to {path.name}")]


def _said(update: shot_sources.Update) -> list[tuple[str, str]]:
    first = [("WARNING" if update.notes else "INFO", update.in_words())]
    return first + [("WARNING", note) for note in update.notes[1:]]

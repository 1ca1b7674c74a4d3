# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera paths of other programs, in and out, and cameras from action strings."""

from __future__ import annotations

from pathlib import Path

from bpy.props import BoolProperty, EnumProperty, FloatProperty, StringProperty
from bpy.types import Context, Event, Operator
from bpy_extras.io_utils import ExportHelper, ImportHelper

from ...backend.protocol import FPS, ProtocolError
from ...backend.protocol.camera_files import FORMATS
from .. import camera_exchange
from ..properties import shot_settings

_ABOUT = {
    "SANA_WM": "Three files: poses, lens and what they mean. The released model reads them",
    "TRANSFORMS": "One JSON file with a matrix and a lens for each picture: instant-ngp, nerfstudio",
    "REALESTATE10K": "A line for each picture with its time, lens and matrix: RealEstate10K, CameraCtrl",
    "TUM": "A line for each time with place and quaternion, without a lens",
    "KITTI": "A line for each picture with its matrix, without times and lens",
    "COLMAP": "A folder with cameras.txt and images.txt",
    "CHAN": "A line for each frame with place, angles and field of view: Nuke, and Blender's own add-on",
}
_KINDS = [(kind, one.label, _ABOUT[kind]) for kind, one in FORMATS.items()]
_GLOB = "*.npy;*.json;*.txt;*.tum;*.kitti;*.chan"


class SANAWM_OT_import_camera(ImportHelper, Operator):
    bl_idname = "sanawm.import_camera"
    bl_label = "Import Camera Path"
    bl_description = "A new camera that moves as another program's file says; the shot films with it"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default=_GLOB, options={"HIDDEN"})
    format: EnumProperty(
        name="Format",
        items=[("AUTO", "By Name and Content", "Look at the file's name and first lines"), *_KINDS],
    )
    fps: FloatProperty(
        name="Frame Rate",
        description="Cameras a second, for files without times: SANA-WM, transforms.json, KITTI, COLMAP, chan",
        default=FPS, min=1.0, max=240.0,
    )  # fmt: skip
    lens_mm: FloatProperty(
        name="Lens",
        description="Focal length in mm on a 36 mm wide sensor, for files without a lens: TUM, KITTI",
        default=50.0, min=1.0, max=1000.0,
    )  # fmt: skip

    def execute(self, context: Context) -> set[str]:
        try:
            filming, differences = camera_exchange.import_camera(
                context, Path(self.filepath), self.format, self.fps, self.lens_mm
            )
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        start, end = shot_settings(context.scene).range_of(context.scene)
        self.report({"INFO"}, f"{filming.name} films the shot, frames {start} to {end}")
        for sentence in differences:
            self.report({"WARNING"}, sentence)
        return {"FINISHED"}


class SANAWM_OT_export_camera(ExportHelper, Operator):
    bl_idname = "sanawm.export_camera"
    bl_label = "Export Camera Path"
    bl_description = "Write the shot's camera at 16 samples a second, as its clip will show it"
    bl_options = {"INTERNAL"}

    filename_ext = ".npy"
    check_extension = None  # the chosen format says it
    filter_glob: StringProperty(default=_GLOB, options={"HIDDEN"})
    format: EnumProperty(name="Format", items=_KINDS)

    def check(self, _context: Context) -> bool:
        wanted = str(camera_exchange.file_name(Path(self.filepath), self.format))
        changed, self.filepath = wanted != self.filepath, wanted
        return changed

    def invoke(self, context: Context, event: Event) -> set[str]:
        self.filepath = f"{shot_settings(context.scene).code}{FORMATS[self.format].suffix}"
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Context) -> set[str]:
        try:
            written, count = camera_exchange.export_camera(context, Path(self.filepath), self.format)
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"{count} samples written to {written.name}")
        return {"FINISHED"}


class SANAWM_OT_camera_from_actions(Operator):
    bl_idname = "sanawm.camera_from_actions"
    bl_label = "Camera from Action String"
    bl_description = "A new camera that SANA-WM's own controls move; the shot films with it"
    bl_options = {"REGISTER", "UNDO"}

    actions: StringProperty(
        name="Actions",
        description='Keys and how many frames of 1/16 s they are held, such as "w-32,wd-16,none-16". '
        "w s: ahead, back; a d: turn left, right; i k: tilt up, down; j l: step left, right",
        default="w-32,wd-32,none-16",
    )
    start: EnumProperty(
        name="Start",
        items=(
            ("CAMERA", "Camera", "Where the shot's camera stands at its first frame, with its lens"),
            ("CURSOR", "3D Cursor", "At the 3D cursor, looking along its y axis"),
        ),
    )
    old_keys: BoolProperty(
        name="First Release's Keys",
        description="a d step aside and j l turn, all twice as fast and at once, as in SANA-WM's first release",
    )

    def invoke(self, context: Context, _event: Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self, width=420)

    def draw(self, _context: Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "actions")
        try:
            layout.label(text=f"{camera_exchange.action_seconds(self.actions):.2f} s", icon="TIME")
        except ProtocolError as error:
            layout.label(text=str(error), icon="ERROR")
        layout.row().prop(self, "start", expand=True)
        layout.prop(self, "old_keys")

    def execute(self, context: Context) -> set[str]:
        try:
            filming = camera_exchange.camera_from_actions(
                context, self.actions, self.old_keys, self.start == "CURSOR"
            )
        except ProtocolError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"{filming.name} films the shot")
        return {"FINISHED"}

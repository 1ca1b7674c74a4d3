# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs to this machine: the backend and where clips go."""

from __future__ import annotations

import bpy
from bpy.props import EnumProperty, StringProperty
from bpy.types import AddonPreferences, Context, UILayout

from ..backend.protocol import ProtocolError
from . import paths, session
from .backend_process import find_backend
from .compat import BLEND_RELATIVE
from .panels.parts import draw_online_access
from .panels.weights import draw_weights
from .properties import presets


def _renew_workers(_preferences: AddonPreferences, _context: Context) -> None:
    """A worker that runs was started with the folder of before."""
    session.supervisor.renew_workers()


class SANAWM_AP_preferences(AddonPreferences):
    bl_idname = paths.ROOT_PACKAGE

    backend_folder: StringProperty(
        name="Backend Folder",
        description=(
            "Where the backend is, or will be set up. Empty: Blender's own folder for the extension's data. "
            "A virtual environment that has the backend's packages will do as well"
        ),
        subtype="DIR_PATH",
        update=_renew_workers,
    )
    device: EnumProperty(
        name="Device",
        description="What the backend computes on",
        items=(
            ("auto", "Automatic", "CUDA where there is an NVIDIA driver, otherwise the CPU"),
            ("cuda", "CUDA", "An NVIDIA graphics card"),
            ("cpu", "CPU", "The processor; needs a quarter of the disk space"),
        ),
    )
    output_folder: StringProperty(
        name="Output Folder",
        description="Where jobs and clips go; // is the folder of the .blend file",
        default="//sanawm/",
        subtype="DIR_PATH",
        options=BLEND_RELATIVE,
    )

    weights_folder: StringProperty(
        name="Weights Folder",
        description=(
            "Where the weights of SANA-WM are, or will be downloaded to. Empty: Blender's own folder for the "
            "extension's data. A copy of the releases will do as well"
        ),
        subtype="DIR_PATH",
        update=_renew_workers,
    )
    weights_preset: EnumProperty(
        name="For Preset",
        description="Whose weights are shown and downloaded",
        items=[
            (stem, preset.name, preset.description)
            for stem, preset in presets().items()
            if preset.model == "sana_wm"
        ],
    )

    def draw(self, context: Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(self, "output_folder")
        if not bpy.data.filepath:
            layout.label(text="This file is not saved yet, so it has no folder for clips", icon="INFO")
        layout.separator()
        layout.prop(self, "backend_folder")
        _draw_backend(layout, self)
        layout.separator()
        draw_weights(layout, context, self)


def _draw_backend(layout: UILayout, settings: SANAWM_AP_preferences) -> None:
    if session.is_setting_up():
        layout.progress(factor=session.setup.fraction, text=session.setup.message)
        layout.operator("sanawm.cancel_set_up", icon="CANCEL")
        return
    try:
        ready = find_backend(paths.backend_folder()).summary
    except ProtocolError as error:
        layout.label(text=str(error), icon="INFO")
        verb = "Set Up Backend"
    else:
        layout.label(text=f"The backend is ready: {ready}", icon="CHECKMARK")
        verb = "Repair Backend"
    if session.setup is not None and session.setup.outcome != "done":
        layout.label(text=session.setup.message, icon="ERROR")
    layout.prop(settings, "device")
    draw_online_access(layout)
    row = layout.row()
    row.operator("sanawm.set_up_backend", text=verb)
    if session.setup is not None:
        row.operator("sanawm.open_set_up_log", icon="TEXT")


def register() -> None:
    bpy.utils.register_class(SANAWM_AP_preferences)


def unregister() -> None:
    bpy.utils.unregister_class(SANAWM_AP_preferences)

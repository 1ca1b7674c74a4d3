# SPDX-License-Identifier: GPL-3.0-or-later
"""What a panel draws, without a window."""

from types import SimpleNamespace

import bpy


class RecordingLayout:
    """Stands in for UILayout: refuses what Blender would not find, and keeps every text that is shown."""

    def __init__(self, shown=None):
        self.shown = [] if shown is None else shown

    def _part(self, **_options):
        return RecordingLayout(self.shown)

    row = column = box = split = grid_flow = _part

    def prop(self, data, name, **options):
        self.shown.append(options.get("text") or data.bl_rna.properties[name].name)

    textbox = prop

    def operator(self, name, text=None, **_options):
        operator = getattr(bpy.ops, name.partition(".")[0])
        label = getattr(operator, name.partition(".")[2]).get_rna_type().name
        self.shown.append(label if text is None else text)
        return SimpleNamespace()

    def operator_menu_enum(self, name, property, text=None, **_options):
        operator = getattr(bpy.ops, name.partition(".")[0])
        kind = getattr(operator, name.partition(".")[2]).get_rna_type()
        assert property in kind.properties
        self.shown.append(kind.name if text is None else text)

    def label(self, text="", **_options):
        self.shown.append(text)

    def progress(self, factor=0.0, text="", type="BAR"):
        assert 0 <= factor <= 1
        self.shown.append(text)

    def menu(self, name, text=None, **_options):
        self.shown.append(getattr(bpy.types, name).bl_label if text is None else text)

    def template_list(self, _kind, _id, data, name, active_data, active_name, **_options):
        assert name in data.bl_rna.properties and active_name in active_data.bl_rna.properties

    def panel(self, _idname, default_closed=False):
        return self._part(), self._part()

    def template_icon(self, icon_value, scale=1.0):
        assert icon_value > 0

    def separator(self, **_options):
        pass

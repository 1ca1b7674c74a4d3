# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside the Blender that is tested: executes what is put beside it, in Blender's main loop.

Started with `--python`. A file `ask.py` is run and removed; what it prints, and an error if there is one, comes
back as `answer.json`. The functions here are for the code that is asked.
"""

import contextlib
import importlib
import io
import json
import os
import traceback
from pathlib import Path

import bpy
from bpy_extras.view3d_utils import location_3d_to_region_2d

FOLDER = Path(__file__).resolve().parent
EXTENSION = "bl_ext.user_default.sana_wm"
TAB = "SANA-WM"


def addon(name):
    """A module of the installed add-on, such as "camera"."""
    return importlib.import_module(f"{EXTENSION}.blender_addon.{name}")


def window():
    return bpy.context.window_manager.windows[0]


def window_of(kind):
    """The window that has an editor of this kind; the preferences have one of their own."""
    windows = bpy.context.window_manager.windows
    return next(w for w in windows if any(a.type == kind for a in w.screen.areas))


def area(kind):
    """The largest editor of a kind."""
    return max((a for a in window_of(kind).screen.areas if a.type == kind), key=lambda a: a.width * a.height)


def region(kind, part="WINDOW"):
    return next(r for r in area(kind).regions if r.type == part)


def inside(kind):
    """The context of an editor, for operators."""
    return bpy.context.temp_override(window=window_of(kind), area=area(kind), region=region(kind))


def show_editor(kind):
    """In the largest area, whatever it shows now."""
    max(window().screen.areas, key=lambda a: a.width * a.height).type = kind


def show_tab(kind):
    """Our tab in an editor's sidebar; False until the sidebar has been drawn once."""
    area(kind).spaces.active.show_region_ui = True
    try:
        region(kind, "UI").active_panel_category = TAB
    except (AttributeError, TypeError):
        return False
    return region(kind, "UI").active_panel_category == TAB


def job():
    """The scene's latest."""
    return addon("session").latest_job(bpy.context.scene)


def takes():
    return addon("takes").all_takes(bpy.context.scene)


def clip_box():
    """Left, bottom, right and top of the scene's clip in the window, through its camera: FIT in its frame."""
    scene, view, place = bpy.context.scene, area("VIEW_3D").spaces.active.region_3d, region("VIEW_3D")
    matrix, frame = scene.camera.matrix_world, scene.camera.data.view_frame(scene=scene)
    corners = [location_3d_to_region_2d(place, view, matrix @ corner) for corner in frame]
    (left, right), (bottom, top) = ((min(edge), max(edge)) for edge in zip(*corners, strict=True))
    width, height = job().folder.clip().image_size
    scale = min((right - left) / width, (top - bottom) / height)
    x, y = place.x + (left + right) / 2, place.y + (bottom + top) / 2
    half = scale * width / 2, scale * height / 2
    return [x - half[0], y - half[1], x + half[0], y + half[1]]


def under_mouse(kind, part="UI"):
    """What the button under the mouse runs, as Blender writes it, or an empty text."""
    over = bpy.context.temp_override(window=window_of(kind), area=area(kind), region=region(kind, part))
    with over:
        if not bpy.ops.ui.copy_python_command_button.poll():
            return ""
        bpy.ops.ui.copy_python_command_button()
    return bpy.context.window_manager.clipboard.removeprefix("bpy.ops.")


def answer():
    ask = FOLDER / "ask.py"
    if ask.exists():
        code, said, error = ask.read_text("utf-8"), io.StringIO(), ""
        ask.unlink()
        with contextlib.redirect_stdout(said):
            try:
                exec(compile(code, "ask.py", "exec"), globals())
            except BaseException:
                error = traceback.format_exc()
        partial = FOLDER / "answer.part"
        partial.write_text(json.dumps({"said": said.getvalue(), "error": error}), "utf-8")
        os.replace(partial, FOLDER / "answer.json")
    return 0.05


bpy.app.timers.register(answer, persistent=True)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person does on the first day, step by step, each with what must be true afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .chroot import UiTestError
from .window import Window

EXTENSION = "bl_ext.user_default.sana_wm"
_FILM = "/ui-test/film.blend"
# Names for the questions that follow.
_NAMES = f"""
import importlib
addon = lambda name: importlib.import_module("{EXTENSION}.blender_addon." + name)
window = bpy.context.window_manager.windows[0]
def area(kind):
    return max((a for a in window.screen.areas if a.type == kind), key=lambda a: a.width * a.height)
def region(kind, part):
    return next(r for r in area(kind).regions if r.type == part)
def tab(kind):
    area(kind).spaces.active.show_region_ui = True
    region(kind, "UI").active_panel_category = "SANA-WM"
def job():
    return addon("session").latest_job(bpy.context.scene)
def takes():
    return addon("takes").all_takes(bpy.context.scene)
"""

Step = tuple[str, Callable[[Window], str]]


def steps(archive: Path, backend: Path) -> Iterator[Step]:
    """Each step's name, and the function that does it and says what was seen."""
    yield "install", lambda w: _install(w, archive)
    yield "demo_scene", lambda w: _demo_scene(w, backend)
    yield "generate", _generate
    yield "cancel", _cancel
    yield "generate_again", _generate_again
    yield "overlay", _overlay
    yield "wipe", _wipe
    yield "wipe_dragged", _drag_wipe
    yield "flipped", _flip
    yield "edges", _edges
    yield "camera_path", _camera_path
    yield "camera_check", _camera_check
    yield "batch", _batch
    yield "sequencer", _sequencer
    yield "difference", _difference


def install(window: Window, archive: Path) -> None:
    """With Blender's own command, before the window opens."""
    target = window.folder / archive.name
    target.write_bytes(archive.read_bytes())
    window.run(
        "blender", "--command", "extension", "install-file", "-r", "user_default", "--enable",
        f"/ui-test/{archive.name}",
    )  # fmt: skip


def _install(window: Window, archive: Path) -> str:
    window.python(_NAMES)
    version = window.python("print(bpy.app.version_string)")
    if window.python(f"print('{EXTENSION}' in bpy.context.preferences.addons)") != "True":
        raise UiTestError("The extension is not enabled.")
    window.python("area('VIEW_3D').spaces.active.show_region_ui = True")
    time.sleep(1)
    window.python("tab('VIEW_3D')")
    return f"{archive.name} in Blender {version}"


def _demo_scene(window: Window, backend: Path) -> str:
    window.python(
        f"bpy.context.preferences.addons['{EXTENSION}'].preferences.backend_folder = {str(backend)!r}\n"
        # The whole window for one viewport: panels and buttons stay where they are looked for.
        "with bpy.context.temp_override(window=window, area=area('VIEW_3D')):\n"
        "    bpy.ops.screen.screen_full_area(use_hide_panels=False)"
    )
    window.python(
        "with bpy.context.temp_override(window=window, area=area('VIEW_3D'), region=region('VIEW_3D', 'WINDOW')):\n"
        "    bpy.ops.sanawm.add_demo_scene()\n"
        "s = bpy.context.scene; s.sana_wm.preset = 'embedded_draft'\n"
        "s.sana_wm.range_source = 'CUSTOM'; s.sana_wm.frame_end = 1 + 10 * s.render.fps\n"
        f"bpy.ops.wm.save_as_mainfile(filepath='{_FILM}')"
    )
    window.python("tab('VIEW_3D'); area('VIEW_3D').spaces.active.region_3d.view_perspective = 'CAMERA'")
    return window.python("print(bpy.context.scene.name, 'saved')")


def _generate(window: Window) -> str:
    window.press("SANAWM_OT_generate")
    window.wait_for("job() is not None and job().is_active")
    window.wait_for("job().frames_made > 0")
    return window.python("print(job().name, job().stage, job().frames_made, 'frames so far')")


def _cancel(window: Window) -> str:
    window.press("SANAWM_OT_cancel")
    window.wait_for("job().record.state == 'cancelled'")
    return window.python("print(job().name, job().record.state)")


def _generate_again(window: Window) -> str:
    window.python("s = bpy.context.scene; s.sana_wm.frame_end = 1 + 3 * s.render.fps")
    window.press("SANAWM_OT_generate")
    window.wait_for("job() is not None and job().is_active")
    window.python("bpy.context.window_manager.sana_wm_view.is_live = True")
    window.wait_for("job().frames_made > 0")
    window.picture("05_live")
    window.wait_for("job().is_placed", patience_s=300)
    window.python("bpy.context.window_manager.sana_wm_view.is_live = False")
    return window.python(
        "print(takes()[-1].name, 'placed:', addon('verdicts').match_of(job().folder).in_words())"
    )


def _overlay(window: Window) -> str:
    window.python("[addon('compare.overlay').hide_overlay(c) for c in bpy.data.cameras]")
    window.press("SANAWM_OT_overlay")
    window.wait_for("addon('compare.overlay').shown_overlay(bpy.context.scene) is not None")
    window.python("bpy.context.scene.frame_set(30)")
    return "clip over the blockout at frame 30"


def _wipe(window: Window) -> str:
    window.python("[addon('compare.overlay').hide_overlay(c) for c in bpy.data.cameras]")
    window.press("SANAWM_OT_wipe")
    window.wait_for("addon('compare.wipe').active is not None")
    return "line at one half"


def _drag_wipe(window: Window) -> str:
    start, end = (_on_line(window, share) for share in (0.5, 0.25))
    window.drag(start, end)
    split = float(window.python("print(addon('compare.wipe').active.split)"))
    if abs(split - 0.25) > 0.03:
        raise UiTestError(f"The line was dragged to a quarter and stands at {split:.2f}.")
    return f"line dragged to {split:.2f}"


def _flip(window: Window) -> str:
    window.xdotool("mousemove", *_on_line(window, 0.7))
    window.xdotool("keydown", "f")
    window.wait_for("addon('compare.wipe').active.is_flipped")
    window.picture("08_flip_held")
    window.xdotool("keyup", "f")
    window.wait_for("not addon('compare.wipe').active.is_flipped")
    window.xdotool("key", "Escape")
    window.wait_for("addon('compare.wipe').active is None")
    return "whole clip while F is held; Esc ends the wipe"


def _on_line(window: Window, share: float) -> tuple[int, int]:
    """The point of the wipe at a share of the clip's width, on the screen."""
    said = window.python(
        "w = addon('compare.wipe'); r = region('VIEW_3D', 'WINDOW')\n"
        "box = w.rectangle_in(r, area('VIEW_3D').spaces.active.region_3d, w.active)\n"
        f"print(int(r.x + box.at({share})), int(window.height - r.y - (box.bottom + box.top) / 2 - 40))"
    )
    x, y = map(int, said.split())
    return x, y


def _edges(window: Window) -> str:
    window.press("SANAWM_OT_wireframe")
    window.wait_for("area('VIEW_3D').spaces.active.shading.type == 'WIREFRAME'")
    window.picture("10_edges_on")
    window.press("SANAWM_OT_wireframe")
    window.wait_for("area('VIEW_3D').spaces.active.shading.type != 'WIREFRAME'")
    return "edges over the clip, and the shading of before"


def _camera_path(window: Window) -> str:
    window.python(
        "with bpy.context.temp_override(window=window, area=area('VIEW_3D'), region=region('VIEW_3D', 'WINDOW')):\n"
        "    bpy.ops.sanawm.match_path()\n"
        "v = area('VIEW_3D').spaces.active.region_3d; v.view_perspective = 'PERSP'\n"
        "import mathutils\n"
        "v.view_rotation = mathutils.Euler((0.9, 0, 0.9)).to_quaternion(); v.view_distance = 30\n"
        "v.view_location = bpy.context.scene.camera.matrix_world.translation"
    )
    return "planned path and the clip's"


def _camera_check(window: Window) -> str:
    window.python("bpy.ops.sanawm.check_shot(); bpy.context.window_manager.sana_wm_shows_check = True")
    return window.python("r = addon('camera_check').current(bpy.context.scene); print(r is not None)")


def _batch(window: Window) -> str:
    window.python(
        "area('VIEW_3D').spaces.active.region_3d.view_perspective = 'CAMERA'\n"
        "s = bpy.context.scene; s.sana_wm.preset = 'preview'; s.sana_wm.code = '020_0010'\n"
        "s.sana_wm.frame_end = 1 + s.render.fps\n"
        "for _ in range(3): bpy.ops.sanawm.add_shot()\n"
        "for i, shot in enumerate(s.sana_wm_shots):\n"
        "    shot.frame_start, shot.frame_end = 1 + 24 * i, 25 + 24 * i\n"
    )
    window.python("bpy.ops.sanawm.generate_shots(which='ALL')")
    window.picture("13_batch_queued")
    window.wait_for(
        "all((j := addon('session').supervisor.latest(bpy.context.scene.session_uid, shot.code)) and j.is_placed "
        "for shot in bpy.context.scene.sana_wm_shots)",
        patience_s=400,
    )
    return window.python("print(', '.join(take.name for take in takes()))")


def _sequencer(window: Window) -> str:
    window.python(
        "with bpy.context.temp_override(window=window, area=area('VIEW_3D')): bpy.ops.screen.back_to_previous()\n"
        "area('VIEW_3D').type = 'SEQUENCE_EDITOR'\n"
    )
    window.python(
        "a = area('SEQUENCE_EDITOR'); a.spaces.active.view_type = 'SEQUENCER'; a.spaces.active.show_region_ui = True\n"
        "s = bpy.context.scene; s.sequence_editor.active_strip = takes()[0]\n"
        "if hasattr(bpy.context.workspace, 'sequencer_scene'): bpy.context.workspace.sequencer_scene = s"
    )
    time.sleep(1)
    window.python(
        "tab('SEQUENCE_EDITOR')\n"
        "with bpy.context.temp_override(window=window, area=area('SEQUENCE_EDITOR'), "
        "region=region('SEQUENCE_EDITOR', 'WINDOW')):\n"
        "    bpy.ops.sequencer.view_all()"
    )
    return "takes with their bands"


def _difference(window: Window) -> str:
    window.python(
        "a = area('SEQUENCE_EDITOR')\n"
        "with bpy.context.temp_override(window=window, area=a, region=region('SEQUENCE_EDITOR', 'WINDOW')):\n"
        "    bpy.ops.sanawm.compare_stack(blend='DIFFERENCE')\n"
        "a.spaces.active.view_type = 'SEQUENCER_PREVIEW'"
    )
    time.sleep(2)
    return window.python("print([s.name for s in bpy.data.scenes])")

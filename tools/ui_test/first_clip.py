# SPDX-License-Identifier: GPL-3.0-or-later
"""From the zip to the first clip: install, scene, camera check, generate, cancel, generate again, strip, match."""

from __future__ import annotations

from pathlib import Path

from .buttons import Buttons
from .chroot import FOLDER, UiTestError
from .window import Window

FILM = FOLDER / "film.blend"
_CLIP_S = 3


def install(window: Window, archive: Path) -> str:
    """With Blender's own command, before its window opens."""
    (window.folder / archive.name).write_bytes(archive.read_bytes())
    command = ["blender", "--command", "extension", "install-file", "-r", "user_default", "--enable"]
    window.run(*command, FOLDER / archive.name)
    no_splash = "import bpy; bpy.context.preferences.view.show_splash = False; bpy.ops.wm.save_userpref()"
    window.run("blender", "--background", "--python-expr", no_splash)
    window.open()
    if not window.ask("EXTENSION in bpy.context.preferences.addons"):
        raise UiTestError("The extension is not enabled.")
    fill_window(window)
    return f"{archive.name} in Blender {window.ask('bpy.app.version_string')}"


def fill_window(window: Window) -> None:
    """With one editor, the viewport."""
    if window.ask("len(window().screen.areas)") > 1:
        window.python("with inside('VIEW_3D'): bpy.ops.screen.screen_full_area(use_hide_panels=False)")
    show_viewport(window)


def show_viewport(window: Window) -> None:
    """With our tab."""
    window.python("show_editor('VIEW_3D')")
    window.wait_for("show_tab('VIEW_3D')")


def demo_scene(window: Window, backend: Path) -> str:
    """And the backend's folder, the quickest preset of the model, and a saved file."""
    window.python(
        f"bpy.context.preferences.addons[EXTENSION].preferences.backend_folder = {str(backend)!r}\n"
        "with inside('VIEW_3D'): bpy.ops.sanawm.add_demo_scene()\n"
        "bpy.context.scene.sana_wm.preset = 'embedded_draft'\n"
        "look = area('VIEW_3D').spaces.active\n"
        "look.region_3d.view_perspective, look.region_3d.view_camera_zoom = 'CAMERA', 8\n"
        "look.region_3d.view_camera_offset = 0.08, 0\n"
        f"bpy.ops.wm.save_as_mainfile(filepath={str(FILM)!r}); bpy.ops.wm.save_userpref()"
    )
    obstacle = window.ask("addon('shots').backend_obstacle()")
    if obstacle:
        raise UiTestError(f"The backend cannot be used: {obstacle}")
    return f"{window.ask('bpy.context.scene.name')}, saved; the backend is ready"


def check_camera(window: Window) -> str:
    Buttons(window).press("sanawm.check_shot()")
    window.wait_for("addon('camera_check').current(bpy.context.scene) is not None")
    numbers = window.ask("[n.words for n in addon('camera_check').current(bpy.context.scene).check.judged()]")
    return "; ".join(numbers)


def generate(window: Window) -> str:
    Buttons(window).press("sanawm.generate()")
    window.wait_for("job() is not None and job().is_active")
    window.wait_for("job().frames_made > 0")
    return window.ask("f'{job().name} at {job().frames_made} of {job().frames_in_all} frames'")


def cancel(window: Window) -> str:
    Buttons(window).press("sanawm.cancel()")
    window.wait_for("job().record.state == 'cancelled'")
    return window.ask("f'{job().name} {job().record.state}, {len(takes())} strips'")


def generate_again(window: Window) -> str:
    """A short one, watched live."""
    window.python(
        "scene = bpy.context.scene; mine = scene.sana_wm; mine.range_source = 'CUSTOM'\n"
        f"mine.frame_start, mine.frame_end = 1, {_CLIP_S} * scene.render.fps + 1"
    )
    Buttons(window).press("sanawm.generate()")
    window.wait_for("job().is_active")
    window.python("bpy.context.window_manager.sana_wm_view.is_live = True")
    window.wait_for("job().frames_made > 0 or job().is_done")
    Buttons(window).scroll("down")
    window.mouse_away()
    window.picture("live")
    window.wait_for("job().is_placed", patience_s=300)
    window.python(
        "bpy.context.window_manager.sana_wm_view.is_live = False\n"
        "[addon('compare.overlay').hide_overlay(camera) for camera in bpy.data.cameras]"
    )
    return window.ask("f'{job().name}: {job().record.reason}'")


def strip(window: Window) -> str:
    """As long as its shot, in a sequencer that the window shows instead of the viewport."""
    show_sequencer(window)
    placed = window.ask(
        "[[t.name, *addon('compat').strip_extent(t), bpy.context.scene.render.fps] for t in takes()]"
    )
    if len(placed) != 1:
        raise UiTestError(f"One take was expected in the sequencer, there are {len(placed)}.")
    name, start, end, fps = placed[0]
    if start != 1 or abs((end - start) / fps - _CLIP_S) > 0.1:
        raise UiTestError(f"{name} lies from {start} to {end}, which is not the shot's range.")
    return f"{name} from frame {start:.0f} to {end:.0f}"


def show_sequencer(window: Window) -> None:
    """All its strips and our tab, with the last take active."""
    window.python("show_editor('SEQUENCE_EDITOR')")
    window.python(
        "area('SEQUENCE_EDITOR').spaces.active.view_type = 'SEQUENCER'\n"
        "bpy.context.scene.sequence_editor.active_strip = takes()[-1]\n"
        "addon('compat').look_at_in_sequencer(bpy.context, bpy.context.scene)"
    )
    window.wait_for("show_tab('SEQUENCE_EDITOR')")
    window.python("with inside('SEQUENCE_EDITOR'): bpy.ops.sequencer.view_all()")


def match(window: Window) -> str:
    """In words, and as a path beside the planned one, seen from the side."""
    show_viewport(window)
    buttons = Buttons(window)
    buttons.press("sanawm.match_path()")
    window.wait_for("addon('compare.match_path').is_shown_of(job().folder)")
    window.python(
        "from mathutils import Euler\n"
        "view = area('VIEW_3D').spaces.active.region_3d; view.view_perspective = 'PERSP'\n"
        "view.view_rotation, view.view_distance = Euler((1.0, 0, 0.7)).to_quaternion(), 7\n"
        "view.view_location = bpy.context.scene.camera.matrix_world.translation"
    )
    buttons.scroll("down")
    window.mouse_away()
    window.picture()
    window.python(
        "view.view_perspective = 'CAMERA'; addon('compare.match_path').hide_match_path()\n"
        "bpy.context.window_manager.sana_wm_shows_check = False"
    )
    return window.ask("addon('verdicts').sentence(addon('verdicts').match_of(job().folder))")

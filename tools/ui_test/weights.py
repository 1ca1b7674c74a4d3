# SPDX-License-Identifier: GPL-3.0-or-later
"""The released model in the preferences: what is missing, a folder that has it, its terms; its memory plan."""

from __future__ import annotations

from tests.miniature_release import write_release

from . import first_clip
from .buttons import Buttons
from .chroot import FOLDER, UiTestError
from .window import Window

_RELEASE = FOLDER / "weights"
_SETTINGS = "bpy.context.preferences.addons[EXTENSION].preferences"


def show_preferences(window: Window) -> str:
    """Ours alone in the list, unfolded, with an empty weights folder."""
    (window.folder / "no_weights").mkdir()
    window.python(
        f"{_SETTINGS}.weights_folder = {str(FOLDER / 'no_weights')!r}\n"
        f"{_SETTINGS}.weights_preset = 'sana_wm_draft'\n"
        "show_editor('PREFERENCES')\n"
        "bpy.context.preferences.active_section = 'ADDONS'\n"
        "bpy.context.window_manager.addon_search = 'SANA'\n"
        "import addon_utils\n"
        "addon_utils.modules(refresh=False)\n"
        "with inside('PREFERENCES'): bpy.ops.preferences.addon_expand(module=EXTENSION)\n"
    )
    window.mouse_away()
    window.picture("empty")
    scroll(window, "bottom")
    window.picture("empty_below")
    parts = window.ask("len(addon('operators.weights').chosen_components())")
    return f"{parts} parts are missing"


def chosen_folder(window: Window) -> str:
    """A copy of the release: accepted and checked, but for the student, which has to be converted."""
    write_release(window.folder / "weights")
    window.python(f"{_SETTINGS}.weights_folder = {str(_RELEASE)!r}")
    scroll(window, "top")
    window.picture("found")
    for licence in ("sana_wm", "ltx2", "gemma"):
        window.python(f"bpy.ops.sanawm.accept_licence(licence={licence!r})")
    scroll(window, "bottom")
    window.picture("accepted")
    window.python("bpy.ops.sanawm.convert_weights()")
    window.wait_for("not addon('session').is_on_weights_errand()")
    outcome = window.ask("addon('session').weights_errand.outcome")
    if outcome != "done":
        raise UiTestError(window.ask("addon('session').weights_errand.message"))
    window.picture("converted")
    return window.ask("addon('session').weights_errand.message")


def memory_plan(window: Window) -> str:
    """What the camera check says of a released preset."""
    first_clip.show_viewport(window)
    window.python("bpy.context.scene.sana_wm.preset = 'sana_wm_draft'")
    Buttons(window).press("sanawm.check_shot()")
    window.wait_for("addon('camera_check').current(bpy.context.scene) is not None")
    window.python("bpy.context.scene.sana_wm.preset = 'sana_wm_draft'")
    window.mouse_away()
    window.picture()
    window.python("bpy.context.scene.sana_wm.preset = 'embedded_draft'")
    return window.ask("addon('shots').weights_obstacle(bpy.context.scene.sana_wm) or 'the weights are ready'")


def scroll(window: Window, edge: str) -> None:
    """The preferences, to their top or bottom."""
    lines = "down" if edge == "bottom" else "up"
    window.python(
        f"with inside('PREFERENCES'):\n    for _ in range(40): bpy.ops.view2d.scroll_{lines}(deltay=200)"
    )

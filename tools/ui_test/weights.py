# SPDX-License-Identifier: GPL-3.0-or-later
"""SANA-WM's weights in a real preferences window, on a miniature of the releases, and the memory table in the panel."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from .buttons import Buttons
from .chroot import FOLDER, UiTestError
from .window import SCREEN, Window

_RELEASE = FOLDER / "weights"
_SETTINGS = "bpy.context.preferences.addons[EXTENSION].preferences"
_WIDTH_PX = 875  # of Blender's own choice; the height shows the whole section
_CARDS = {"card": ("NVIDIA H100 80GB HBM3", 85.0), "small_card": ("NVIDIA GeForce RTX 3050", 4.0)}


def show_preferences(window: Window) -> str:
    """From the sentence in the panel to the preferences, by the button below it; nothing can be downloaded yet."""
    window.python("bpy.context.scene.sana_wm.preset = 'sana_wm_final'")
    window.redraw()
    Buttons(window).press("sanawm.show_weights()")
    window.wait_for("len(bpy.context.window_manager.windows) == 2")
    size = ["windowsize", _WIDTH_PX, SCREEN[1] - 20, "windowmove", 0, 20]
    window.run("xdotool", "search", "--name", "Preferences", *size)
    time.sleep(1)
    _expect(window, "not bpy.ops.sanawm.download_weights.poll()", "Blender is offline, yet Download works.")
    window.picture()
    parts = window.ask("len(addon('operators.weights').chosen_components())")
    return f"{parts} parts are missing, and nothing can be downloaded while offline"


def chosen_folder(window: Window) -> str:
    """A copy of the releases with a part missing and one begun: terms read and accepted, the student converted."""
    _write_release(window.folder / _RELEASE.name)
    window.python(f"{_SETTINGS}.weights_folder = {str(_RELEASE)!r}")
    window.picture("found")
    buttons = Buttons(window, "PREFERENCES", "WINDOW")
    window.click(*buttons.find('sanawm.accept_licence(licence="ltx2")'))
    window.picture("terms")
    window.key("Return")
    window.wait_for("addon('panels.weights').is_accepted(addon('weights').folder(), 'ltx2')")
    window.python("for id in ('sana_wm', 'gemma'): bpy.ops.sanawm.accept_licence(licence=id)")
    window.python("bpy.context.preferences.system.use_online_access = True")
    _expect(
        window, "bpy.ops.sanawm.download_weights.poll()", "Blender is online, yet Download does not work."
    )
    window.picture("online")
    window.python(
        "bpy.context.preferences.system.use_online_access = False\n"
        f"{_SETTINGS}.weights_preset = bpy.context.scene.sana_wm.preset = 'sana_wm_draft'"
    )
    window.picture("unconverted")
    buttons.press("sanawm.convert_weights()")
    window.wait_for("addon('session').weights_errand is not None")
    window.wait_for("not addon('session').is_on_weights_errand()")
    window.picture("converted")
    said = window.ask("addon('session').weights_errand.message")
    _expect(window, "not addon('shots').weights_obstacle(bpy.context.scene.sana_wm)", said)
    window.python(
        "with bpy.context.temp_override(window=window_of('PREFERENCES')): bpy.ops.wm.window_close()"
    )
    return said


def memory_plan(window: Window) -> str:
    """The camera check of a released preset: on the CPU that is here, and on a large and a small card that are not."""
    Buttons(window).press("sanawm.check_shot()")
    window.wait_for("addon('camera_check').current(bpy.context.scene) is not None")
    window.picture("cpu")
    backend = window.ask(f"{_SETTINGS}.backend_folder")
    pointer = json.loads((Path(backend) / "current.json").read_text("utf-8"))
    for name, (card, gb) in _CARDS.items():
        folder = FOLDER / name
        (window.folder / name).mkdir()
        said = {**pointer, "device": "cuda", "gpu": {"name": card, "gb": gb}}
        (window.folder / name / "current.json").write_text(json.dumps(said), "utf-8")
        window.python(f"{_SETTINGS}.backend_folder = {str(folder)!r}")
        window.picture(name)
    window.python(
        f"{_SETTINGS}.backend_folder = {backend!r}\nbpy.context.scene.sana_wm.preset = 'embedded_draft'"
    )
    return "on the CPU and on two cards"


def _write_release(folder: Path) -> None:
    # Loading it takes seconds, which the other steps need not wait for.
    from tests.miniature_release import write_release

    write_release(folder)
    shutil.rmtree(folder / "SANA-WM_bidirectional" / "vae")
    shutil.rmtree(folder / "SANA-WM_bidirectional" / "refiner" / "connectors")
    (folder / "connectors").mkdir()
    (folder / "connectors" / "config.json.0123456789ab.partial").touch()


def _expect(window: Window, expression: str, otherwise: str) -> None:
    if not window.ask(f"bool({expression})"):
        raise UiTestError(otherwise)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The clip over the blockout: overlay, wipe, edges, difference. What is said to show is looked for in the pixels."""

from __future__ import annotations

import numpy as np

from .buttons import Buttons
from .chroot import UiTestError
from .first_clip import show_sequencer, show_viewport
from .window import SCREEN, Window

_FRAME = 30
_FAR_PX = 8  # from an edge, so that neither the line nor the camera's frame counts
_SEEN = 12  # of 255


def overlay(window: Window) -> str:
    window.python(f"bpy.context.scene.frame_set({_FRAME})")
    bare = _clip_pixels(window)
    Buttons(window).press("sanawm.overlay()")
    window.wait_for("addon('compare.overlay').shown_overlay(bpy.context.scene) is not None")
    window.picture()
    changed = _changed(bare, _clip_pixels(window)).mean()
    Buttons(window).press("sanawm.overlay()")
    window.wait_for("addon('compare.overlay').shown_overlay(bpy.context.scene) is None")
    if changed < 0.05:
        raise UiTestError(f"The overlay is on, but only {changed:.0%} of the camera's frame have changed.")
    return f"frame {_FRAME} of the clip over the blockout, {changed:.0%} of it new"


def wipe(window: Window) -> str:
    Buttons(window).press("sanawm.wipe()")
    window.wait_for("addon('compare.wipe').active is not None")
    return "the line in the middle"


def drag_wipe(window: Window) -> str:
    """To a quarter; right of the line nothing but the blockout is left."""
    window.drag(_on_line(window, 0.5), _on_line(window, 0.25))
    window.mouse_away()
    split = window.ask("float(addon('compare.wipe').active.split)")
    if abs(split - 0.25) > 0.03:
        raise UiTestError(f"The line was dragged to a quarter and stands at {split:.2f}.")
    shown = _clip_pixels(window)
    window.python("addon('compare.wipe').active.split = 0.0")
    changed = _changed(_clip_pixels(window), shown).mean(0)
    window.python(f"addon('compare.wipe').active.split = {split}")
    edge = round(split * len(changed))
    clip, blockout = changed[_FAR_PX : edge - 2 * _FAR_PX].mean(), changed[edge + 2 * _FAR_PX :].mean()
    if clip < 0.05 or blockout > 0.01:
        raise UiTestError(f"{clip:.0%} of the clip's side and {blockout:.0%} of the blockout's are new.")
    return f"the line at {split:.2f}; left of it the clip, right of it the blockout"


def flip_wipe(window: Window) -> str:
    """The whole clip as long as F is held; Esc ends it."""
    window.mouse_to(*_on_line(window, 0.7))
    window.key("f", "keydown")
    window.wait_for("addon('compare.wipe').active.is_flipped")
    window.picture()
    window.key("f", "keyup")
    window.wait_for("not addon('compare.wipe').active.is_flipped")
    window.key("Escape")
    window.wait_for("addon('compare.wipe').active is None")
    return "the whole clip while F is held, nothing after Esc"


def edges(window: Window) -> str:
    Buttons(window).press("sanawm.wireframe()")
    window.wait_for("area('VIEW_3D').spaces.active.shading.type == 'WIREFRAME'")
    window.picture()
    Buttons(window).press("sanawm.wireframe()")
    window.wait_for("area('VIEW_3D').spaces.active.shading.type == 'SOLID'")
    window.python("[addon('compare.overlay').hide_overlay(camera) for camera in bpy.data.cameras]")
    return "the blockout's edges over the clip, then the shading of before"


def difference(window: Window) -> str:
    """In the sequencer, by the button of the active take, and back to the edit."""
    show_sequencer(window)
    buttons = Buttons(window, "SEQUENCE_EDITOR")
    buttons.press("sanawm.compare_stack(blend='DIFFERENCE')")
    window.wait_for("any('sana_wm_compares' in scene for scene in bpy.data.scenes)")
    window.python("area('SEQUENCE_EDITOR').spaces.active.view_type = 'SEQUENCER_PREVIEW'")
    window.picture()
    window.python("area('SEQUENCE_EDITOR').spaces.active.view_type = 'SEQUENCER'")
    buttons.press("sanawm.end_comparison()")
    window.wait_for("not any('sana_wm_compares' in scene for scene in bpy.data.scenes)")
    show_viewport(window)
    return "clip and blockout laid over each other, then the edit again"


def _on_line(window: Window, share: float) -> tuple[int, int]:
    """The point of the screen at a share of the clip's width, where no arrow and no button is."""
    left, top, right, bottom = _clip_box(window)
    return round(left + share * (right - left)), round(bottom - 0.4 * (bottom - top))


def _clip_box(window: Window) -> list[float]:
    """Left, top, right and bottom of the clip on the screen, through the camera."""
    left, bottom, right, top = window.ask("clip_box()")
    return [left, SCREEN[1] - top, right, SCREEN[1] - bottom]


def _clip_pixels(window: Window) -> np.ndarray:
    """(H, W, 3) of what the camera's frame shows now, the mouse elsewhere."""
    window.mouse_away()
    window.redraw()
    left, top, right, bottom = (round(edge) for edge in _clip_box(window))
    return window.pixels()[top:bottom, left:right].astype(int)


def _changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(H, W) bool."""
    return np.abs(after - before).max(2) > _SEEN

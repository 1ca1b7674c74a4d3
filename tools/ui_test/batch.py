# SPDX-License-Identifier: GPL-3.0-or-later
"""Three shots of a list in one batch; the end of the day, and the next morning."""

from __future__ import annotations

from .buttons import Buttons
from .chroot import UiTestError
from .first_clip import FILM, fill_window, show_sequencer, show_viewport
from .window import Window

_SHOTS = 3
_LATEST = (
    "[addon('session').supervisor.latest(bpy.context.scene.session_uid, shot.code) "
    "for shot in bpy.context.scene.sana_wm_shots]"
)


def shot_list(window: Window) -> str:
    """Filled by the plus button; one second each, one after the other."""
    buttons = Buttons(window)
    window.python("bpy.context.scene.sana_wm.preset = 'preview'")
    for _ in range(_SHOTS):
        buttons.press("sanawm.add_shot()")
    window.python(
        "scene = bpy.context.scene; second = scene.render.fps\n"
        "for place, shot in enumerate(scene.sana_wm_shots):\n"
        "    shot.range_source, shot.frame_start, shot.frame_end = "
        "'CUSTOM', 1 + place * second, 1 + (place + 1) * second"
    )
    codes = window.ask("[shot.code for shot in bpy.context.scene.sana_wm_shots]")
    if len(set(codes)) != _SHOTS:
        raise UiTestError(f"The list should have {_SHOTS} shots, it has {codes}.")
    return ", ".join(codes)


def generate_all(window: Window) -> str:
    buttons = Buttons(window)
    buttons.open_panels()
    buttons.press("sanawm.generate_shots(which='ALL')")
    window.wait_for(f"all(job is not None for job in {_LATEST})")
    buttons.scroll("down")
    window.mouse_away()
    return window.ask(f"', '.join(f'{{job.name}} {{job.record.state}}' for job in {_LATEST})")


def wait_for_all(window: Window) -> str:
    """Three new takes in the sequencer."""
    window.wait_for(f"all(job.is_settled for job in {_LATEST})", patience_s=300)
    troubles = window.ask(f"[job.trouble or job.record.reason for job in {_LATEST} if not job.is_placed]")
    if troubles:
        raise UiTestError(f"Not every clip was placed: {troubles}")
    show_sequencer(window)
    return f"in the sequencer: {', '.join(_takes(window))}"


def quit_blender(window: Window) -> str:
    """By its key, after saving."""
    show_viewport(window)
    window.picture()
    window.python("bpy.ops.wm.save_mainfile()")
    window.mouse_away()
    window.key("ctrl+q")
    status = window.wait_for_end()
    if status:
        raise UiTestError(f"Blender ended with status {status}.")
    return "saved; Blender ended with status 0"


def open_again(window: Window) -> str:
    """The list knows its clips, and nothing is made or placed a second time."""
    window.open(str(FILM))
    fill_window(window)
    window.wait_for(f"all(job is not None and job.is_placed for job in {_LATEST})")
    if len(_takes(window)) != _SHOTS + 1:
        raise UiTestError(f"{_SHOTS + 1} takes were expected in the sequencer: {_takes(window)}.")
    said = f"{_SHOTS} shots done, the same {_SHOTS + 1} takes"
    window.picture()
    window.python("bpy.app.timers.register(lambda: bpy.ops.wm.quit_blender() and None, first_interval=0.3)")
    window.wait_for_end()
    return said


def _takes(window: Window) -> list[str]:
    return window.ask("[take.name for take in takes()]")

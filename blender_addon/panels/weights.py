# SPDX-License-Identifier: GPL-3.0-or-later
"""The section of the preferences about the released model's weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from bpy.types import AddonPreferences, Context, UILayout

from ...backend.protocol import ProtocolError
from ...backend.protocol.weights_folder import find, state, unconverted
from ...backend.protocol.weights_licences import LICENCES, is_accepted
from ...backend.protocol.weights_registry import COMPONENTS, Component
from .. import session, weights
from ..operators.weights import chosen_components
from .parts import draw_online_access, draw_sentence

_STATE_ICONS = {"present": "CHECKMARK", "partial": "TEMP", "missing": "BLANK1"}


def draw_weights(layout: UILayout, context: Context, settings: AddonPreferences) -> None:
    """Folder and preset; what the preset needs, under whose terms; what can be done; what the machine can run."""
    layout.label(text="SANA-WM Weights")
    layout.prop(settings, "weights_folder")
    layout.prop(settings, "weights_preset")
    root = weights.folder()
    room = _room_in_words(root)
    words = room if settings.weights_folder else f"{root}: {room}"
    draw_sentence(layout, context, words, icon="FILE_FOLDER")
    try:
        _draw_contents(layout, context, root)
    except ProtocolError as error:
        draw_sentence(layout, context, str(error), icon="ERROR")
    _draw_machine(layout, context)


def _draw_machine(layout: UILayout, context: Context) -> None:
    check = session.machine_check
    if check is not None:
        icon = {"running": "TIME", "done": "INFO", "failed": "ERROR"}[check.outcome]
        draw_sentence(layout, context, check.message, icon=icon)
    row = layout.row()
    row.operator("sanawm.check_machine", icon="VIEWZOOM")
    if check is not None and check.outcome == "done":
        row.operator("sanawm.show_machine_report", icon="TEXT")


def _draw_contents(layout: UILayout, context: Context, root: Path) -> None:
    components = [COMPONENTS[id] for id in chosen_components()]
    states = {component.id: state(root, component.id) for component in components}
    for licence in dict.fromkeys(component.licence for component in components):
        box = layout.box()
        _draw_licence(box, context, licence, is_accepted(root, licence))
        column = box.column(align=True)
        for component in components:
            if component.licence == licence:
                _draw_component(column, root, component, states[component.id])
    if session.is_on_weights_errand():
        errand = session.weights_errand
        layout.progress(factor=errand.fraction, text=errand.message)
        layout.operator("sanawm.cancel_weights", icon="CANCEL")
        return
    if session.weights_errand is not None:
        is_done = session.weights_errand.outcome == "done"
        draw_sentence(
            layout, context, session.weights_errand.message, icon="CHECKMARK" if is_done else "ERROR"
        )
    _draw_actions(layout, root, components, states)


def _draw_licence(box: UILayout, context: Context, id: str, is_accepted: bool) -> None:
    licence = LICENCES[id]
    row = box.row()
    row.label(text=licence.title, icon="CHECKMARK" if is_accepted else "ERROR")
    row.operator("wm.url_open", text="Read License", icon="URL").url = licence.link
    if is_accepted:
        row.label(text="Accepted")
    else:
        row.operator("sanawm.accept_licence").licence = id
    draw_sentence(box, context, " ".join(licence.summary))


def _draw_component(column: UILayout, root: Path, component: Component, state: str) -> None:
    row = column.row(align=True)
    name = row.split(factor=0.5)
    name.label(text=component.title, icon=_STATE_ICONS[state])
    size = name.split(factor=0.3)
    size.label(text=_total([component]))
    size.label(text=_where(root, component, state))
    fetch = row.row(align=True)
    fetch.enabled = weights.is_to_be_fetched(root, component.id) and is_accepted(root, component.licence)
    fetch.operator("sanawm.download_weights", text="", icon="IMPORT").component = component.id
    drop = row.row(align=True)
    drop.enabled = (root / component.id).is_dir()
    drop.operator("sanawm.remove_weights", text="", icon="TRASH").component = component.id


def _draw_actions(layout: UILayout, root: Path, components: list[Component], states: dict[str, str]) -> None:
    missing = [component for component in components if weights.is_to_be_fetched(root, component.id)]
    if missing:
        draw_online_access(layout)
    row = layout.row()
    if any(unconverted(root, id) for id, state in states.items() if state != "present"):
        row.operator("sanawm.convert_weights")
    if missing:
        agreed = row.row()
        agreed.enabled = all(is_accepted(root, component.licence) for component in missing)
        agreed.operator(
            "sanawm.download_weights", text=f"Download {_total(missing)}", icon="IMPORT"
        ).component = ""
    if set(states.values()) != {"missing"}:
        row.operator("sanawm.verify_weights").component = ""


def _where(root: Path, component: Component, state: str) -> str:
    """Whether it is there, and in which copy of a release if it is in one."""
    if state == "present":
        place = find(root, component.id).relative_to(root)
        return "Present" if place.parts[0] == component.id else f"In {place.parts[0]}"
    if unconverted(root, component.id):
        return "Not converted yet"
    return "Incomplete" if state == "partial" else "Missing"


def _total(components: list[Component]) -> str:
    sizes = [component.size_gb for component in components]
    known = sum(size for size in sizes if size)
    if None not in sizes:
        return f"{known:.1f} GB"
    return f"over {known:.1f} GB" if known else "Size not known"


def _room_in_words(root: Path) -> str:
    """What is free on the disk that the folder is on, or will be."""
    try:
        there = next(folder for folder in (root, *root.parents) if folder.exists())
        return f"{shutil.disk_usage(there).free / 1e9:.0f} GB free"
    except (StopIteration, OSError):
        return "This folder cannot be reached"

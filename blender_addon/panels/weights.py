# SPDX-License-Identifier: GPL-3.0-or-later
"""The section of the preferences about the released model's weights."""

from __future__ import annotations

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
    """Folder and preset; what the preset needs; the terms; what can be done; what the machine can run."""
    layout.label(text="SANA-WM Weights")
    layout.prop(settings, "weights_folder")
    layout.prop(settings, "weights_preset")
    root = weights.folder()
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
    column = layout.box().column(align=True)
    for component in components:
        _draw_component(column, root, component, states[component.id])
    for id in dict.fromkeys(component.licence for component in components):
        _draw_licence(layout, context, id, is_accepted(root, id))
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
    missing = [component for component in components if states[component.id] != "present"]
    if missing:
        draw_online_access(layout)
    row = layout.row()
    if missing:
        agreed = row.row()
        agreed.enabled = all(is_accepted(root, component.licence) for component in missing)
        agreed.operator(
            "sanawm.download_weights", text=f"Download {_total(missing)}", icon="IMPORT"
        ).component = ""
    if set(states.values()) != {"missing"}:
        row.operator("sanawm.verify_weights").component = ""
    if any(states[component.id] != "present" and unconverted(root, component.id) for component in components):
        row.operator("sanawm.convert_weights")


def _draw_component(column: UILayout, root: Path, component: Component, state: str) -> None:
    row = column.row(align=True)
    row.label(text=component.title, icon=_STATE_ICONS[state])
    row.label(text=_total([component]))
    words = {"present": "Present", "partial": "Incomplete", "missing": "Missing"}[state]
    if state == "present" and (root / component.id) not in (place := find(root, component.id), place.parent):
        words = f"In {place}"
    row.label(text=words)
    row.label(text=LICENCES[component.licence].title)
    fetch = row.row(align=True)
    fetch.enabled = state != "present" and is_accepted(root, component.licence)
    fetch.operator("sanawm.download_weights", text="", icon="IMPORT").component = component.id
    drop = row.row(align=True)
    drop.enabled = (root / component.id).is_dir()
    drop.operator("sanawm.remove_weights", text="", icon="TRASH").component = component.id


def _draw_licence(layout: UILayout, context: Context, id: str, is_accepted: bool) -> None:
    licence = LICENCES[id]
    box = layout.box()
    box.label(text=licence.title, icon="CHECKMARK" if is_accepted else "ERROR")
    for line in licence.summary:
        draw_sentence(box, context, line)
    row = box.row()
    row.operator("wm.url_open", text="Read License", icon="URL").url = licence.link
    if is_accepted:
        row.label(text="Accepted")
    else:
        row.operator("sanawm.accept_licence").licence = id


def _total(components: list[Component]) -> str:
    sizes = [component.size_gb for component in components]
    known = sum(size for size in sizes if size)
    if None not in sizes:
        return f"{known:.1f} GB"
    return f"over {known:.1f} GB" if known else "Size not known"

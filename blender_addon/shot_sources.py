# SPDX-License-Identifier: GPL-3.0-or-later
"""Where shots come from: markers, scene strips, and files of other programs. Asking again updates, never doubles."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bpy.types import Scene

from ..backend.protocol import Finding, ProtocolError
from ..backend.protocol.shot_list import ShotRow, read_shot_list, write_shot_list
from ..backend.protocol.timeline_edit import Edit, row_for_cut
from ..backend.protocol.timeline_edl import read_edl, write_edl
from ..backend.protocol.timeline_otio import read_otio, write_otio
from . import compat
from .shot_rows import add_shot, listed, row_of, take_over
from .timeline import scene_fps


@dataclass
class Update:
    """What an update of the list did.

    Attributes:
        added, updated: codes.
        notes: what was left out or could not be set, a sentence each.
    """

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def in_words(self) -> str:
        words = f"{len(self.added)} added, {len(self.updated)} updated"
        return words + (f", {len(self.notes)} to look at: {self.notes[0]}" if self.notes else "")


def from_markers(scene: Scene) -> Update:
    """A shot for each marker with a camera, until the next such marker or the scene's end.

    Raises:
        ProtocolError: no marker has a camera.
    """
    bound = sorted((m for m in scene.timeline_markers if m.camera), key=lambda marker: marker.frame)
    if not bound:
        raise ProtocolError(
            "No marker of this scene is bound to a camera; select a camera and a marker, then use "
            "Marker > Bind Camera to Markers in the timeline."
        )
    ends = [following.frame - 1 for following in bound[1:]] + [scene.frame_end]
    rows, notes = [], []
    for marker, end in zip(bound, ends, strict=True):
        if end < marker.frame:
            notes.append(f"The marker {marker.name} stands behind the scene's end, frame {scene.frame_end}.")
            continue
        row = _cut(marker.name, rows, marker.frame, end)
        rows.append((row, marker.camera))
    return _update(scene, rows, notes)


def from_strips(scene: Scene) -> dict[Scene, Update]:
    """A shot for each scene strip of a sequencer, in the list of the scene that the strip shows.

    Raises:
        ProtocolError: the sequencer has no scene strip.
    """
    editor = scene.sequence_editor
    strips = [s for s in compat.strips(editor) if s.type == "SCENE" and s.scene] if editor else []
    if not strips:
        raise ProtocolError(
            "This sequencer has no scene strips; add one with Add > Scene, one for each shot."
        )
    rows: dict[Scene, list] = {}
    for strip in sorted(strips, key=lambda strip: compat.strip_extent(strip)[0]):
        shown, (first, after) = strip.scene, compat.strip_extent(strip)
        start = shown.frame_start + round(first - compat.strip_content_start(strip))
        of_scene = rows.setdefault(shown, [])
        camera = strip.scene_camera or shown.camera
        of_scene.append((_cut(strip.name, of_scene, start, start + after - first - 1), camera))
    return {shown: _update(shown, of_scene, []) for shown, of_scene in rows.items()}


def from_file(scene: Scene, path: Path) -> Update:
    """Shots from a CSV, OTIO or EDL file.

    Raises:
        ProtocolError: not one of them, or not readable at all; single bad rows are noted and left out.
    """
    rows, findings = read_rows(path, scene_fps(scene), scene.frame_start)
    return _update(scene, [(row, None) for row in rows], [finding.message for finding in findings])


def read_rows(path: Path, fps: float, frame_start: int) -> tuple[list[ShotRow], list[Finding]]:
    """The rows of a CSV, OTIO or EDL file, and what is wrong with others.

    Args:
        fps: of the scene, in whose frames an EDL counts.
        frame_start: the scene frame at which a foreign edit begins.
    """
    kind = path.suffix.lower()
    if kind == ".csv":
        return read_shot_list(path)
    if kind == ".otio":
        edit, findings = read_otio(path, frame_start)
        if abs(edit.fps - fps) > 1e-3:
            rates = f"{path.name} counts {edit.fps:g} frames a second and the scene {fps:g}"
            findings = [*findings, Finding(False, f"{rates}; the ranges are taken as they are.")]
        return [shot.row for shot in edit.shots], findings
    if kind == ".edl":
        return [shot.row for shot in read_edl(path, fps, frame_start).shots], []
    raise ProtocolError(f"{path.name} is none of the files that hold shots: .csv, .otio, .edl.")


def to_file(scene: Scene, path: Path) -> int:
    """Write the list with its outcomes as CSV, OTIO or EDL; how many shots that were.

    Raises:
        ProtocolError: the list is empty, two shots overlap in an edit, or the file is none of the three.
        OSError: the file cannot be written.
    """
    rows = [row_of(shot) for shot in scene.sana_wm_shots]
    if not rows:
        raise ProtocolError("The shot list is empty; add shots first.")
    kind = path.suffix.lower()
    if kind == ".csv":
        write_shot_list(path, rows)
    elif kind in (".otio", ".edl"):
        edit = Edit.as_filmed(scene.name, scene_fps(scene), rows)
        (write_otio if kind == ".otio" else write_edl)(path, edit)
    else:
        raise ProtocolError(f"A shot list is written as .csv, .otio or .edl, not as {path.name}.")
    return len(rows)


def _cut(label: str, rows: list, start: int, end: int) -> ShotRow:
    return row_for_cut(label, {row.code for row, _camera in rows}, 0, end - start + 1, start)


def _update(scene: Scene, rows: list, notes: list[str]) -> Update:
    """Rows, each with its camera or None, into the scene's list."""
    update, like = Update(notes=notes), scene.sana_wm
    active = scene.sana_wm_shot_index
    for row, camera in rows:
        shot = listed(scene, row.code)
        (update.updated if shot else update.added).append(row.code)
        shot = shot or add_shot(scene, row.code, like)
        update.notes += take_over(shot, row)
        if camera is not None:
            shot.camera = camera
    scene.sana_wm_shot_index = min(active, max(len(scene.sana_wm_shots) - 1, 0))
    return update

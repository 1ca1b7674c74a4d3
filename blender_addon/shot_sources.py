# SPDX-License-Identifier: GPL-3.0-or-later
"""Where shots come from: markers, scene strips, and files of other programs. Asking again updates, never doubles.

Markers and strips that carry Blender's own name, such as F_81 or Scene.001, are given the shot's code as their name:
so they are known again when they have moved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from bpy.types import Object, Scene

from ..backend.protocol import ProtocolError
from ..backend.protocol.shot_list import ShotRow, read_shot_list, write_shot_list
from ..backend.protocol.timeline_edit import Edit, row_for_cut
from ..backend.protocol.timeline_edl import read_edl, write_edl
from ..backend.protocol.timeline_otio import read_otio, write_otio
from . import compat
from .shot_codes import is_unnamed, proposed
from .shot_list import add_shot, codes, fix_camera, listed
from .shot_rows import row_of, take_over
from .timeline import scene_fps

_PATHS = (PurePosixPath, PureWindowsPath)


@dataclass
class Update:
    """What an update of the list did.

    Attributes:
        added, updated: codes.
        left_out: what became no shot, a sentence each.
        doubts: what else to look at, a sentence each.
    """

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        return [*self.left_out, *self.doubts]

    def in_words(self) -> str:
        """The counts, and the first thing to look at."""
        counts = [f"{len(self.added)} added", f"{len(self.updated)} updated"]
        counts += [f"{len(self.left_out)} left out"] if self.left_out else []
        counts += [f"{len(self.doubts)} to look at"] if self.doubts else []
        return ". ".join([", ".join(counts), *self.notes[:1]])


def from_markers(scene: Scene) -> Update:
    """A shot for each marker with a camera, until the next such marker or the scene's end.

    Raises:
        ProtocolError: no marker has a camera.
    """
    # Blender, too, does not switch to a camera that is hidden in renders.
    bound = sorted(
        (m for m in scene.timeline_markers if m.camera and not m.camera.hide_render), key=lambda m: m.frame
    )
    if not bound:
        raise ProtocolError(
            "No marker of this scene is bound to a camera; select a camera and a marker, then use "
            "Marker > Bind Camera to Markers in the timeline."
        )
    update, cuts = Update(), []
    ends = [following.frame - 1 for following in bound[1:]] + [scene.frame_end]
    for marker, end in zip(bound, ends, strict=True):
        if end >= marker.frame:
            cuts.append(_Cut(marker, marker.frame, end, marker.camera))
        elif marker is bound[-1]:
            update.left_out.append(
                f"The marker {marker.name} stands behind the scene's end, frame {scene.frame_end}."
            )
        else:
            update.left_out.append(f"The marker {marker.name} stands at the same frame as another one.")
    _take_over_cuts(scene, cuts, update)
    return update


def from_strips(edit: Scene) -> dict[Scene, Update]:
    """A shot for each scene strip of a sequencer, in the list of the scene that the strip shows.

    That scene holds the camera and the set, and its sequencer receives the clips. The range is in its frames.

    Raises:
        ProtocolError: the sequencer has no scene strip.
    """
    strips = scene_strips(edit)
    if not strips:
        raise ProtocolError(
            "This sequencer has no scene strips; add one with Add > Scene, one for each shot."
        )
    updates: dict[Scene, Update] = {}
    cuts: dict[Scene, list[_Cut]] = {}
    for strip in sorted(strips, key=lambda strip: compat.strip_extent(strip)[0]):
        shown = strip.scene
        update = updates.setdefault(shown, Update())
        if shown.library is not None:
            update.left_out.append(f"{strip.name} shows a linked scene, whose list cannot be changed here.")
        elif strip.scene_input == "SEQUENCER":
            update.left_out.append(f"{strip.name} shows the sequencer of {shown.name}, not its camera.")
        else:
            cuts.setdefault(shown, []).append(_Cut(strip, *_shown_range(strip), strip.scene_camera))
    for shown, of_scene in cuts.items():
        _take_over_cuts(shown, of_scene, updates[shown])
    return updates


def scene_strips(edit: Scene) -> list[Any]:
    editor = edit.sequence_editor
    return [s for s in compat.strips(editor) if s.type == "SCENE" and s.scene] if editor else []


def from_file(scene: Scene, path: Path) -> Update:
    """Shots from a CSV, OTIO or EDL file.

    Raises:
        ProtocolError: not one of them, or not readable at all; single bad rows are noted and left out.
    """
    kind, update = path.suffix.lower(), Update()
    fps, findings = scene_fps(scene), []
    if kind == ".csv":
        rows, findings = read_shot_list(path)
    elif kind == ".otio":
        edit, findings = read_otio(path, scene.frame_start)
        rows = [shot.row for shot in edit.shots]
        if abs(edit.fps - fps) > 1e-3:
            update.doubts.append(
                f"{path.name} counts {edit.fps:g} frames a second and the scene {fps:g}; "
                "the ranges are taken as they are."
            )
    elif kind == ".edl":
        rows = [shot.row for shot in read_edl(path, fps, scene.frame_start).shots]
    else:
        raise ProtocolError(f"{path.name} is none of the files that hold shots: .csv, .otio, .edl.")
    for finding in findings:
        (update.left_out if finding.is_error else update.doubts).append(finding.message)
    for row in rows:
        first_frame = _found_from(path.parent, row.first_frame)
        _take_over_row(scene, replace(row, first_frame=first_frame), None, update)
    return update


def to_file(scene: Scene, path: Path) -> int:
    """Write the list with its outcomes as CSV, OTIO or EDL; how many shots that were.

    A CSV names pictures and clips from its own folder on, where they lie in it, so that the folder can move. In an
    edit the shots lie where they are filmed; where two of them overlap, all follow one another in the list's order.

    Raises:
        ProtocolError: the list is empty, or the file is none of the three.
        OSError: the file cannot be written.
    """
    rows = [row_of(shot) for shot in scene.sana_wm_shots]
    if not rows:
        raise ProtocolError("The shot list is empty; add shots first.")
    kind = path.suffix.lower()
    if kind == ".csv":
        write_shot_list(path, [_named_from(path.parent, row) for row in rows])
    elif kind in (".otio", ".edl"):
        (write_otio if kind == ".otio" else write_edl)(path, _edit(scene, rows))
    else:
        raise ProtocolError(f"A shot list is written as .csv, .otio or .edl, not as {path.name}.")
    return len(rows)


def _edit(scene: Scene, rows: list[ShotRow]) -> Edit:
    in_time = sorted(rows, key=lambda row: row.frame_start)
    overlap = any(late.frame_start <= early.frame_end for early, late in pairwise(in_time))
    place = Edit.one_after_another if overlap else Edit.as_filmed
    return place(scene.name, scene_fps(scene), rows)


@dataclass(frozen=True)
class _Cut:
    """A stretch of a scene that a marker or a strip begins; the camera may be left to the scene."""

    source: Any
    start: int
    end: int
    camera: Object | None


def _take_over_cuts(scene: Scene, cuts: Iterable[_Cut], update: Update) -> None:
    """In their order; what has no name of its own is given its code."""
    cuts = list(cuts)
    rows: list[ShotRow] = []
    named = {
        row_for_cut(cut.source.name, (), 0, 1, 0).code for cut in cuts if not is_unnamed(cut.source.name)
    }
    for cut in cuts:
        taken = {row.code for row in rows}
        if is_unnamed(cut.source.name):
            before = [row.code for row in rows]
            cut.source.name = proposed(before, taken | named | codes(scene))
        row = row_for_cut(cut.source.name, taken, 0, cut.end - cut.start + 1, cut.start)
        rows.append(row if row.name != row.code else replace(row, name=""))
        _take_over_row(scene, rows[-1], cut.camera, update)


def _take_over_row(scene: Scene, row: ShotRow, camera: Object | None, update: Update) -> None:
    """Into the shot with the row's code, or a new one that is set up like the scene's own shot."""
    active = scene.sana_wm_shot_index
    shot = listed(scene, row.code)
    (update.updated if shot else update.added).append(row.code)
    if shot is None:
        shot = add_shot(scene, row.code, scene.sana_wm)
        shot.name, shot.camera = "", None
        shot.range_source, shot.first_frame_source = "SCENE", "RENDER"
        scene.sana_wm_shot_index = active
    update.doubts += take_over(shot, row)
    if camera is not None:
        shot.camera = camera
    fix_camera(shot)


def _shown_range(strip: Any) -> tuple[int, int]:
    """First and last frame of its scene that a strip shows."""
    first, after = compat.strip_extent(strip)
    begins = strip.scene.frame_start + compat.strip_content_trim(strip)
    start = begins + round(first - compat.strip_content_start(strip))
    return start, start + after - first - 1


def _found_from(folder: Path, text: str) -> str:
    """The absolute path of a file that a list names; Blender's // stays, which begins beside the .blend."""
    if not text or text.startswith("//") or any(kind(text).is_absolute() for kind in _PATHS):
        return text
    return str(folder.absolute() / text)


def _named_from(folder: Path, row: ShotRow) -> ShotRow:
    def relative(text: str) -> str:
        inside = text and Path(text).is_relative_to(folder.absolute())
        return Path(text).relative_to(folder.absolute()).as_posix() if inside else text

    return replace(row, first_frame=relative(row.first_frame), clip=relative(row.clip))

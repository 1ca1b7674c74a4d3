# SPDX-License-Identifier: GPL-3.0-or-later
"""An edit as an OpenTimelineIO file, which is JSON, with each shot's row in its clip's metadata."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from . import atomic
from .errors import ProtocolError
from .limits import Finding
from .records import from_record
from .shot_list import ShotRow
from .state import JobState
from .timeline_edit import Edit, Placed, row_for_cut

_KEY = "sana_wm"
_COLORS = {JobState.DONE: "GREEN", JobState.FAILED: "RED", JobState.CANCELLED: "ORANGE"}


def write_otio(path: Path, edit: Edit) -> None:
    """Replace `path` by the edit, atomically: one video track of clips and gaps.

    A clip that was made is referred to from its first frame on; one that was not has a missing reference. A
    marker on the clip says status, take and match.
    """
    children, end = [], 0
    for shot in edit.shots:
        if shot.start > end:
            children.append(_item("Gap.1", "", _range(0, shot.start - end, edit.fps)))
        children.append(_clip(shot, edit.fps))
        end = shot.end
    track = _item("Track.1", "Shots", None) | {"kind": "Video", "children": children}
    stack = _item("Stack.1", "tracks", None) | {"children": [track]}
    timeline = _object("Timeline.1", edit.name) | {"global_start_time": None, "tracks": stack}
    atomic.write_json(path, timeline)


def read_otio(path: Path, first_frame: int = 1) -> tuple[Edit, list[Finding]]:
    """Read the first video track that holds clips.

    Args:
        first_frame: scene frame of the timeline's beginning, for clips of other programs; those written by
            `write_otio` know their frames.

    Returns:
        The edit, and notes about what it leaves out.

    Raises:
        ProtocolError: missing, not JSON, not a timeline, or a clip has no length.
    """
    timeline = atomic.read_json(path)
    if not isinstance(timeline, dict) or _schema(timeline) != "Timeline":
        raise ProtocolError(f"{path.name} is not an OpenTimelineIO timeline.")
    tracks = [track for track in _children(timeline.get("tracks"), path) if _schema(track) == "Track"]
    tracks = [track for track in tracks if track.get("kind", "Video") == "Video"]
    filled = [track for track in tracks if any(_schema(item) == "Clip" for item in _children(track, path))]
    if not filled:
        raise ProtocolError(f"{path.name} has no video track with clips.")
    findings = []
    if len(filled) > 1:
        findings.append(Finding(False, f"{path.name} has {len(filled)} video tracks; the first one is read."))
    items = list(_items(filled[0], path))
    fps = next(_rate(item_range, path) for item, item_range in items if _schema(item) == "Clip")
    shots: list[Placed] = []
    codes: set[str] = set()
    begins_s = 0.0
    for item, item_range in items:
        start_s, begins_s = begins_s, begins_s + _seconds(item_range, path)
        start, end = round(start_s * fps), round(begins_s * fps)
        name = str(item.get("name") or "")
        if _schema(item) == "Gap":
            continue
        if _schema(item) != "Clip" or end == start:
            findings.append(
                Finding(False, f"{path.name}: {name or 'an item'} is no clip with a length, and left out.")
            )
            continue
        row = _row(item, path) or row_for_cut(name, codes, start, end - start, first_frame)
        if row.code in codes:
            findings.append(
                Finding(True, f"{path.name}: the shot {row.code} stands there twice; the first is read.")
            )
            continue
        codes.add(row.code)
        shots.append(Placed(row, start))
    return Edit(str(timeline.get("name") or path.stem), fps, tuple(shots)), findings


def _clip(shot: Placed, fps: float) -> dict[str, Any]:
    row = shot.row
    media = _object("MissingReference.1", "") | {"available_range": None}
    if row.clip:
        media = _object("ExternalReference.1", row.version_name) | {
            "available_range": None,
            "target_url": _url(row.clip),
        }
    clip = _item("Clip.1", row.code, _range(0, shot.duration, fps)) | {"media_reference": media}
    outcome = [row.status, f"take {row.take}" if row.take else "", f"match {row.match}" if row.match else ""]
    if any(outcome):
        marker = _object("Marker.2", ", ".join(filter(None, outcome)))
        clip["markers"] = [
            marker | {"color": _COLORS.get(row.status, "YELLOW"), "marked_range": _range(0, 1, fps)}
        ]
    return clip | {"metadata": {_KEY: asdict(row)}}


def _row(clip: dict, path: Path) -> ShotRow | None:
    """The row that `write_otio` put into the clip, if it did."""
    metadata = clip.get("metadata")
    if not isinstance(metadata, dict) or _KEY not in metadata:
        return None
    what = f"{path.name}: the clip {clip.get('name')!r}"
    record = metadata[_KEY]
    numbers = ("frame_start", "frame_end", "seed", "takes")
    for name in numbers if isinstance(record, dict) else ():
        value, may_lack = record.get(name), name in ("seed", "takes")
        if (value is not None or not may_lack) and type(value) is not int:
            raise ProtocolError(f"{what}: {name} must be a whole number.")
    try:
        return from_record(ShotRow, record, what)
    except ProtocolError as error:
        raise ProtocolError(str(error) if str(error).startswith(what) else f"{what}: {error}") from error


def _object(schema: str, name: str) -> dict[str, Any]:
    return {"OTIO_SCHEMA": schema, "metadata": {}, "name": name}


def _item(schema: str, name: str, source_range: dict | None) -> dict[str, Any]:
    return _object(schema, name) | {
        "source_range": source_range, "effects": [], "markers": [], "enabled": True,
    }  # fmt: skip


def _range(start: int, duration: int, fps: float) -> dict[str, Any]:
    return {
        "OTIO_SCHEMA": "TimeRange.1",
        "start_time": {"OTIO_SCHEMA": "RationalTime.1", "rate": float(fps), "value": float(start)},
        "duration": {"OTIO_SCHEMA": "RationalTime.1", "rate": float(fps), "value": float(duration)},
    }


def _url(text: str) -> str:
    """A file URL of an absolute path on any system; other paths as they are, with forward slashes."""
    for path in (PurePosixPath(text), PureWindowsPath(text)):
        if path.is_absolute() and not text.startswith("//"):  # Blender's // begins beside the .blend file
            return path.as_uri()
    return text.replace("\\", "/")


def _schema(value: Any) -> str:
    return str(value.get("OTIO_SCHEMA", "")).partition(".")[0] if isinstance(value, dict) else ""


def _children(parent: Any, path: Path) -> list[dict]:
    children = parent.get("children") if isinstance(parent, dict) else None
    if not isinstance(children, list) or not all(isinstance(child, dict) for child in children):
        raise ProtocolError(f"{path.name} has a track without a list of clips.")
    return children


def _items(track: dict, path: Path) -> Iterator[tuple[dict, dict]]:
    """Yields what takes time on the track, with its range; a transition overlaps its neighbours."""
    for item in _children(track, path):
        if _schema(item) == "Transition":
            continue
        media = item.get("media_reference")
        if not media:
            several = item.get("media_references") or {}
            media = several.get(item.get("active_media_reference_key")) or {}
        item_range = item.get("source_range") or media.get("available_range")
        if not item_range:
            raise ProtocolError(
                f"{path.name}: {item.get('name') or 'an item'} has no length; give it a source range."
            )
        yield item, item_range


def _rate(item_range: Any, path: Path) -> float:
    return _duration(item_range, path)[1]


def _seconds(item_range: Any, path: Path) -> float:
    value, rate = _duration(item_range, path)
    return value / rate


def _duration(item_range: Any, path: Path) -> tuple[float, float]:
    try:
        value, rate = float(item_range["duration"]["value"]), float(item_range["duration"]["rate"])
        if value >= 0 and 0 < rate < 1000:
            return value, rate
    except (KeyError, TypeError, ValueError):
        pass
    raise ProtocolError(f"{path.name} holds a range without a usable duration.")

# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a clip still the clip of its shot, or has something changed since it was made?

What is cheap to see is seen with every redraw. The camera's path and the blockout take as long as an export; what
the last look at them found is remembered until the job is made again or another file is loaded.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path, PureWindowsPath

import bpy
from bpy.app.handlers import persistent
from bpy.types import Context

from ..backend.protocol import JobFolder, ProtocolError, atomic
from ..backend.protocol.fingerprint import ASPECTS, changes
from . import shots, timeline
from .properties import SANAWM_PG_shot, presets

# Path of a job -> the aspects that had changed at the last whole look.
_found: dict[str, list[str]] = {}


def known_changes(settings: SANAWM_PG_shot, job: JobFolder) -> list[str]:
    """The aspects of a shot that are known to differ from its clip; cheap enough for drawing."""
    known = {*cheap_changes(settings, job), *_found.get(str(job.path), ())}
    return [aspect for aspect in ASPECTS if aspect in known]


def look_for_changes(context: Context, settings: SANAWM_PG_shot, job: JobFolder) -> list[str]:
    """Follow camera and blockout as an export does, and compare with what the clip was made from.

    Raises:
        ProtocolError: the shot cannot be followed now.
    """
    now = shots.current_fingerprint(context, settings)
    _found[str(job.path)] = found = changes(job.fingerprint(), now)
    return found


def cheap_changes(settings: SANAWM_PG_shot, job: JobFolder) -> list[str]:
    """What differs in the settings themselves: prompt, preset, range, first frame, which camera."""
    try:
        made_from = _record(job.shot_json, job.shot_json.stat().st_mtime_ns)
    except (OSError, ProtocolError):
        return []
    scene, source = settings.id_data, made_from["source"]
    preset = presets().get(settings.preset)
    start, end = settings.range_of(scene)
    differs = {
        "camera": settings.camera is not None and settings.camera.name != source["camera"],
        "range": (start, end) != (source["frame_start"], source["frame_end"])
        or abs(timeline.scene_fps(scene) - source["scene_fps"]) > 1e-3,
        # Not by its folder: a project that was moved shows the same picture.
        "first frame": Path(shots.chosen_first_frame(settings)).name
        != PureWindowsPath(source.get("first_frame", "")).name,
        "prompt": (settings.prompt_in_full(), settings.negative_prompt.strip())
        != (made_from["prompt"], made_from["negative_prompt"]),
        "preset": preset is not None and preset.name != made_from["preset"]["name"],
    }
    return [aspect for aspect in ASPECTS if differs.get(aspect)]


def in_words(aspects: list[str]) -> str:
    """A sentence about the aspects that changed."""
    *most, last = aspects
    words = f"{', '.join(most)} and {last}" if most else last
    return f"{words[0].upper()}{words[1:]} changed since this clip was made."


@lru_cache(maxsize=256)
def _record(shot_json: Path, _changed_ns: int) -> dict:
    record = atomic.read_json(shot_json)
    if not isinstance(record, dict) or not {"source", "prompt", "negative_prompt", "preset"} <= record.keys():
        raise ProtocolError(f"{shot_json} is damaged.")
    return record


@persistent
def _forget(_path: str) -> None:
    _found.clear()


def register() -> None:
    bpy.app.handlers.load_pre.append(_forget)


def unregister() -> None:
    bpy.app.handlers.load_pre.remove(_forget)
    _found.clear()

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a clip was made from, as one short hash for each aspect, to tell later what has changed since."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import Any

import numpy as np

from .preset import Preset
from .shot import Shot

# In the order in which a person wants to hear of them.
ASPECTS = ("camera", "lens", "range", "first frame", "prompt", "blockout", "preset")
# Of these there is one value per camera sample: another range or preset changes them without anybody's doing.
_SAMPLED = ("camera", "lens", "blockout")
# A tenth of a millimetre, and of a pixel.
_DIGITS = 4
_LENS_DIGITS = 1


def fingerprint(shot: Shot, first_frame_file: bytes | None) -> dict[str, str]:
    """A hash for each of ASPECTS.

    Args:
        first_frame_file: content of the image that was chosen as the first frame; None if it is the blockout's
            own picture, which changes with camera and blockout only.
    """
    source = shot.source
    return {
        "camera": _of_arrays(_DIGITS, shot.camera.c2w),
        "lens": _of_arrays(_LENS_DIGITS, shot.camera.intrinsics, np.array(shot.camera.image_size)),
        "range": _of_text(f"{source.frame_start:.3f} {source.frame_end:.3f} {source.scene_fps:.4f}"),
        "first frame": _of_bytes(first_frame_file) if first_frame_file is not None else "blockout",
        "prompt": _of_text(f"{shot.prompt}\n\n{shot.negative_prompt}"),
        "blockout": _of_blockout(shot),
        "preset": _of_text(json.dumps(_settings(shot.preset), sort_keys=True)),
    }


def changes(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """The aspects that differ; empty if `before` is, because then nobody knows."""
    if not before:
        return []
    changed = [aspect for aspect in ASPECTS if before.get(aspect) != now.get(aspect)]
    if "range" in changed or "preset" in changed:
        changed = [aspect for aspect in changed if aspect not in _SAMPLED]
    return changed


def _settings(preset: Preset) -> dict[str, Any]:
    """Those that are not at their defaults: a clip from before there was a setting is not changed by it."""
    chosen = (field.name for field in fields(preset) if getattr(preset, field.name) != field.default)
    return {name: getattr(preset, name) for name in chosen if name != "description"}


def _of_blockout(shot: Shot) -> str:
    if shot.blockout is None:
        return "none"
    return _of_arrays(_DIGITS, *(getattr(shot.blockout, field.name) for field in fields(shot.blockout)))


def _of_arrays(digits: int, *arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        if array.dtype.kind == "f":
            # Adding zero turns -0.0 into 0.0, which has other bytes.
            array = np.round(array.astype(np.float64), digits) + 0.0
        digest.update(f"{array.shape}{array.dtype.kind}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _of_text(text: str) -> str:
    return _of_bytes(text.encode())


def _of_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]

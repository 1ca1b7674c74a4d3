# SPDX-License-Identifier: GPL-3.0-or-later
"""What a clip says about its own making."""

from __future__ import annotations

import json
import platform
import tomllib
from functools import cache
from importlib.metadata import version
from pathlib import Path

from ..protocol import Clip, Shot

_MANIFEST = Path(__file__).parents[2] / "blender_manifest.toml"
_LIBRARIES = (
    "torch",
    "numpy",
    "opencv-python-headless",
    "embreex",
    "imageio-ffmpeg",
    "diffusers",
    "transformers",
)


@cache
def versions() -> dict[str, str]:
    """This program, Python and the libraries that decide the pixels."""
    manifest = tomllib.loads(_MANIFEST.read_text(encoding="utf-8"))
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"sana_wm": manifest["version"], "python": platform.python_version(), **libraries}


def tags(shot: Shot, clip: Clip) -> dict[str, str]:
    """Metadata of the mp4: for people, and as JSON for programs.

    Nothing here depends on when or where the clip was made, so that equal shots give equal files.
    """
    record = {
        "ai_generated": clip.ai_generated,
        "generator": f"SANA-WM Shots {clip.versions['sana_wm']}",
        "shot": shot.code,
        "preset": clip.preset,
        "seed": clip.seed,
        "model": clip.model,
        "versions": clip.versions,
        "pose_offset": clip.pose_offset,
    }
    return {
        "title": shot.name or shot.code,
        "description": f"AI-generated with SANA-WM Shots, model {shot.preset.model}, seed {clip.seed}.",
        "comment": json.dumps(record, ensure_ascii=False, sort_keys=True),
    }

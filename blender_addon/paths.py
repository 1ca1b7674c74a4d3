# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things are: the extension itself, its settings, the user's backend, the jobs of the open file."""

from __future__ import annotations

from pathlib import Path

import bpy

from ..backend.protocol import ProtocolError

EXTENSION_ROOT = Path(__file__).resolve().parents[1]
# Such as bl_ext.user_default.sana_wm: Blender knows the extension by the name of its root package.
ROOT_PACKAGE = __package__.rpartition(".")[0]


def preferences() -> bpy.types.AddonPreferences:
    """The extension's own preferences."""
    return bpy.context.preferences.addons[ROOT_PACKAGE].preferences


def backend_folder() -> Path:
    """Where the backend is, or will be set up: the user's choice, or else Blender's folder for our data."""
    chosen = preferences().backend_folder
    if chosen:
        return Path(bpy.path.abspath(chosen))
    return Path(bpy.utils.extension_path_user(ROOT_PACKAGE, path="backend"))


def jobs_root() -> Path:
    """The folder of the open file's jobs.

    Raises:
        ProtocolError: the file is not saved yet.
    """
    if not bpy.data.filepath:
        raise ProtocolError("Save the file first: its clips are made in a folder beside it.")
    return Path(bpy.path.abspath(preferences().output_folder))


def blender_folder() -> Path:
    """The folder of the running Blender, whose libraries are not for the backend."""
    return Path(bpy.app.binary_path or bpy.__file__).resolve().parent

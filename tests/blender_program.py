#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the program `blender`, which a test machine does not have, on top of Blender as a Python module.

Understands `--background FILE --command NAME ARGUMENTS`, with the extension installed from the zip that the variable
SANA_WM_ZIP names and the backend in SANA_WM_BACKEND.
"""

import importlib
import os
import sys

import bpy


def main() -> int:
    background, blend, command, name, *arguments = sys.argv[1:]
    assert (background, command) == ("--background", "--command"), sys.argv
    bpy.ops.extensions.package_install_files(
        filepath=os.environ["SANA_WM_ZIP"], repo="user_default", enable_on_install=True, overwrite=True
    )
    extension = f"bl_ext.user_default.{name}"
    bpy.context.preferences.addons[extension].preferences.backend_folder = os.environ["SANA_WM_BACKEND"]
    bpy.ops.wm.open_mainfile(filepath=blend)
    try:
        return importlib.import_module(f"{extension}.blender_addon.command_line").main(arguments)
    finally:
        bpy.ops.preferences.addon_disable(module=extension)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the module's own end can take the exit code along

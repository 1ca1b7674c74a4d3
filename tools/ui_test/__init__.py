# SPDX-License-Identifier: GPL-3.0-or-later
"""`build.py ui-test`: a real Blender window, driven by mouse and keys, with a picture of every step."""

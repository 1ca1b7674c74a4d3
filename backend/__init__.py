# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend: runs in its own Python and never imports bpy."""

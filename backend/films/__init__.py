# SPDX-License-Identifier: GPL-3.0-or-later
"""How each model makes the frames of a shot."""

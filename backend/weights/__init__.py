# SPDX-License-Identifier: GPL-3.0-or-later
"""Which weights there are, where they lie, and how they are loaded."""

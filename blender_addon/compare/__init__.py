# SPDX-License-Identifier: GPL-3.0-or-later
"""The clip against the blockout it was made from."""

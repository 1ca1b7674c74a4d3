# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthetic blockout clips, and the recipes that train stage 1 and the embedded model."""

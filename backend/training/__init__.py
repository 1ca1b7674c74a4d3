# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthetic blockout clips and the recipes that train the embedded model on them."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""Linears with weights in NVFP4 or FP8: which ones, how they are loaded from any file, and made from plain weights."""

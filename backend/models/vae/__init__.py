# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips to latents and back."""

from .linear_codec import LinearCodec

__all__ = ["LinearCodec"]

# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips to latents and back."""

from .causal_decoder import CausalDecoder
from .frame_decoder import DecoderCarry, FrameDecoder
from .linear_codec import LinearCodec

__all__ = ["DecoderCarry", "CausalDecoder", "FrameDecoder", "LinearCodec"]

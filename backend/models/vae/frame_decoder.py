# SPDX-License-Identifier: GPL-3.0-or-later
"""What every decoder of growing clips offers: the next latents in, their frames out."""

from typing import Protocol

from torch import Tensor

# What a decoder remembers of the latents before: the same tensors after every call, empty where it needs none.
DecoderCarry = tuple[Tensor, ...]


class FrameDecoder(Protocol):
    def decode_next(self, latents: Tensor, carry: DecoderCarry | None) -> tuple[Tensor, DecoderCarry]:
        """The next latents of a clip -> their frames, and what the following call needs.

        However a clip is cut into calls, its frames are the same, bit for bit.

        Args:
            latents: (B, C, t, h, w), t >= 1.
            carry: from the call before, which is left as it was; None begins a clip.

        Returns:
            Frames (B, 3, n, H, W), RGB 0..1, not clamped. The first latent of a clip gives one frame, every
            other latent eight: n is 8t, or 8t - 7 in the call that begins the clip.
        """
        ...

# SPDX-License-Identifier: GPL-3.0-or-later
"""The LTX-2 video decoder run causally, a latent at a time, with everything it remembers in its caller's hands."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .frame_decoder import DecoderCarry
from .latent_units import denormalized


class CausalDecoder:
    """Runs the decoder of a diffusers AutoencoderKLLTX2Video; its modules and weights are used as they are.

    The carry holds the last two input frames of every 3x3x3 convolution, in the order in which they run. For the
    released decoder at 704x1280 that is 45 tensors, in bf16 595,189,760 bytes (567.6 MiB) per clip of the batch.

    Every latent is decoded by itself, however many a call brings: convolutions of other lengths may round
    differently, and the activations of one latent are the least that has to fit into memory.
    """

    def __init__(self, vae: nn.Module) -> None:
        """
        Args:
            vae: on any device, in any floating dtype, with the latents' statistics in `latents_mean` and
                `latents_std` and the factor in `config.scaling_factor`.

        Raises:
            ValueError: the decoder is of another kind, or was trained to look ahead.
        """
        config = vae.config
        if config.timestep_conditioning or _any(config.decoder_inject_noise) or config.patch_size_t != 1:
            raise ValueError(
                "The causal decoder runs the LTX-2 decoder without timestep conditioning, noise injection and "
                "temporal patches; choose a video autoencoder whose configuration has none of them."
            )
        if not config.decoder_causal:
            raise ValueError(
                "This video autoencoder's decoder looks ahead in time (decoder_causal is false); choose the causal "
                "one of the streaming release."
            )
        self._vae = vae

    @torch.no_grad()
    def decode_next(self, latents: Tensor, carry: DecoderCarry | None) -> tuple[Tensor, DecoderCarry]:
        """See FrameDecoder. Latents (B, C, t, h, w) are normalised, h and w >= 2; frames are 32 times as large,
        in float32 or more."""
        frames = []
        for latent in denormalized(latents, self._vae).split(1, dim=2):
            tails = _Tails(carry)
            frames.append((self._decode(latent, tails) + 1) / 2)
            carry = tuple(tails.after)
        return torch.cat(frames, dim=2), carry

    def _decode(self, latent: Tensor, tails: _Tails) -> Tensor:
        """One latent (B, C, 1, h, w) -> frames (B, 3, 1 or 8, 32h, 32w), RGB -1..1."""
        decoder = self._vae.decoder
        x = tails.convolve(decoder.conv_in, latent.to(decoder.conv_in.conv.weight.dtype))
        for resnet in decoder.mid_block.resnets:
            x = _resnet(resnet, x, tails)
        for block in decoder.up_blocks:
            if block.conv_in is not None:
                x = _resnet(block.conv_in, x, tails)
            for upsampler in block.upsamplers or ():
                x = _upsample(upsampler, x, tails)
            for resnet in block.resnets:
                x = _resnet(resnet, x, tails)
        x = tails.convolve(decoder.conv_out, decoder.conv_act(decoder.norm_out(x)))
        patch = decoder.patch_size
        # Inside a patch the released decoder orders its values by channel, column, row.
        by_row = x.unflatten(1, (-1, patch, patch)).transpose(2, 3).flatten(1, 3)
        return _spread(by_row, (1, patch, patch)).to(torch.promote_types(x.dtype, torch.float32))


class _Tails:
    """Hands every convolution the frames before this latent, and collects those before the next.

    Attributes:
        begins: this is the clip's first latent.
        after: the carry for the next latent, complete when the traversal is.
    """

    def __init__(self, carry: DecoderCarry | None) -> None:
        self.begins = carry is None
        self.after: list[Tensor] = []
        self._before = iter(carry or ())

    def convolve(self, causal_conv: nn.Module, x: Tensor) -> Tensor:
        """(B, C, n, h, w) -> (B, C', n, h, w). Before a clip stands its first frame, repeated."""
        kept = causal_conv.kernel_size[0] - 1
        before = x[:, :, :1].expand(-1, -1, kept, -1, -1) if self.begins else next(self._before)
        padded = torch.cat([before, x], dim=2)
        # A copy, because a view would keep all of `padded` alive.
        self.after.append(padded[:, :, -kept:].clone())
        return causal_conv.conv(padded)


def _resnet(module: nn.Module, x: Tensor, tails: _Tails) -> Tensor:
    hidden = tails.convolve(module.conv1, module.nonlinearity(module.norm1(x)))
    hidden = tails.convolve(module.conv2, module.nonlinearity(module.norm2(hidden)))
    if module.norm3 is not None:
        x = module.norm3(x.movedim(1, -1)).movedim(-1, 1)
    if module.conv_shortcut is not None:
        x = module.conv_shortcut(x)
    return hidden + x


def _upsample(module: nn.Module, x: Tensor, tails: _Tails) -> Tensor:
    # A clip's first latent stands for one frame, so what upsampling in time puts before that frame is dropped.
    surplus = module.stride[0] - 1 if tails.begins else 0
    spread = _spread(tails.convolve(module.conv, x), module.stride)[:, :, surplus:]
    if module.residual:
        repeats = math.prod(module.stride) // module.upscale_factor
        spread = spread + _spread(x, module.stride)[:, :, surplus:].repeat(1, repeats, 1, 1, 1)
    return spread


def _spread(x: Tensor, factors: tuple[int, int, int]) -> Tensor:
    """(B, C * a * b * c, n, h, w) -> (B, C, n * a, h * b, w * c)."""
    grid = x.unflatten(1, (-1, *factors))
    return grid.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def _any(flags: bool | tuple[bool, ...]) -> bool:
    return flags if isinstance(flags, bool) else any(flags)

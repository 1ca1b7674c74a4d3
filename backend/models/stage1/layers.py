# SPDX-License-Identifier: GPL-3.0-or-later
"""The small layers: norms, per-token convolutions, embedders, the final layer.

Tokens are (B, T, S, C): batch, latent frame, cell of the frame (row-major), channel.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.gated_unit import gated
from kernels.modulation import modulated
from kernels.qk_prologue import prologue


class RMSNorm(nn.Module):
    """Root-mean-square norm over all channels, statistics in fp32.

    Overwrites its input on a CPU where no gradients are recorded.
    """

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, rectify: bool = False, rotary: Tensor | None = None) -> Tensor:
        """x (...,C) -> normed x, then ReLU or rotation; see `kernels.qk_prologue`."""
        return prologue(x, self.weight, self.eps, rectify=rectify, rotary=rotary)


class PointwiseConv(nn.Module):
    """A 1x1 convolution on channels-last tensors: a linear whose weight keeps the convolution's shape."""

    def __init__(self, in_channels: int, out_channels: int, spatial_dims: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *[1] * spatial_dims))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.flatten(1), self.bias)

    def gated(self, hidden: Tensor) -> Tensor:
        """Of value * SiLU(gate); hidden (..., 2 C_in) holds values and then gates."""
        return self(gated(hidden))


class CellEmbedder(nn.Module):
    """(B, C_in, T, H, W) -> tokens."""

    def __init__(self, in_channels: int, hidden_size: int) -> None:
        super().__init__()
        self.proj = PointwiseConv(in_channels, hidden_size, spatial_dims=3, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(to_tokens(x.to(self.proj.weight.dtype)))


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B, T, H*W, C)."""
    return x.flatten(3).permute(0, 2, 3, 1)


class TimeEmbedder(nn.Module):
    """Timesteps on the 0..1000 scale, cut to whole numbers as in training, -> (..., C)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(256, hidden_size)
        self.linear_2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, timesteps: Tensor) -> Tensor:
        frequency = torch.exp(-math.log(10_000) / 128 * torch.arange(128, device=timesteps.device))
        angle = timesteps.long().float()[..., None] * frequency
        sinusoid = torch.cat([angle.cos(), angle.sin()], dim=-1)
        return self.linear_2(F.silu(self.linear_1(sinusoid.to(self.linear_1.weight.dtype))))


class CaptionMlp(nn.Module):
    def __init__(self, caption_channels: int, hidden_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(caption_channels, hidden_size)
        self.fc2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, text: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(text), approximate="tanh"))


class CaptionEmbedder(nn.Module):
    """Text encoder states (B, L, C_caption) -> (B, L, C)."""

    def __init__(self, caption_channels: int, hidden_size: int) -> None:
        super().__init__()
        self.y_proj = CaptionMlp(caption_channels, hidden_size)

    def forward(self, text: Tensor) -> Tensor:
        return self.y_proj(text.to(self.y_proj.fc1.weight.dtype))


class FinalLayer(nn.Module):
    """Modulation by the raw time embedding (rows: shift, scale), then the projection to latent channels."""

    def __init__(self, hidden_size: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, out_channels)
        self.scale_shift_table = nn.Parameter(torch.randn(2, hidden_size) / hidden_size**0.5)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale = (self.scale_shift_table[:, None, None, None] + time[:, :, None]).unbind(0)
        return self.linear(modulated(x, scale, shift))


class TemporalShortConv(nn.Module):
    """Weight of the keys' depthwise convolution along frames, which `kernels.qk_prologue` computes with their norm."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, 1, kernel_size))
        nn.init.ones_(self.weight[..., -1])

    @property
    def reach(self) -> int:
        """Frames to each side that a frame sees."""
        return self.weight.shape[-1] - 1

# SPDX-License-Identifier: GPL-3.0-or-later
"""The small layers: norms, per-token convolutions, embedders, the final layer.

Tokens are (B, T, S, C): batch, latent frame, cell of the frame (row-major), channel.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .context import FrameShare

_CACHED_ELEMENTS = 1 << 16


def layer_norm(x: Tensor) -> Tensor:
    """LayerNorm over channels without scale and shift."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def scaled(x: Tensor, factor: Tensor) -> Tensor:
    """x * factor in the dtype of x, which is overwritten where no gradients are recorded: new memory is slow."""
    return (x * factor).to(x.dtype) if torch.is_grad_enabled() else x.mul_(factor)


def added(x: Tensor, y: Tensor) -> Tensor:
    """x + y; overwrites x where no gradients are recorded. Sharded modules do not allow that for what they return."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


def rows_at_once(x: Tensor) -> int:
    """Of x (...,C): as many as several passes over them find in a CPU's cache; all of them on other devices."""
    return max(1, _CACHED_ELEMENTS // x.shape[-1]) if x.device.type == "cpu" else max(1, x.numel())


class RMSNorm(nn.Module):
    """Root-mean-square norm over all channels, statistics in fp32, weight applied in the module's dtype.

    Overwrites its input where no gradients are recorded.
    """

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, scale: float = 1.0, rectify: bool = False) -> Tensor:
        """x (...,C) -> normed x, times `scale`, and its negative numbers as zeros if `rectify`."""
        weight = self.weight * scale
        if torch.is_grad_enabled():
            return self._normed(x, weight, rectify)
        rows = x.reshape(-1, x.shape[-1])
        for part in rows.split(rows_at_once(x)):
            self._normed(part, weight, rectify)
        return rows.view(x.shape)

    def _normed(self, x: Tensor, weight: Tensor, rectify: bool) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        x = scaled(scaled(x, torch.rsqrt(norm.square() / x.shape[-1] + self.eps)), weight)
        return F.relu(x, inplace=not torch.is_grad_enabled()) if rectify else x


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
        value, gate = hidden.chunk(2, dim=-1)
        return self(value * F.silu(gate, inplace=not torch.is_grad_enabled()))


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
        return self.linear(torch.addcmul(shift, layer_norm(x), 1 + scale))


class TemporalShortConv(nn.Module):
    """Depthwise convolution along frames: a causal filter and its mirror image, the centre counted once.

    The causal half sees earlier chunks, the mirrored half ends with the frame's own chunk.
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, 1, kernel_size))
        nn.init.ones_(self.weight[..., -1])

    @property
    def reach(self) -> int:
        """Frames to each side that a frame sees."""
        return self.weight.shape[-1] - 1

    def forward(
        self,
        x: Tensor,
        chunks: Sequence[slice],
        tail: Tensor | None,
        crosses_chunks: bool,
        context: FrameShare | None = None,
    ) -> Tensor:
        """x (B,T,S,C) -> (B,T,S,C).

        Args:
            chunks: slices of T.
            tail: (B,reach,S,C), the frames before x; None for zeros.
            crosses_chunks: whether the causal half sees earlier chunks at all.
            context: where the clip's other frames are, if not in x.
        """
        if context is not None:
            reach = self.reach
            padded = context.with_halo(x, reach, reach)
            return self(padded, context.chunks(reach, reach), None, crosses_chunks)[:, reach:-reach]
        if tail is not None and crosses_chunks:
            return self._mirrored(torch.cat([tail, x], dim=1))[:, self.reach :]
        before = self.reach if crosses_chunks else 0
        parts = []
        for chunk in chunks:
            first = max(0, chunk.start - before)
            parts.append(self._mirrored(x[:, first : chunk.stop])[:, chunk.start - first :])
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _mirrored(self, x: Tensor) -> Tensor:
        """One chunk and what it sees before it, zeros around."""
        taps = torch.cat([self.weight, self.weight[..., :-1].flip(-1)], dim=-1).unsqueeze(-1)
        images = x.permute(0, 3, 1, 2)  # (B,C,T,S), channels last in memory
        out = F.conv2d(images, taps, padding=(self.reach, 0), groups=self.weight.shape[0])
        return out.permute(0, 2, 3, 1)

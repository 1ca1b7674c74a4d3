# SPDX-License-Identifier: GPL-3.0-or-later
"""The refiner: the video stream of the LTX-2 transformer, which looks at a few latent frames and what it remembers.

Parameter names and shapes are those of the released checkpoints. The audio stream that these also hold is not built:
nothing of it reaches the video.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import RefinerConfig
from .memory import LayerMemory
from .rotary import Rotary, rotate

TIMESTEPS = 1000  # of noise level 1
_TIME_CHANNELS = 256
_TOKENS_AT_ONCE = 16384


@dataclass(frozen=True)
class Look:
    """What the layers share in one call.

    Attributes:
        modulation: (6, C) of the call's noise level, before each block's table.
        rotary: of the active frames.
        text: (B, L, C), projected; a layer that has the prompt's keys already does not read it.
        keeps: "sink" or "history" to keep the active frames' keys and values as that, "" to keep nothing.
    """

    modulation: Tensor
    rotary: Rotary
    text: Tensor
    keeps: str = ""


class Attention(nn.Module):
    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        width, self.heads = config.hidden_size, config.num_heads
        self.norm_q = nn.RMSNorm(width, eps=config.norm_eps)
        self.norm_k = nn.RMSNorm(width, eps=config.norm_eps)
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, N, C) -> normalised keys and values (B, heads, N, C / heads)."""
        return self._by_head(self.norm_k(self.to_k(x))), self._by_head(self.to_v(x))

    def queries(self, x: Tensor) -> Tensor:
        return self._by_head(self.norm_q(self.to_q(x)))

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """-> (B, N, C)"""
        seen = F.scaled_dot_product_attention(queries, keys, values)
        return self.to_out[0](seen.transpose(1, 2).flatten(2))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        gelu = nn.Module()
        gelu.proj = nn.Linear(width, 4 * width)
        # As released: the first layer with its activation, a dropout, the second layer.
        self.net = nn.ModuleList([gelu, nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """x (B, N, C) -> the same; a part of the tokens at a time, as the hidden layer is four times as wide."""
        out = torch.empty_like(x)
        for start in range(0, x.shape[1], _TOKENS_AT_ONCE):
            part = slice(start, start + _TOKENS_AT_ONCE)
            hidden = F.gelu(self.net[0].proj(x[:, part]), approximate="tanh")
            out[:, part] = self.net[2](hidden)
        return out


class Block(nn.Module):
    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self._eps = config.norm_eps
        self.attn1 = Attention(config)
        self.attn2 = Attention(config)
        self.ff = FeedForward(config.hidden_size)
        self.scale_shift_table = nn.Parameter(torch.randn(6, config.hidden_size) / config.hidden_size**0.5)

    def forward(self, x: Tensor, look: Look, memory: LayerMemory) -> Tensor:
        """x (B, N, C), tokens of the active frames -> the same."""
        rows = (self.scale_shift_table + look.modulation).unbind(0)
        shift_attn, scale_attn, gate_attn, shift_ff, scale_ff, gate_ff = rows
        # A clip refined at once is 0.9 GB in each of these, so none stays longer than it is needed.
        modulated = torch.addcmul(shift_attn, self._norm(x), 1 + scale_attn)
        queries = self.attn1.queries(modulated)
        keys, values = self.attn1.keys_values(modulated)
        del modulated
        if look.keeps == "sink":
            memory.keep_sink(keys, values)
        queries, keys = rotate(queries, look.rotary), rotate(keys, look.rotary)
        # The sink sees itself alone; everything else sees it, the history and the active frames.
        seen = (keys, values) if look.keeps == "sink" else memory.seen_with(keys, values)
        if look.keeps == "history":
            memory.remember(keys, values)
        del keys, values
        attended = self.attn1.attend(queries, *seen)
        del queries, seen
        x = torch.addcmul(x, gate_attn, attended)
        del attended
        x = x + self._text_attention(self._norm(x), look, memory)
        modulated = torch.addcmul(shift_ff, self._norm(x), 1 + scale_ff)
        return torch.addcmul(x, gate_ff, self.ff(modulated))

    def _norm(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], eps=self._eps)

    def _text_attention(self, x: Tensor, look: Look, memory: LayerMemory) -> Tensor:
        if memory.text is None:
            memory.text = self.attn2.keys_values(look.text)
        return self.attn2.attend(self.attn2.queries(x), *memory.text)


class _Chain(nn.Module):
    """Two linears, for their names in the checkpoint."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(inputs, width)
        self.linear_2 = nn.Linear(width, width)


class _TimeEmbedding(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.emb = nn.Module()
        self.emb.timestep_embedder = _Chain(_TIME_CHANNELS, width)
        self.linear = nn.Linear(width, 6 * width)

    def forward(self, sigma: float) -> tuple[Tensor, Tensor]:
        """-> (6, C) for the blocks and (C,) for the output."""
        weight = self.linear.weight
        half = _TIME_CHANNELS // 2
        frequencies = torch.exp(
            -torch.arange(half, device=weight.device) * (torch.log(torch.tensor(1e4)) / half)
        )
        angles = TIMESTEPS * sigma * frequencies
        waves = torch.cat([angles.cos(), angles.sin()]).to(weight.dtype)
        embedder = self.emb.timestep_embedder
        embedded = embedder.linear_2(F.silu(embedder.linear_1(waves)))
        return self.linear(F.silu(embedded)).unflatten(0, (6, -1)), embedded


class RefinerTransformer(nn.Module):
    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.proj_in = nn.Linear(config.in_channels, width)
        self.time_embed = _TimeEmbedding(width)
        self.caption_projection = _Chain(config.caption_channels, width)
        self.transformer_blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) / width**0.5)
        self.proj_out = nn.Linear(width, config.in_channels)

    def project_text(self, text: Tensor) -> Tensor:
        """States (B, L, caption_channels) of the text connector -> (B, L, C)."""
        chain = self.caption_projection
        return chain.linear_2(F.gelu(chain.linear_1(text), approximate="tanh"))

    def forward(
        self,
        latents: Tensor,
        sigma: float,
        rotary: Rotary,
        text: Tensor,
        memory: list[LayerMemory],
        keeps: str = "",
    ) -> Tensor:
        """Predict the velocity noise - data of some latent frames.

        All frames of a call have one noise level, so that it is embedded once and not for every token.

        Args:
            latents: (B, in_channels, t, h, w), normalised.
            sigma: noise level 0..1.
            rotary: of these frames at their places in the clip.
            text: (B, L, C) from `project_text`.
            memory: of each layer.
            keeps: see Look.

        Returns:
            The latents' shape, in the model's dtype.
        """
        modulation, embedded = self.time_embed(sigma)
        look = Look(modulation, rotary, text, keeps)
        x = self.proj_in(latents.to(self.proj_in.weight.dtype).flatten(2).transpose(1, 2))
        for block, own in zip(self.transformer_blocks, memory, strict=True):
            x = block(x, look, own)
        shift, scale = self.scale_shift_table + embedded
        x = torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)
        return self.proj_out(x).transpose(1, 2).unflatten(2, latents.shape[2:])

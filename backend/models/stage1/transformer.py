# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage-1 diffusion transformer of SANA-WM: camera, prompt and noisy latent in, velocity out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import CrossAttention, GatedDeltaAttention, SoftmaxAttention, TextKeys
from .config import Stage1Config
from .feed_forward import GLUMBConvTemp
from .layers import CaptionEmbedder, CellEmbedder, FinalLayer, RMSNorm, TimeEmbedder, layer_norm, to_tokens
from .rotary import rotary_tables
from .ucpe import RayTransforms, ray_matrices


@dataclass(frozen=True)
class BlockConditioning:
    """The prompt's keys for one block, and its map (C,48), (C,) from Plücker numbers to the residual stream."""

    text: TextKeys
    plucker_map: tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class Conditioning:
    """Everything that stays the same over the steps of a run.

    Attributes:
        grid: (T, H, W) in latent cells.
        rotary: main rotary table (T,S,head_dim/2) complex64.
        rays: the camera branch's transforms; None leaves the branch out.
        plucker: (B,T,S,48) ray numbers; None leaves them out.
        blocks: one entry per block.
    """

    grid: tuple[int, int, int]
    rotary: Tensor
    rays: RayTransforms | None
    plucker: Tensor | None
    blocks: list[BlockConditioning]


class Block(nn.Module):
    def __init__(self, config: Stage1Config, index: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.attn = SoftmaxAttention(config) if config.is_softmax(index) else GatedDeltaAttention(config)
        self.cross_attn = CrossAttention(config)
        self.mlp = GLUMBConvTemp(width, config.mlp_hidden)
        self.scale_shift_table = nn.Parameter(torch.randn(6, width) / width**0.5)
        self.plucker_proj = nn.Linear(width, width) if config.mixes_plucker(index) else None

    def forward(self, x: Tensor, modulation: Tensor, shared: Conditioning, own: BlockConditioning) -> Tensor:
        """x (B,T,S,C), modulation (B,T,6,C) -> (B,T,S,C)."""
        rows = (self.scale_shift_table + modulation).unsqueeze(3).unbind(2)
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = rows
        modulated = torch.addcmul(shift_msa, layer_norm(x), 1 + scale_msa)
        x = torch.addcmul(x, gate_msa, self.attn(modulated, shared.rotary, shared.rays))
        if own.plucker_map is not None:
            x = F.linear(shared.plucker, *own.plucker_map).add_(x)
        x = self.cross_attn(x, own.text).add_(x)
        modulated = torch.addcmul(shift_mlp, layer_norm(x), 1 + scale_mlp)
        return torch.addcmul(x, gate_mlp, self.mlp(modulated, *shared.grid[1:]))


class Stage1Transformer(nn.Module):
    """Bidirectional stage 1. Parameter names and shapes are those of the released checkpoint."""

    def __init__(self, config: Stage1Config) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.x_embedder = CellEmbedder(config.in_channels, width)
        self.plucker_embedder = CellEmbedder(config.plucker_channels, width)
        # The checkpoint has it; the released model computes its output and drops it.
        self.raymap_embedder = CellEmbedder(3, width)
        self.t_embedder = TimeEmbedder(width)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.y_embedder = CaptionEmbedder(config.caption_channels, width)
        self.attention_y_norm = RMSNorm(width, eps=1e-5)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.num_layers))
        self.final_layer = FinalLayer(width, config.out_channels)
        self._initialize()

    @torch.no_grad()
    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for linear in (self.t_embedder.linear_1, self.t_embedder.linear_2, self.t_block[1]):
            nn.init.normal_(linear.weight, std=0.02)
        nn.init.zeros_(self.final_layer.linear.weight)
        nn.init.constant_(self.attention_y_norm.weight, 0.01)
        for block in self.blocks:
            # Camera and rays come in gradually; SiLU(1.2785) = 1 leaves the attention as it is.
            nn.init.zeros_(block.attn.out_proj_cam.weight)
            nn.init.constant_(block.attn.output_gate.bias, 1.2785)
            if block.plucker_proj is not None:
                nn.init.zeros_(block.plucker_proj.weight)

    def condition(
        self,
        text: Tensor,
        text_mask: Tensor,
        camera: Tensor | None,
        plucker: Tensor | None,
        grid: tuple[int, int, int],
    ) -> Conditioning:
        """Compute what all steps of a run share.

        Args:
            text: (B,1,L,C_caption) text encoder states.
            text_mask: (B,L), 1 for tokens that count.
            camera: (B,T,20) or (1,T,20), see `ray_matrices`; None runs without the camera branch.
            plucker: (B,48,T,H,W) or (1,48,T,H,W); None runs without it.
            grid: (T,H,W) of the latents.
        """
        batch = text.shape[0]
        if camera is not None and camera.shape[1:] != (grid[0], 20):
            raise ValueError(
                f"camera has shape {tuple(camera.shape)}; {grid[0]} latent frames need (B, {grid[0]}, 20)."
            )
        if plucker is not None and plucker.shape[1:] != (self.config.plucker_channels, *grid):
            expected = (self.config.plucker_channels, *grid)
            raise ValueError(f"plucker has shape {tuple(plucker.shape)}; the latents need (B, {expected}).")
        rotary, camera_rotary = rotary_tables(grid, self.config.head_dim, text.device)
        rays = None
        if camera is not None:
            rays = RayTransforms(*ray_matrices(camera.expand(batch, -1, -1), *grid[1:]), camera_rotary)
        if plucker is not None:
            weight = self.plucker_embedder.proj.weight
            plucker = to_tokens(plucker.to(weight.dtype)).contiguous().expand(batch, -1, -1, -1)

        # Tokens that no prompt of the batch uses are dropped; they would get no weight.
        used = text_mask.bool().any(0)
        embedded = self.attention_y_norm(self.y_embedder(text.squeeze(1)[:, used]))
        mask = text_mask.bool()[:, None, None, used]
        mask = None if mask.all() else mask
        blocks = [
            BlockConditioning(
                block.cross_attn.text_keys(embedded, mask),
                None
                if plucker is None or block.plucker_proj is None
                else self._plucker_map(block.plucker_proj),
            )
            for block in self.blocks
        ]
        return Conditioning(grid, rotary, rays, plucker, blocks)

    def _plucker_map(self, projection: nn.Linear) -> tuple[Tensor, Tensor]:
        """Embedder and projection are both linear: one map of 48 channels instead of C."""
        embedder = self.plucker_embedder.proj
        weight = projection.weight.float() @ embedder.weight.flatten(1).float()
        bias = F.linear(embedder.bias.float(), projection.weight.float(), projection.bias.float())
        return weight.to(projection.weight.dtype), bias.to(projection.weight.dtype)

    def denoise(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Predict the velocity noise - data.

        Args:
            latents: (B,C_in,T,H,W) noisy latents.
            timesteps: (B,1,T) on the 0..1000 scale, per latent frame.

        Returns:
            (B,C_out,T,H,W) in the model's dtype.
        """
        if latents.shape[2:] != conditioning.grid:
            raise ValueError(
                f"latents {tuple(latents.shape)} do not have the conditioning's grid {conditioning.grid}."
            )
        x = self.x_embedder(latents)
        time = self.t_embedder(timesteps.squeeze(1))
        modulation = self.t_block(time).unflatten(-1, (6, -1))
        for block, own in zip(self.blocks, conditioning.blocks, strict=True):
            x = block(x, modulation, conditioning, own)
        out = self.final_layer(x, time)
        return out.permute(0, 3, 1, 2).unflatten(3, conditioning.grid[1:])

    def forward(
        self,
        latents: Tensor,
        timesteps: Tensor,
        text: Tensor,
        text_mask: Tensor,
        camera: Tensor | None = None,
        plucker: Tensor | None = None,
    ) -> Tensor:
        """One prediction with its conditioning; see `condition` and `denoise` for the shapes."""
        conditioning = self.condition(text, text_mask, camera, plucker, tuple(latents.shape[2:]))
        return self.denoise(latents, timesteps, conditioning)

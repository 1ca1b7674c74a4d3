# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage-1 diffusion transformer of SANA-WM: camera, prompt and noisy latent in, velocity out.

One module, one weight layout and three ways of looking at time:

- bidirectional: all frames in one call and one chunk;
- chunk-causal (the teacher): all frames in one call, several chunks;
- cached chunk-causal (the streaming student): one chunk in a call, with a carry from the chunks before it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.modulation import gated_residual, modulated, residual_modulated

from .attention import CrossAttention, GatedDeltaAttention, SoftmaxAttention
from .carry import BlockCarry, Carry, CarryPlan, GatedDeltaCarry, KeyWindow, SoftmaxCarry
from .conditioning import BlockConditioning, Conditioning, chunk_slices
from .config import Stage1Config
from .context import FrameShare
from .feed_forward import GLUMBConvTemp
from .layers import CaptionEmbedder, CellEmbedder, FinalLayer, RMSNorm, TimeEmbedder, to_tokens
from .rotary import rotary_tables
from .ucpe import RayTransforms, ray_matrices


class Block(nn.Module):
    def __init__(self, config: Stage1Config, index: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.attn = SoftmaxAttention(config) if config.is_softmax(index) else GatedDeltaAttention(config)
        self.cross_attn = CrossAttention(config)
        self.mlp = GLUMBConvTemp(width, config.mlp_hidden)
        self.scale_shift_table = nn.Parameter(torch.randn(6, width) / width**0.5)
        self.plucker_proj = nn.Linear(width, width) if config.mixes_plucker(index) else None

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        shared: Conditioning,
        own: BlockConditioning,
        carry: BlockCarry | None,
        save: bool,
    ) -> Tensor:
        """x (B,T,S,C), modulation (B,T,6,C) -> (B,T,S,C)."""
        rows = (self.scale_shift_table + modulation).unsqueeze(3).unbind(2)
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = rows
        of_attention, tail = (None, None) if carry is None else (carry.attention, carry.feed_forward_tail)
        x = gated_residual(
            x,
            gate_msa,
            self.attn(modulated(x, scale_msa, shift_msa), shared, of_attention, save),
            None if own.plucker_map is None else F.linear(shared.plucker, *own.plucker_map),
        )
        x, prepared = residual_modulated(x, self.cross_attn(x, own.text), scale_mlp, shift_mlp)
        return gated_residual(x, gate_mlp, self.mlp(prepared, shared, tail, save))


class Stage1Transformer(nn.Module):
    """Stage 1. Parameter names and shapes are those of the released checkpoints."""

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

    def condition_blocks(
        self, text: Tensor, text_mask: Tensor, with_plucker: bool = True
    ) -> list[BlockConditioning]:
        """Compute what all chunks and steps of a run share.

        Args:
            text: (B,1,L,C_caption) text encoder states.
            text_mask: (B,L), 1 for tokens that count.
            with_plucker: whether Plücker rays will be given.
        """
        # Tokens that no prompt of the batch uses are dropped; they would get no weight.
        used = text_mask.bool().any(0)
        embedded = self.attention_y_norm(self.y_embedder(text.squeeze(1)[:, used]))
        counts = text_mask.bool()[:, used]
        mask = None if counts.all() else counts[:, None, None]
        if mask is not None:
            # Padding gets no weight either way, but it would widen the scale of quantised activations.
            embedded = embedded.masked_fill(~counts[..., None], 0)
        return [
            BlockConditioning(
                block.cross_attn.text_keys(embedded, mask),
                self._plucker_map(block.plucker_proj)
                if with_plucker and block.plucker_proj is not None
                else None,
            )
            for block in self.blocks
        ]

    def condition_frames(
        self,
        blocks: list[BlockConditioning],
        camera: Tensor | None,
        plucker: Tensor | None,
        grid: tuple[int, int, int],
        chunk_starts: tuple[int, ...] = (0,),
        first_frame: int = 0,
        context: FrameShare | None = None,
    ) -> Conditioning:
        """Say where frames are: all of a run, one chunk of it, or one process's part.

        Args:
            blocks: from `condition_blocks`.
            camera: (B,T,20) or (1,T,20), see `ray_matrices`; None runs without the camera branch.
            plucker: (B,48,T,H,W) or (1,48,T,H,W); None runs without it.
            grid: (T,H,W) of the latents.
            chunk_starts: where chunks begin in T; the default is one chunk.
            first_frame: the clip's latent frame that T begins with.
            context: where the other frames are, if T is one process's part of a clip; says the place of T and where
                chunks begin.

        Raises:
            ValueError: a shape does not fit the grid.
        """
        keys = blocks[0].text.keys
        batch, device = keys.shape[0], keys.device
        if camera is not None and camera.shape[1:] != (grid[0], 20):
            raise ValueError(
                f"camera has shape {tuple(camera.shape)}; {grid[0]} latent frames need (B, {grid[0]}, 20)."
            )
        if plucker is not None and plucker.shape[1:] != (self.config.plucker_channels, *grid):
            expected = (self.config.plucker_channels, *grid)
            raise ValueError(f"plucker has shape {tuple(plucker.shape)}; the latents need (B, {expected}).")
        chunks = chunk_slices(chunk_starts, grid[0])
        if context is not None:
            chunks, first_frame = context.chunks(), context.own.start
        rotary, camera_rotary = rotary_tables(grid, self.config.head_dim, device, first_frame)
        rays = None
        if camera is not None:
            rays = RayTransforms(*ray_matrices(camera.expand(batch, -1, -1), *grid[1:]), camera_rotary)
        if plucker is not None:
            weight = self.plucker_embedder.proj.weight
            plucker = to_tokens(plucker.to(weight.dtype)).contiguous().expand(batch, -1, -1, -1)
        return Conditioning(grid, rotary, rays, plucker, chunks, blocks, context)

    def condition(
        self,
        text: Tensor,
        text_mask: Tensor,
        camera: Tensor | None,
        plucker: Tensor | None,
        grid: tuple[int, int, int],
        chunk_starts: tuple[int, ...] = (0,),
        context: FrameShare | None = None,
    ) -> Conditioning:
        """`condition_blocks` and `condition_frames` in one, for runs whose frames are all there from the beginning."""
        blocks = self.condition_blocks(text, text_mask, with_plucker=plucker is not None)
        return self.condition_frames(blocks, camera, plucker, grid, chunk_starts, context=context)

    def empty_carry(self, plan: CarryPlan, batch: int, cells: int) -> Carry:
        """The carry before chunk 0, all of its memory allocated.

        Args:
            plan: the chunks, and the window of softmax attention.
            batch: 1, or 2 with guidance.
            cells: H * W of the latents.
        """
        config, like = self.config, self.x_embedder.proj.weight
        heads, width = config.num_heads, config.head_dim

        def state(columns: int) -> Tensor:
            return like.new_zeros(batch, heads, width, columns, dtype=torch.float32)

        def tail(frames: int) -> Tensor:
            return like.new_zeros(batch, frames, cells, config.hidden_size)

        def window() -> KeyWindow:
            dtype = torch.bfloat16 if config.softmax_in_bf16 else like.dtype
            return KeyWindow(plan, (batch, heads, cells, width), dtype, like.device)

        def attention(index: int) -> GatedDeltaCarry | SoftmaxCarry:
            if config.is_softmax(index):
                return SoftmaxCarry(window(), window())
            reach = config.conv_kernel_size - 1
            return GatedDeltaCarry(state(width), state(1), state(width), tail(reach), tail(reach))

        return Carry([BlockCarry(attention(index), tail(1)) for index in range(config.num_layers)], plan)

    def _plucker_map(self, projection: nn.Linear) -> tuple[Tensor, Tensor]:
        """Embedder and projection are both linear: one map of 48 channels instead of C."""
        embedder = self.plucker_embedder.proj
        weight = projection.weight.float() @ embedder.weight.flatten(1).float()
        bias = F.linear(embedder.bias.float(), projection.weight.float(), projection.bias.float())
        return weight.to(projection.weight.dtype), bias.to(projection.weight.dtype)

    def denoise(
        self,
        latents: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        carry: Carry | None = None,
        save: bool = False,
    ) -> Tensor:
        """Predict the velocity noise - data.

        Args:
            latents: (B,C_in,T,H,W) noisy latents.
            timesteps: (B,1,T) on the 0..1000 scale, per latent frame.
            conditioning: of the same frames.
            carry: from the chunks before; the latents are then the clip's next chunk.
            save: write this chunk to the carry, which is otherwise only read; for clean latents at timestep 0.

        Returns:
            (B,C_out,T,H,W) in the model's dtype.

        Raises:
            ValueError: the latents do not fit the conditioning or the carry.
        """
        if latents.shape[2:] != conditioning.grid:
            raise ValueError(
                f"latents {tuple(latents.shape)} do not have the conditioning's grid {conditioning.grid}."
            )
        if carry is not None:
            carry.check(latents.shape[2], len(conditioning.chunks))
        x = self.x_embedder(latents)
        time = self.t_embedder(timesteps.squeeze(1))
        modulation = self.t_block(time).unflatten(-1, (6, -1))
        carries = [None] * len(self.blocks) if carry is None else carry.blocks
        for block, own, carried in zip(self.blocks, conditioning.blocks, carries, strict=True):
            x = block(x, modulation, conditioning, own, carried, save)
        if save:
            carry.frames += latents.shape[2]
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
        chunk_starts: tuple[int, ...] = (0,),
        context: FrameShare | None = None,
    ) -> Tensor:
        """One prediction with its conditioning; see `condition` and `denoise` for the shapes."""
        grid = tuple(latents.shape[2:])
        conditioning = self.condition(text, text_mask, camera, plucker, grid, chunk_starts, context)
        return self.denoise(latents, timesteps, conditioning)

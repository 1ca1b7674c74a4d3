# SPDX-License-Identifier: GPL-3.0-or-later
"""Self attention of a block, Gated DeltaNet or softmax, each with its camera branch; and text cross attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.camera_gdn import Rays, camera_gdn, decode, encode_key_or_value, encode_query, rays_at
from kernels.frame_gdn import frame_gdn
from kernels.gated_unit import gated_sum
from kernels.qk_prologue import prologue
from kernels.tokens import in_portions

from .attend import attend
from .carry import GatedDeltaCarry, KeyWindow, SoftmaxCarry, read
from .conditioning import Conditioning, TextKeys
from .config import Stage1Config
from .context import FrameShare
from .layers import RMSNorm, TemporalShortConv
from .ucpe import RayTransforms

Gates = tuple[Tensor, Tensor]  # beta (B,T,S,h), decay (B,T,h)


class DualAttention(nn.Module):
    """Main branch plus camera branch, then one output gate and one projection for both.

    Softmax blocks carry the parameters of the delta rule too, unused: the checkpoint has them.
    """

    def __init__(self, config: Stage1Config, renormalize: bool) -> None:
        super().__init__()
        width, heads = config.hidden_size, config.num_heads
        self.renormalize = renormalize
        self.num_heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm = RMSNorm(width, eps=1e-5)
        self.k_norm = RMSNorm(width, eps=1e-5)
        self.beta_proj = nn.Linear(width, heads)
        self.gate_proj = nn.Linear(width, heads)
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1e-4, 16).log_())
        # softplus(dt_bias) is log-uniform in [0.001, 0.1], so the state decays slowly at first.
        step = torch.empty(heads).uniform_(math.log(1e-3), math.log(1e-1)).exp()
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        self.register_buffer("recall_gate", torch.zeros(1))
        self.output_gate = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)
        self.q_proj_cam = nn.Linear(width, width)
        self.k_proj_cam = nn.Linear(width, width)
        self.v_proj_cam = nn.Linear(width, width)
        self.out_proj_cam = nn.Linear(width, width)
        self.q_norm_cam = RMSNorm(width, eps=1e-5)
        self.k_norm_cam = RMSNorm(width, eps=1e-5)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1))

    def _combined(self, x: Tensor, main: Tensor, camera: Tensor | None) -> Tensor:
        projected = None if camera is None else self.out_proj_cam(camera.flatten(3))
        return self.proj(gated_sum(main.flatten(3), projected, self.output_gate(x)))


class GatedDeltaAttention(DualAttention):
    """Frame-wise Gated DeltaNet."""

    def __init__(self, config: Stage1Config) -> None:
        super().__init__(config, config.cam_renorm_gdn)
        self.carries_camera_keys = config.carry_camera_keys
        self.conv_k = TemporalShortConv(config.hidden_size, config.conv_kernel_size)
        self.conv_k_cam = TemporalShortConv(config.hidden_size, config.conv_kernel_size)

    def forward(self, x: Tensor, shared: Conditioning, carry: GatedDeltaCarry | None, save: bool) -> Tensor:
        """x (B,T,S,C) -> (B,T,S,C). Reads the carry, None for a clip's beginning; writes it if `save`."""
        return self._combined(x, *self.branches(x, shared, carry, save))

    def branches(
        self, x: Tensor, shared: Conditioning, carry: GatedDeltaCarry | None, save: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Main and camera attention, (B,T,S,h,D) each, the camera's None without rays; as `forward` takes them."""
        beta = self.beta_proj(x).sigmoid()
        rate = self.gate_proj(x.mean(dim=2)).float() + self.dt_bias.float()
        decay = torch.exp(-self.A_log.float().exp() * F.softplus(rate))
        gates = beta, decay
        main = self._main(x, gates, shared, carry, save)
        camera = None if shared.rays is None else self._camera(x, gates, shared, carry, save)
        return main, camera

    def _key_scale(self, x: Tensor) -> float:
        return (x.shape[-1] // self.num_heads) ** -0.5 * x.shape[2] ** -0.5

    def _main(
        self, x: Tensor, gates: Gates, shared: Conditioning, carry: GatedDeltaCarry | None, save: bool
    ) -> Tensor:
        q, projected, v = self.qkv(x).chunk(3, dim=-1)
        tail = None if carry is None else carry.key_tail
        k = self._split(convolved_keys(projected, self.k_norm, self.conv_k, self._key_scale(x), shared, tail))
        if save:
            _append(tail, projected)
        start = None if carry is None else (read(carry.main), read(carry.normalizer))
        heads = self._split(self.q_norm(q, rectify=True)), k, self._split(v)
        if shared.context is not None:
            return shared.context.frame_gdn(*heads, *gates, shared.rotary)
        out, (state, normalizer) = frame_gdn(*heads, *gates, shared.rotary, shared.chunks, start)
        if save:
            carry.main.copy_(state.detach())
            carry.normalizer.copy_(normalizer.detach())
        return out

    def _camera(
        self, x: Tensor, gates: Gates, shared: Conditioning, carry: GatedDeltaCarry | None, save: bool
    ) -> Tensor:
        q = self._split(self.q_norm_cam(self.q_proj_cam(x), rectify=True))
        projected, tail = self.k_proj_cam(x), None if carry is None else carry.camera_key_tail
        scale, crosses = self._key_scale(x), self.carries_camera_keys
        k = self._split(
            convolved_keys(projected, self.k_norm_cam, self.conv_k_cam, scale, shared, tail, crosses)
        )
        if save:
            _append(tail, projected)
        v = self._split(self.v_proj_cam(x))
        if shared.context is not None:
            return shared.context.camera_gdn(q, k, v, *gates, shared.rays, self.renormalize)
        start = None if carry is None else read(carry.camera)
        out, state = camera_gdn(q, k, v, *gates, shared.rays, shared.chunks, start, self.renormalize)
        if save:
            carry.camera.copy_(state.detach())
        return out


def convolved_keys(
    x: Tensor,
    norm: RMSNorm,
    conv: TemporalShortConv,
    scale: float,
    shared: Conditioning,
    tail: Tensor | None = None,
    crosses_chunks: bool = True,
) -> Tensor:
    """Keys of Gated DeltaNet from their projection (B,T,S,C); tail (B,n,S,C), the frames before it."""
    if shared.context is not None:
        x = shared.context.with_halo(x, conv.reach, conv.reach)
        chunks = shared.context.chunks(conv.reach, conv.reach)
        keys = prologue(x, norm.weight, norm.eps, scale, True, conv.weight, chunks, None, crosses_chunks)
        return keys[:, conv.reach : -conv.reach]
    before = None if tail is None else read(tail)
    return prologue(x, norm.weight, norm.eps, scale, True, conv.weight, shared.chunks, before, crosses_chunks)


def _append(tail: Tensor, x: Tensor) -> None:
    """tail (B,n,S,C) becomes the last n frames of what it was and x (B,T,S,C) after it."""
    tail.copy_(torch.cat([tail, x.detach()], dim=1)[:, -tail.shape[1] :])


class SoftmaxAttention(DualAttention):
    """Full attention over all tokens of a chunk and of the chunks before it."""

    def __init__(self, config: Stage1Config) -> None:
        super().__init__(config, config.cam_renorm_softmax)
        self.in_bf16 = config.softmax_in_bf16
        padded = _padded_width(config.head_dim)
        self.main_scale = (padded if config.padded_scale_main else config.head_dim) ** -0.5
        self.camera_scale = (padded if config.padded_scale_camera else config.head_dim) ** -0.5

    def forward(self, x: Tensor, shared: Conditioning, carry: SoftmaxCarry | None, save: bool) -> Tensor:
        """Arguments as in `GatedDeltaAttention.forward`; with a carry, x is one chunk."""
        windows = (None, None) if carry is None else (carry.main, carry.camera)
        attended = self._attend(
            *self._rotated(x, shared.rotary), self.main_scale, shared.chunks, windows[0], save, shared.context
        )
        main = attended.to(x.dtype)
        if shared.rays is None:
            return self._combined(x, main, None)
        attended = self._attend(
            *self._in_ray_coordinates(x, shared.rays),
            self.camera_scale,
            shared.chunks,
            windows[1],
            save,
            shared.context,
        )
        parts = [
            decode(part.to(_arithmetic(x)), rays_at(shared.rays, frames)).to(x.dtype)
            for frames, part in in_portions(attended)
        ]
        return self._combined(x, main, torch.cat(parts, dim=1))

    def _rotated(self, x: Tensor, rotary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        turned = self.q_norm(q, rotary=rotary), self.k_norm(k, rotary=rotary), v
        return tuple(self._heads_first(x, lambda part, _: part) for x in turned)

    def _in_ray_coordinates(self, x: Tensor, rays: RayTransforms) -> tuple[Tensor, Tensor, Tensor]:
        def encoded(x: Tensor, encode: Callable[[Tensor, Rays, bool], Tensor]) -> Tensor:
            return self._heads_first(
                x, lambda part, frames: encode(part, rays_at(rays, frames), self.renormalize)
            )

        return (
            encoded(self.q_norm_cam(self.q_proj_cam(x)), encode_query),
            encoded(self.k_norm_cam(self.k_proj_cam(x)), encode_key_or_value),
            encoded(self.v_proj_cam(x), encode_key_or_value),
        )

    def _heads_first(self, x: Tensor, encode: Callable[[Tensor, slice], Tensor]) -> Tensor:
        """x (B,T,S,C), encoded a few frames at a time -> (B,h,T,S,D) in the attention's dtype."""
        dtype = torch.bfloat16 if self.in_bf16 else x.dtype
        parts = [
            encode(part.to(_arithmetic(x)), frames).permute(0, 3, 1, 2, 4).to(dtype)
            for frames, part in in_portions(self._split(x))
        ]
        return torch.cat(parts, dim=2)

    def _attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float,
        chunks: Sequence[slice],
        window: KeyWindow | None,
        save: bool,
        context: FrameShare | None = None,
    ) -> Tensor:
        """q, k, v (B,h,T,S,D) -> (B,T,S,h,D) of their dtype."""
        cells, (queries, keys, values) = q.shape[3], (x.flatten(2, 3) for x in (q, k, v))
        if context is not None:
            keys, values = (context.gathered(x.transpose(1, 2)).transpose(1, 2).flatten(2, 3) for x in (k, v))
        own = keys, values
        if window is not None:
            keys, values = window.joined(*own)
        parts = []
        for chunk in chunks:
            if context is None:
                seen = keys.shape[2] - queries.shape[2] + chunk.stop * cells
            else:
                seen = context.frames_seen(chunk) * cells
            part = queries[:, :, chunk.start * cells : chunk.stop * cells]
            parts.append(attend(part, keys[:, :, :seen], values[:, :, :seen], scale))
        if save:
            window.keep(*own)
        out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
        return out.transpose(1, 2).unflatten(1, q.shape[2:4])


def _arithmetic(x: Tensor) -> torch.dtype:
    """In which x is encoded: without special hardware a CPU is many times slower in bf16 than in fp32."""
    return torch.float32 if x.device.type == "cpu" else x.dtype


def _padded_width(head_dim: int) -> int:
    """The camera branch was trained with heads padded to a kernel's width, and scaled by that width."""
    if head_dim in (32, 64, 128, 256) or head_dim > 256:
        return head_dim
    return 128 if head_dim < 128 else 256


class CrossAttention(nn.Module):
    """Tokens attend to the prompt; the prompt's keys are computed once per run."""

    def __init__(self, config: Stage1Config) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_cross_heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.q_norm = RMSNorm(width, eps=1e-6)
        self.k_norm = RMSNorm(width, eps=1e-6)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def text_keys(self, text: Tensor, mask: Tensor | None) -> TextKeys:
        """text (B,L,C) embedded prompt, mask (B,1,1,L) bool or None."""
        keys, values = self.kv_linear(text).chunk(2, dim=-1)
        return TextKeys(self._by_head(self.k_norm(keys)), self._by_head(values), mask)

    def forward(self, x: Tensor, text: TextKeys) -> Tensor:
        q = self._by_head(self.q_norm(self.q_linear(x)).flatten(1, 2))
        out = F.scaled_dot_product_attention(q, text.keys, text.values, attn_mask=text.mask)
        return self.proj(out.transpose(1, 2).reshape(x.shape))

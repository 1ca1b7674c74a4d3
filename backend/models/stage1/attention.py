# SPDX-License-Identifier: GPL-3.0-or-later
"""Self attention of a block, Gated DeltaNet or softmax, each with its camera branch; and text cross attention."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels.frame_gdn import camera_gdn, frame_gdn

from .config import Stage1Config
from .layers import RMSNorm, TemporalShortConv, rectified
from .rotary import rotate
from .ucpe import RayTransforms, renormalized


class DualAttention(nn.Module):
    """Main branch plus camera branch, then one output gate and one projection for both.

    Softmax blocks carry the parameters of the delta rule too, unused: the checkpoint has them.
    """

    def __init__(self, config: Stage1Config) -> None:
        super().__init__()
        width, heads = config.hidden_size, config.num_heads
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
        total = main.flatten(3)
        if camera is not None:
            total = self.out_proj_cam(camera.flatten(3)).add_(total)
        gated = total.float() * F.silu(self.output_gate(x).float(), inplace=not torch.is_grad_enabled())
        return self.proj(gated.to(x.dtype))


class GatedDeltaAttention(DualAttention):
    """Frame-wise bidirectional Gated DeltaNet."""

    def __init__(self, config: Stage1Config) -> None:
        super().__init__(config)
        self.renormalize = config.cam_renorm_gdn
        self.conv_k = TemporalShortConv(config.hidden_size, config.conv_kernel_size)
        self.conv_k_cam = TemporalShortConv(config.hidden_size, config.conv_kernel_size)

    def forward(self, x: Tensor, rotary: Tensor, rays: RayTransforms | None) -> Tensor:
        """x (B,T,S,C), rotary (T,S,D/2), rays None to leave the camera branch out."""
        beta = self.beta_proj(x).sigmoid()
        rate = self.gate_proj(x.mean(dim=2)).float() + self.dt_bias.float()
        decay = torch.exp(-self.A_log.float().exp() * F.softplus(rate))
        main = self._main(x, beta, decay, rotary)
        camera = None if rays is None else self._camera(x, beta, decay, rays)
        return self._combined(x, main, camera)

    def _key_scale(self, x: Tensor) -> float:
        return (x.shape[-1] // self.num_heads) ** -0.5 * x.shape[2] ** -0.5

    def _main(self, x: Tensor, beta: Tensor, decay: Tensor, rotary: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q = rectified(self.q_norm(q))
        k = rectified(self.k_norm(self.conv_k(k), self._key_scale(x)))
        return frame_gdn(self._split(q), self._split(k), self._split(v), beta, decay, rotary)

    def _camera(self, x: Tensor, beta: Tensor, decay: Tensor, rays: RayTransforms) -> Tensor:
        q = self._split(rectified(self.q_norm_cam(self.q_proj_cam(x))))
        k = rectified(self.k_norm_cam(self.conv_k_cam(self.k_proj_cam(x)), self._key_scale(x)))
        k, v = self._split(k), self._split(self.v_proj_cam(x))
        q_ray, k_ray, v_ray = rays.encode_query(q), rays.encode_key_or_value(k), rays.encode_key_or_value(v)
        if self.renormalize:
            q_ray, k_ray, v_ray = renormalized(q_ray, q), renormalized(k_ray, k), renormalized(v_ray, v)
        # A distant camera centre lengthens the keys; beta shrinks so that the recurrence stays stable.
        length, ray_length = k.norm(dim=-1).clamp(min=1e-6), k_ray.norm(dim=-1).clamp(min=1e-6)
        inflation = (ray_length / length).square().mean(dim=2, keepdim=True)
        beta = beta / inflation.clamp(min=1)
        return rays.decode(camera_gdn(q_ray, k_ray, v_ray, beta, decay))


class SoftmaxAttention(DualAttention):
    """Full bidirectional attention over all tokens of all frames."""

    def __init__(self, config: Stage1Config) -> None:
        super().__init__(config)
        self.renormalize = config.cam_renorm_softmax
        self.in_bf16 = config.softmax_in_bf16

    def forward(self, x: Tensor, rotary: Tensor, rays: RayTransforms | None) -> Tensor:
        """Arguments as in `GatedDeltaAttention.forward`."""
        main = self._main(x, rotary)
        camera = None if rays is None else self._camera(x, rays)
        return self._combined(x, main, camera)

    def _main(self, x: Tensor, rotary: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q = rotate(self._split(self.q_norm(q)), rotary)
        k = rotate(self._split(self.k_norm(k)), rotary)
        return self._attend(q, k, self._split(v), scale=q.shape[-1] ** -0.5)

    def _camera(self, x: Tensor, rays: RayTransforms) -> Tensor:
        q = self._split(self.q_norm_cam(self.q_proj_cam(x)))
        k = self._split(self.k_norm_cam(self.k_proj_cam(x)))
        v = self._split(self.v_proj_cam(x))
        q_ray, k_ray, v_ray = rays.encode_query(q), rays.encode_key_or_value(k), rays.encode_key_or_value(v)
        if self.renormalize:
            q_ray, k_ray, v_ray = renormalized(q_ray, q), renormalized(k_ray, k), renormalized(v_ray, v)
        return rays.decode(self._attend(q_ray, k_ray, v_ray, scale=_padded_width(q.shape[-1]) ** -0.5))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """q, k, v (B,T,S,h,D) -> (B,T,S,h,D)."""
        dtype = torch.bfloat16 if self.in_bf16 else q.dtype
        by_head = (
            x.flatten(1, 2).transpose(1, 2).to(dtype, memory_format=torch.contiguous_format) for x in (q, k, v)
        )
        out = F.scaled_dot_product_attention(*by_head, scale=scale)
        return out.transpose(1, 2).reshape(q.shape).to(q.dtype)


def _padded_width(head_dim: int) -> int:
    """The camera branch was trained with heads padded to a kernel's width, and scaled by that width."""
    if head_dim in (32, 64, 128, 256) or head_dim > 256:
        return head_dim
    return 128 if head_dim < 128 else 256


@dataclass(frozen=True)
class TextKeys:
    """Keys and values of the prompt for one block, (B,h,L,d), and which are valid (B,1,1,L; None if all)."""

    keys: Tensor
    values: Tensor
    mask: Tensor | None


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

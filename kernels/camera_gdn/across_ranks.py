# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera branch where the frames of a clip lie in several processes; the states travel as in `frame_gdn`."""

from torch import Tensor

from ..frame_gdn.across_ranks import Stretch, by_head, states
from .ucpe import length, renormalized, transformed


def camera_gdn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    decay: Tensor,
    rays: tuple[Tensor, Tensor, Tensor],
    stretch: Stretch,
    renormalize: bool = False,
) -> Tensor:
    """As the package's `camera_gdn` over the whole clip, without a state before it; tensors are of the own frames."""
    to_ray, from_ray, rotary = rays
    plain = q.float(), k.float(), v.float()
    matrices = to_ray.transpose(-1, -2), from_ray, from_ray
    encoded = [transformed(x, matrix, rotary) for x, matrix in zip(plain, matrices, strict=True)]
    if renormalize:
        encoded = [renormalized(ray, x) for ray, x in zip(encoded, plain, strict=True)]
    longer = length(encoded[1]).clamp(min=1e-6) / length(plain[1]).clamp(min=1e-6)
    beta = beta.float().unsqueeze(-1) / longer.square().mean(dim=2, keepdim=True).clamp(min=1)
    queries, keys, values, weights = (by_head(x) for x in (*encoded, beta))
    read = (queries @ states(keys, values, weights, decay, stretch)).transpose(2, 3)
    return transformed(read, to_ray, rotary.conj()).to(v.dtype)

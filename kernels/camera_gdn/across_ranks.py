# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera branch where the frames of a clip lie in several processes; the states travel as in `frame_gdn`."""

from torch import Tensor

from ..frame_gdn.across_ranks import Stretch, by_head, states
from ..tokens import squared_length
from .ucpe import decode, encode_key_or_value, encode_query


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
    queries, keys, values = q.float(), k.float(), v.float()
    plain = keys
    queries = encode_query(queries, rays, renormalize)
    keys, values = (encode_key_or_value(x, rays, renormalize) for x in (keys, values))
    longer = squared_length(keys).clamp(min=1e-12) / squared_length(plain).clamp(min=1e-12)
    beta = beta.float().unsqueeze(-1) / longer.mean(dim=2, keepdim=True).clamp(min=1)
    queries, keys, values, weights = (by_head(x) for x in (queries, keys, values, beta))
    read = (queries @ states(keys, values, weights, decay, stretch)).transpose(2, 3)
    return decode(read, rays).to(v.dtype)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking stage 1 for the velocity of a batch, in one process or in several that share its frames."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..models.stage1 import Stage1Transformer
from ..models.stage1.context import ContextGroup
from .batch import Batch


def velocity(
    model: Stage1Transformer,
    noisy: Tensor,
    timesteps: Tensor,
    batch: Batch,
    chunks: Sequence[slice] = (),
    context: ContextGroup | None = None,
) -> tuple[Tensor, slice]:
    """The model's estimate of noise - data, fp32, for the frames of this process, and which they are.

    Args:
        noisy: (B,C,T,H,W), the whole clip in every process.
        timesteps: (B,1,T).
        batch: camera, prompt, and what else the model reads.
        chunks: slices of T; none for one chunk.
        context: the processes that share the frames.
    """
    share = None if context is None else context.share(noisy.shape[2], chunks)
    own = slice(0, noisy.shape[2]) if share is None else share.own
    starts = (0,) if share is not None or not chunks else tuple(chunk.start for chunk in chunks)
    out = model(
        batch.inputs(noisy[:, :, own], own),
        timesteps[..., own],
        batch.text,
        batch.text_mask,
        batch.camera[:, own],
        batch.plucker[:, :, own],
        starts,
        share,
    )
    return out.float(), own


def whole_velocity(
    model: Stage1Transformer,
    noisy: Tensor,
    timesteps: Tensor,
    batch: Batch,
    chunks: Sequence[slice] = (),
    context: ContextGroup | None = None,
) -> Tensor:
    """As `velocity`, for the whole clip in every process."""
    own, _ = velocity(model, noisy, timesteps, batch, chunks, context)
    if context is None:
        return own
    return context.share(noisy.shape[2]).gathered(own.transpose(1, 2)).transpose(1, 2)


def mean_over_frames(squares: Tensor, counts: Tensor, own: slice, context: ContextGroup | None) -> Tensor:
    """Mean of (B,C,t,H,W) over the frames that count of each clip, then over the clips.

    So every clip weighs the same however many of its frames are given, and several passes are one large batch.

    Args:
        squares: of this process's frames.
        counts: (B,T) bool, of the whole clip.
        own: which frames of it this process has.
        context: the mean of all its processes' results is the mean over the clip.
    """
    channels, cells = squares.shape[1], squares.shape[3] * squares.shape[4]
    # At least one: a clip that is given whole has nothing to be learnt.
    weights = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    weighted = squares * weights.to(squares)[:, None, own, None, None]
    mean = weighted.sum() / (len(squares) * channels * cells)
    return mean if context is None else mean * context.size

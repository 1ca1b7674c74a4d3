# SPDX-License-Identifier: GPL-3.0-or-later
"""Context parallelism: the frames of a clip in several processes, each with a stretch of them.

Gated DeltaNet exchanges summaries of its state, the convolutions along frames the few frames beyond the stretch's
ends, softmax attention its keys and values; everything else of the transformer looks at one frame at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kernels.camera_gdn import across_ranks as camera
from kernels.frame_gdn import across_ranks


@dataclass(frozen=True)
class ContextGroup:
    """The processes that share clips; collectives between them have to be called by all, in the same order."""

    group: dist.ProcessGroup

    @property
    def rank(self) -> int:
        return dist.get_rank(self.group)

    @property
    def size(self) -> int:
        return dist.get_world_size(self.group)

    def share(self, frames: int, chunks: Sequence[slice] = ()) -> FrameShare:
        """The frames of a clip, in these chunks or one, divided as evenly as they can be.

        Raises:
            ValueError: there are more processes than frames.
        """
        if frames < self.size:
            raise ValueError(
                f"{frames} latent frames cannot be shared by {self.size} processes; lower context_ranks."
            )
        return FrameShare(self, frames, tuple(chunks) or (slice(0, frames),))


@dataclass(frozen=True)
class FrameShare:
    """What this process has of a clip of so many `frames`, and `whole` chunks."""

    context: ContextGroup
    frames: int
    whole: tuple[slice, ...]

    @property
    def own(self) -> slice:
        return self._of(self.context.rank)

    def chunks(self, before: int = 0, after: int = 0) -> tuple[slice, ...]:
        """Chunks of the own frames and of so many around them, as slices of these.

        Frames beyond the clip's ends count as part of its first and last chunk.
        """
        first, stop = self.own.start - before, self.own.stop + after
        parts = []
        for chunk in self.whole:
            start = first if chunk.start == 0 else max(chunk.start, first)
            end = stop if chunk.stop == self.frames else min(chunk.stop, stop)
            if start < end:
                parts.append(slice(start - first, end - first))
        return tuple(parts)

    def frames_seen(self, chunk: slice) -> int:
        """How many of the clip's frames a chunk of `chunks()` sees."""
        place = self.own.start + chunk.start
        return next(whole.stop for whole in self.whole if whole.stop > place)

    def with_halo(self, x: Tensor, before: int, after: int) -> Tensor:
        """x (B,t,...) of the own frames -> (B,before+t+after,...) with the neighbours', zeros at the clip's ends.

        Raises:
            ValueError: a process has fewer frames than its neighbours need of it.
        """
        least = self.frames // self.context.size
        if least < max(before, after):
            raise ValueError(
                f"{self.frames} latent frames in {self.context.size} processes are {least} for some, but neighbours "
                f"need {max(before, after)} of each; lower context_ranks or take longer clips."
            )
        return _Halo.apply(x, self.context, before, after)

    def gathered(self, x: Tensor) -> Tensor:
        """x (B,t,...) of the own frames -> (B,T,...) of the clip."""
        lengths = [self._of(rank).stop - self._of(rank).start for rank in range(self.context.size)]
        longest = max(lengths)
        by_frame = x.transpose(0, 1)
        if x.shape[1] < longest:
            by_frame = torch.cat([by_frame, torch.zeros_like(by_frame[:1])])
        parts = _Gather.apply(by_frame, self.context)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)]).transpose(0, 1)

    def frame_gdn(
        self, q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor, rotary: Tensor
    ) -> Tensor:
        """As the operator of this name, over the whole clip."""
        return across_ranks.frame_gdn(q, k, v, beta, decay, rotary, self._stretch)

    def camera_gdn(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        beta: Tensor,
        decay: Tensor,
        rays: tuple[Tensor, Tensor, Tensor],
        renormalize: bool,
    ) -> Tensor:
        """As the operator of this name, over the whole clip."""
        return camera.camera_gdn(q, k, v, beta, decay, rays, self._stretch, renormalize)

    @property
    def _stretch(self) -> across_ranks.Stretch:
        return across_ranks.Stretch(
            self.context.rank,
            self.chunks(),
            continued=self.own.stop not in {chunk.stop for chunk in self.whole},
            gather=lambda x: _Gather.apply(x, self.context),
        )

    def _of(self, rank: int) -> slice:
        each, longer = divmod(self.frames, self.context.size)
        start = rank * each + min(rank, longer)
        return slice(start, start + each + (rank < longer))


class _Gather(torch.autograd.Function):
    """(...) of each process -> (processes, ...)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, context: ContextGroup) -> Tensor:
        ctx.context = context
        x = x.contiguous()
        everyones = x.new_empty(context.size, *x.shape)
        dist.all_gather_single(everyones, x[None], group=context.group)
        return everyones

    @staticmethod
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor, None]:
        own = torch.empty_like(grads[:1])
        dist.reduce_scatter_single(own, grads.contiguous(), group=ctx.context.group)
        return own[0], None


class _Halo(torch.autograd.Function):
    """Frames of the neighbours on both sides of the own; their gradients go home."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, context: ContextGroup, before: int, after: int) -> Tensor:
        ctx.context, ctx.before, ctx.after = context, before, after
        left, right = _exchanged(context, x[:, :after], x[:, x.shape[1] - before :])
        return torch.cat([left, x, right], dim=1)

    @staticmethod
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor, None, None, None]:
        before, after = ctx.before, ctx.after
        stop = grads.shape[1] - after
        from_left, from_right = _exchanged(ctx.context, grads[:, :before], grads[:, stop:])
        own = grads[:, before:stop].clone()
        own[:, :after] += from_left
        own[:, own.shape[1] - before :] += from_right
        return own, None, None, None


def _exchanged(context: ContextGroup, to_left: Tensor, to_right: Tensor) -> tuple[Tensor, Tensor]:
    """Send a tensor to each neighbour and receive theirs, as long as what goes the other way; zeros at the ends."""
    from_left, from_right = torch.zeros_like(to_right), torch.zeros_like(to_left)
    group, rank, pending = context.group, context.rank, []
    for peer, sent, received in ((rank - 1, to_left, from_left), (rank + 1, to_right, from_right)):
        if 0 <= peer < context.size:
            pending.append(dist.P2POp(dist.isend, sent.contiguous(), group=group, group_peer=peer))
            pending.append(dist.P2POp(dist.irecv, received, group=group, group_peer=peer))
    for work in dist.batch_isend_irecv(pending) if pending else []:
        work.wait()
    return from_left, from_right

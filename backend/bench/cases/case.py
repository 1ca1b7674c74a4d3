# SPDX-License-Identifier: GPL-3.0-or-later
"""What a case of an operator consists of, and the sizes that cases are measured at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# Of the norm of the truth: fp32 with sums in another order, and numbers rounded to bf16.
GATES = {torch.float32: 1e-4, torch.bfloat16: 1e-2}


@dataclass(frozen=True)
class Sizes:
    """Of one stage-1 block and a clip.

    Attributes:
        chunk_frames, clip_frames: latent frames of a streaming chunk, and of a whole clip.
        cells: tokens of a latent frame.
        heads, head_dim: of self-attention; the tokens' width is their product.
        hidden: width of the feed-forward behind its gate.
    """

    chunk_frames: int
    clip_frames: int
    cells: int
    heads: int
    head_dim: int
    hidden: int

    @property
    def width(self) -> int:
        return self.heads * self.head_dim


RELEASE = Sizes(chunk_frames=3, clip_frames=121, cells=880, heads=20, head_dim=112, hidden=6720)
SMALL = Sizes(chunk_frames=3, clip_frames=7, cells=24, heads=2, head_dim=48, hidden=288)


@dataclass(frozen=True, eq=False)
class Compared:
    """A tensor that an operator made beside what `naive.py` makes of the same numbers.

    Attributes:
        gate: the norm of their difference that is allowed, as a share of the truth's norm; 0 for equal bytes.
    """

    tensor: str
    got: Tensor
    truth: Tensor
    gate: float

    @property
    def error(self) -> float:
        """nan where something was not written."""
        got, truth = self.got.detach().cpu().double(), self.truth.detach().cpu().double()
        if got.shape != truth.shape:
            raise ValueError(
                f"{self.tensor} has the shape {tuple(got.shape)} instead of {tuple(truth.shape)}."
            )
        distance, norm = (got - truth).norm().item(), truth.norm().item()
        return distance / norm if norm else distance


@dataclass(frozen=True, eq=False)
class Timed:
    """A call with its work.

    Attributes:
        flop: 1 multiply-add counted as 2.
        moved: bytes that it has to read and write at least.
        format: of the products.
    """

    call: Callable[[], object]
    flop: float
    moved: float
    format: str


@dataclass(frozen=True)
class OperatorCases:
    """
    Attributes:
        parity: name -> what is compared on a device.
        timed: name -> a call for so many latent frames of `Sizes`, on a device.
    """

    parity: Mapping[str, Callable[[torch.device], Iterable[Compared]]]
    timed: Mapping[str, Callable[[Sizes, int, torch.device], Timed]]


def randn(*shape: int, seed: int = 0) -> Tensor:
    """The same numbers on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def working_dtype(device: torch.device) -> torch.dtype:
    """Of activations where times are taken."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32

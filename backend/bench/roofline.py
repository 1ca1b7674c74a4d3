# SPDX-License-Identifier: GPL-3.0-or-later
"""The least time that each kernel and each stage can take on a card, as the tables of docs/roofline.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from ..models.refiner.config import RefinerConfig
from ..models.stage1.carry import CarryPlan
from ..models.stage1.config import Stage1Config
from ..sampling.chunk_grid import CHUNK_FRAMES
from . import counts
from .cards import H100, RTX_5090, Card
from .counts import CELLS, FRAMES, Kernel

BEGIN, END = "<!-- roofline: begin -->", "<!-- roofline: end -->"
CARDS = (RTX_5090, H100)
PRECISIONS = ("bf16", "fp8", "nvfp4")
# What SANA-WM's authors and users of the released models count, in FLOP.
PUBLISHED = {
    "Stage 1, bidirectional, one forward": 1541e12,
    "Stage 1, streaming": 3.07e15,
    "Refiner, streaming": 13.96e15,
    "Decoder": 1.09e15,
}
_STAGE1, _REFINER, _DECODER = Stage1Config(), RefinerConfig(), counts.DecoderSizes()
_TOKENS_OF_FRAME = CELLS[0] * CELLS[1]

STAGES: dict[str, Callable[[], Iterator[Kernel]]] = {
    "Stage 1, bidirectional, one forward": lambda: counts.stage1_bidirectional(_STAGE1),
    "Stage 1, bidirectional": lambda: counts.stage1_bidirectional(
        _STAGE1, passes=counts.BIDIRECTIONAL_STEPS * counts.GUIDED
    ),
    "Stage 1, streaming": lambda: counts.stage1_streaming(_STAGE1),
    "Refiner, streaming": lambda: counts.refiner_streaming(_REFINER),
    "Decoder": lambda: counts.decoder(_DECODER),
}


def stage_bound_s(stage: str, card: Card, precision: str) -> float:
    """The sum of its kernels' bounds: they run one after the other."""
    return _bound_s(STAGES[stage](), card, precision)


def _bound_s(kernels: Iterable[Kernel], card: Card, precision: str) -> float:
    return sum(
        kernel.calls * card.bound_s(kernel.flop, kernel.moved(precision), kernel.format(precision))
        for kernel in kernels
    )


def markdown() -> str:
    """All tables, between the marks that the page has."""
    parts = [BEGIN, "### Stages of a clip of 60 s", *_stage_table()]
    parts += ["### Against the published counts", *_published_table()]
    plan = CarryPlan(CHUNK_FRAMES + 1, CHUNK_FRAMES)
    seen = plan.buffer_frames
    refined = CHUNK_FRAMES + counts.REFINER_WINDOW
    tokens = CHUNK_FRAMES * _TOKENS_OF_FRAME
    parts.append(
        f"### Kernels of stage 1: one pass over a chunk of {tokens} tokens, {seen} latent frames seen"
    )
    parts += _kernel_table(counts.stage1_pass(_STAGE1, CHUNK_FRAMES, seen, _TOKENS_OF_FRAME))
    parts.append("### Kernels of stage 1: one bidirectional forward, 106,480 tokens")
    parts += _kernel_table(counts.stage1_bidirectional(_STAGE1))
    parts.append(f"### Kernels of the refiner: one pass over {tokens} tokens, {refined} latent frames seen")
    parts += _kernel_table(counts.refiner_pass(_REFINER, CHUNK_FRAMES, refined, _TOKENS_OF_FRAME))
    parts.append(f"### Kernels of the decoder: {FRAMES} latent frames")
    parts += _kernel_table(counts.decoder(_DECODER))
    return "\n\n".join([*_joined(parts), END])


def _joined(parts: Sequence[str]) -> list[str]:
    """Lines of one table stay together."""
    blocks: list[str] = []
    for part in parts:
        if part.startswith("|") and blocks and blocks[-1].startswith("|"):
            blocks[-1] += f"\n{part}"
        else:
            blocks.append(part)
    return blocks


def _titles() -> list[str]:
    return [f"{card.name} {precision}" for card in CARDS for precision in PRECISIONS]


def _stage_table() -> Iterator[str]:
    yield from _heading(["stage", "PFLOP", "TB bf16", *(f"{title}, s" for title in _titles())])
    for stage, kernels in STAGES.items():
        flop = counts.total_flop(kernels())
        moved = sum(kernel.calls * kernel.moved("bf16") for kernel in kernels())
        bounds = [stage_bound_s(stage, card, precision) for card in CARDS for precision in PRECISIONS]
        yield _row([stage, f"{flop / 1e15:.2f}", f"{moved / 1e12:.2f}", *map(_rounded, bounds)])


def _published_table() -> Iterator[str]:
    yield from _heading(["stage", "counted here, TFLOP", "published, TFLOP", "difference"])
    for stage, published in PUBLISHED.items():
        counted = counts.total_flop(STAGES[stage]())
        yield _row(
            [stage, f"{counted / 1e12:.0f}", f"{published / 1e12:.0f}", f"{counted / published - 1:+.1%}"]
        )


def _kernel_table(kernels: Iterator[Kernel]) -> Iterator[str]:
    """Times are those of all calls together, in ms; m marks a bound by memory."""
    yield from _heading(["kernel", "calls", "GFLOP", "MB bf16", *(f"{title}, ms" for title in _titles())])
    for name, alike in counts.merged(kernels).items():
        calls = sum(kernel.calls for kernel in alike)
        flop = counts.total_flop(iter(alike))
        moved = sum(kernel.calls * kernel.moved("bf16") for kernel in alike)
        cells = []
        for card in CARDS:
            for precision in PRECISIONS:
                bound = _bound_s(alike, card, precision)
                arithmetic = flop / card.rate(alike[0].format(precision))
                cells.append(f"{_rounded(1e3 * bound)}{' m' if bound > 1.001 * arithmetic else ''}")
        yield _row([name, str(calls), _rounded(flop / 1e9), _rounded(moved / 1e6), *cells])


def _heading(titles: Sequence[str]) -> Iterator[str]:
    yield _row(titles)
    yield f"|---|{'---:|' * (len(titles) - 1)}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rounded(value: float) -> str:
    """Three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"

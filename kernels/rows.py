# SPDX-License-Identifier: GPL-3.0-or-later
"""How kernels that need whole rows of channels find them in memory, and divide them."""

import triton
from torch import Tensor


def even_rows(x: Tensor) -> Tensor:
    """(...,C) -> (R,C), channels side by side and rows in even steps, as in slices of one projection; else a copy."""
    flat = x.flatten(0, -2)
    return flat if flat.stride(-1) == 1 else flat.contiguous()


def divided(channels: int) -> tuple[int, int]:
    """A row as two tiles whose widths are powers of two, the second one 0 if it is not needed.

    Padding 2240 channels to 4096 would leave almost half of the lanes without work; 2048 + 256 leave few.
    """
    whole = triton.next_power_of_2(channels)
    if whole == channels:
        return whole, 0
    return whole // 2, triton.next_power_of_2(channels - whole // 2)

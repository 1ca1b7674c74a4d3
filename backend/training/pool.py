# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that falls into independent parts, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

import torch

# Starting a process takes as long as a small part does.
PARTS_OF_A_PROCESS = 3


def in_processes(function: Callable[..., None], parts: Sequence[tuple]) -> Iterator[int]:
    """Call the function with the arguments of each part, in processes of one thread each; few parts here, in order.

    Yields:
        How many are done, after each.

    Raises:
        Whatever a part raises; those that have not begun are left out.
    """
    processes = min(os.cpu_count() or 1, len(parts) // PARTS_OF_A_PROCESS)
    if processes < 2:
        for done, part in enumerate(parts, start=1):
            function(*part)
            yield done
        return
    # A copy of a process that runs torch's threads may hang.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,))
    try:
        for done, future in enumerate(
            as_completed([pool.submit(function, *part) for part in parts]), start=1
        ):
            future.result()
            yield done
    finally:
        pool.shutdown(cancel_futures=True)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that falls into independent parts, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

import cv2
import torch

# Starting a process takes as long as a small part does.
PARTS_OF_A_PROCESS = 3
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


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
    before = {name: os.environ.get(name) for name in _THREADS}
    # Libraries read it when they are loaded; with more threads than cores they take several times as long.
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    # A copy of a process that runs torch's threads may hang.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _use_one_thread)
    try:
        futures = [pool.submit(function, *part) for part in parts]
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            yield done
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _use_one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)

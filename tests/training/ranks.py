# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a function in several processes that talk by gloo, and never wait for ever."""

import multiprocessing
import os
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

PATIENCE_S = 90


def run_ranks(work: Callable[..., Any], count: int, folder: Any, *arguments: Any) -> list[Any]:
    """`work(rank, *arguments)` in `count` processes; what each returns, in order. `folder` is where they meet."""
    # One process imports torch, the others are forked from it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch.distributed.fsdp", work.__module__])
    results = context.Queue()
    place = f"file://{folder}/meeting_{os.urandom(4).hex()}"
    started = [
        context.Process(target=_in_process, args=(results, place, work, rank, count, arguments), daemon=True)
        for rank in range(count)
    ]
    for process in started:
        process.start()
    try:
        answers = {}
        for _ in range(count):
            rank, answer, error = results.get(timeout=PATIENCE_S)
            assert error is None, f"process {rank}: {error}"
            answers[rank] = answer
        return [answers[rank] for rank in range(count)]
    finally:
        for process in started:
            process.join(timeout=5)
            if process.is_alive():
                process.kill()


def _in_process(results, place, work, rank, count, arguments) -> None:
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo", init_method=place, rank=rank, world_size=count, timeout=timedelta(seconds=PATIENCE_S)
        )
        results.put((rank, work(rank, *arguments), None))
    except BaseException:
        results.put((rank, None, traceback.format_exc()))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()

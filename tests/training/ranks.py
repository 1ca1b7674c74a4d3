# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a function in several processes that talk by gloo, and never wait for ever."""

import multiprocessing
import os
import queue
import socket
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch

PATIENCE_S = 180


def run_ranks(work: Callable[..., Any], count: int, *arguments: Any) -> list[Any]:
    """`work(rank, *arguments)` in `count` processes, as torchrun starts them; what each returns, in order."""
    # One process imports torch, the others are forked from it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "torch.distributed.fsdp", work.__module__])
    results = context.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        context.Process(target=_in_process, args=(results, port, work, rank, count, arguments), daemon=True)
        for rank in range(count)
    ]
    for process in started:
        process.start()
    try:
        answers = {}
        ends = time.monotonic() + PATIENCE_S
        while len(answers) < count:
            try:
                rank, answer, error = results.get(timeout=1)
            except queue.Empty:
                died = [process.exitcode for process in started if process.exitcode]
                assert not died, f"processes ended with {died}"
                assert time.monotonic() < ends, "processes wait for each other"
                continue
            assert error is None, f"process {rank}: {error}"
            answers[rank] = answer
        return [answers[rank] for rank in range(count)]
    finally:
        for process in started:
            process.join(timeout=5 if len(answers) == count else 0)
            if process.is_alive():
                process.kill()


def _in_process(results, port, work, rank, count, arguments) -> None:
    torch.set_num_threads(1)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "WORLD_SIZE": count}
    os.environ.update({name: str(value) for name, value in place.items()})
    try:
        results.put((rank, work(rank, *arguments), None))
    except BaseException:
        results.put((rank, None, traceback.format_exc()))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages that work at the same time: while one chunk is written, the next is decoded and the one after denoised.

Each stage is an iterator over what the stage before it yields; `Overlap.ahead` runs it in a thread of its own, a few
items ahead of whoever uses them. The rules, for threads and CUDA streams alike:

1. In order. Items come out as they went in; a stage has one thread and touches only what it was handed.
2. Bounded. At most `depth` finished items wait between two stages, whatever the length of the clip.
3. Handed over whole. On a GPU a stage computes on a stream of its own. An item carries an event that is recorded
   behind its last kernel, and its user's stream waits for that event before its first kernel.
4. Never written again. Who has yielded a tensor does not write to it any more; the allocator gets its memory back
   only when the stream that used it last is done with it.
5. After the set-up. A stage's stream first waits for everything that was queued on the stream it is made from:
   weights, prompts, first frame.
6. To the host only when ready. Whoever needs an item's numbers on the CPU copies them on its own stream and waits
   for that copy, not for the device.
7. One end. The first error of any stage, a request to cancel among them, ends all of them; no thread outlives the
   `with` block, and a stage's generator is closed in the thread that ran it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")


class _Ended(Exception):
    """The other stages have ended; nobody will use or make another item."""


class Overlap:
    """Runs stages ahead of each other; `with Overlap(device) as overlap:`.

    Args:
        device: torch device that the stages compute on; each stage gets a stream there if it is a CUDA device.
        depth: finished items that may wait for the next stage.
    """

    def __init__(self, device: torch.device | str, depth: int = 1) -> None:
        self._device, self._depth = torch.device(device), depth
        self._changed = threading.Condition()
        self._ended = False
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Overlap:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def ahead(self, items: Iterator[Item]) -> Iterator[Item]:
        """The same items, made in a thread of their own; an error comes out where its item would have."""
        ready: deque[tuple[Any, BaseException | None, torch.cuda.Event | None]] = deque()
        stream = self._new_stream()
        thread = threading.Thread(target=self._run, args=(items, ready, stream), name="stage", daemon=True)
        self._threads.append(thread)
        thread.start()
        return self._handed_over(ready)

    def _run(self, items: Iterator[Item], ready: deque, stream: torch.cuda.Stream | None) -> None:
        try:
            with _on(stream):
                try:
                    for item in items:
                        self._put(ready, (item, None, None if stream is None else stream.record_event()))
                    end: BaseException = StopIteration()
                except _Ended:
                    raise
                except BaseException as error:
                    end = error
                finally:
                    close = getattr(items, "close", None)
                    if close is not None:
                        close()
                self._put(ready, (None, end, None))
        except _Ended:
            pass

    def _put(self, ready: deque, entry: tuple) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(ready) < self._depth)
            if self._ended:
                raise _Ended
            ready.append(entry)
            self._changed.notify_all()

    def _handed_over(self, ready: deque) -> Iterator[Any]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or ready)
                if self._ended:
                    raise _Ended
                item, end, event = ready.popleft()
                self._changed.notify_all()
            if isinstance(end, StopIteration):
                return
            if end is not None:
                raise end
            if event is not None:
                user = torch.cuda.current_stream(self._device)
                user.wait_event(event)
                for tensor in _tensors(item):
                    tensor.record_stream(user)
            yield item

    def _new_stream(self) -> torch.cuda.Stream | None:
        if self._device.type != "cuda":
            return None
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        return stream


def _on(stream: torch.cuda.Stream | None) -> AbstractContextManager:
    return nullcontext() if stream is None else torch.cuda.stream(stream)


def _tensors(item: Any) -> Iterator[Tensor]:
    """CUDA tensors of an item: itself, or in tuples and lists."""
    if isinstance(item, Tensor) and item.is_cuda:
        yield item
    elif isinstance(item, (tuple, list)):
        for part in item:
            yield from _tensors(part)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of overlapping stages. Stages meet at events, never at times."""

import threading

import pytest

from backend.overlap import Overlap

WAIT_S = 20


def stages() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "stage"]


def test_items_come_in_order_from_other_threads_that_end_with_the_block():
    made_in = []

    def doubled(numbers):
        for number in numbers:
            made_in.append(threading.current_thread())
            yield 2 * number

    with Overlap("cpu") as overlap:
        first = overlap.ahead(iter(range(50)))
        second = overlap.ahead(doubled(first))
        assert list(second) == [2 * number for number in range(50)]
        assert threading.current_thread() not in made_in
        assert len(set(made_in)) == 1
    assert not stages()


def test_stages_work_at_the_same_time():
    second_began, first_went_on = threading.Event(), threading.Event()

    def first():
        yield 1
        # Only if the second stage already has item 1 while this one makes item 2, the test goes on.
        assert second_began.wait(WAIT_S)
        first_went_on.set()
        yield 2

    def second(items):
        for item in items:
            second_began.set()
            assert first_went_on.wait(WAIT_S)
            yield item

    with Overlap("cpu") as overlap:
        assert list(overlap.ahead(second(overlap.ahead(first())))) == [1, 2]


@pytest.mark.parametrize("depth", [1, 3])
def test_only_so_many_items_wait(depth):
    made, enough = [], threading.Event()

    def endless():
        number = 0
        while True:
            made.append(number)
            if len(made) == 4 + depth + 1:  # four used, `depth` wait, one is in the maker's hand
                enough.set()
            yield number
            number += 1

    with Overlap("cpu", depth) as overlap:
        items = overlap.ahead(endless())
        assert [next(items) for _ in range(4)] == [0, 1, 2, 3]
        assert enough.wait(WAIT_S)
    assert len(made) == 4 + depth + 1
    assert not stages()


def test_an_error_comes_out_behind_the_items_before_it_and_ends_everything():
    closed = []

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    def failing(items):
        for count, item in enumerate(items):
            if count == 3:
                raise KeyError("the fourth")
            yield item

    seen = []
    with pytest.raises(KeyError, match="the fourth"), Overlap("cpu") as overlap:
        for item in overlap.ahead(failing(overlap.ahead(endless()))):
            seen.append(item)
    assert seen == [0, 0, 0]
    assert closed == ["stage"]
    assert not stages()


def test_leaving_early_closes_every_stage_in_its_own_thread():
    closed = []

    def numbers():
        try:
            yield from range(1000)
        finally:
            closed.append(("first", threading.current_thread().name))

    def passed_on(items):
        try:
            yield from items
        finally:
            closed.append(("second", threading.current_thread().name))

    with pytest.raises(ZeroDivisionError), Overlap("cpu") as overlap:
        next(overlap.ahead(passed_on(overlap.ahead(numbers()))))
        raise ZeroDivisionError
    assert sorted(closed) == [("first", "stage"), ("second", "stage")]
    assert not stages()

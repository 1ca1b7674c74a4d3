# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of a piece of work on all cores: all are done, a failure is told, the rest is left."""

import os

import pytest

from backend.training import pool


def write(path):
    path.write_text(str(os.getpid()))


def refuse(path):
    raise ValueError(f"{path.name} cannot be made")


@pytest.mark.parametrize("cores", [1, 2])
def test_all_parts_are_done_and_each_is_counted(tmp_path, monkeypatch, cores):
    monkeypatch.setattr(pool.os, "cpu_count", lambda: cores)
    parts = [(tmp_path / f"{number}",) for number in range(7)]
    assert list(pool.in_processes(write, parts)) == list(range(1, 8))
    makers = {path.read_text() for (path,) in parts}
    assert (str(os.getpid()) in makers) is (cores == 1)


def test_a_part_that_fails_ends_the_work_with_its_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(pool.os, "cpu_count", lambda: 2)
    with pytest.raises(ValueError, match="3 cannot be made"):
        list(pool.in_processes(refuse, [(tmp_path / "3",)] * 6))

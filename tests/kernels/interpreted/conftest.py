# SPDX-License-Identifier: GPL-3.0-or-later
"""Triton decides when a kernel is defined whether it interprets or compiles: this folder has a process of its own."""

import os
import sys

import pytest
import torch

if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
    raise pytest.UsageError("Run tests/kernels/interpreted alone; Triton was loaded as a compiler already.")
os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def nan_filled_buffers(monkeypatch):
    """Whatever is allocated and not written shows up: as NaN, or as bytes that are none of the expected."""
    empty = torch.empty

    def filled(*shape, **keywords):
        made = empty(*shape, **keywords)
        return made.fill_(torch.nan if made.is_floating_point() else 0x7F)

    monkeypatch.setattr(torch, "empty", filled)


@pytest.fixture
def nan_filled_copies(monkeypatch):
    """The same for what is allocated like another tensor."""
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: empty_like(*a, **k).fill_(torch.nan))

# SPDX-License-Identifier: GPL-3.0-or-later
"""A fixture for operators that run in torch."""

import pytest
import torch


@pytest.fixture
def nan_filled_buffers(monkeypatch):
    """Whatever is allocated and not written shows up as NaN."""
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: empty_like(*a, **k).fill_(torch.nan))

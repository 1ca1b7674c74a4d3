# SPDX-License-Identifier: GPL-3.0-or-later
"""Which implementation a card takes, and what is said where it can take none."""

import importlib.util
import sys

import pytest
import torch

from kernels import devices, paths


@pytest.fixture
def card(monkeypatch):
    """A card of a generation, on a system, with or without Triton."""

    def put(capability=(12, 0), system="linux", with_triton=True):
        devices._of_card.cache_clear()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "This card")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(sys, "platform", system)
        if not with_triton:
            monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    yield put
    devices._of_card.cache_clear()


def test_every_operator_says_its_path_and_why_on_a_cpu():
    for name, (path, reason) in paths("cpu").items():
        assert path and reason, name


def test_cards_take_triton_where_they_can_and_torch_where_triton_is_not_made_for_them(card):
    card()
    assert devices.triton_path("cuda:0") == ("fused", "Triton's kernels run on This card")
    card(capability=(7, 5))
    assert devices.triton_path("cuda:0") == ("vectorized", "This card is older than Triton's kernels need")
    card(system="win32", with_triton=False)
    assert devices.triton_path("cuda:0") == ("vectorized", "Triton is made for Linux alone")


def test_an_environment_that_lost_triton_is_not_run_slowly_in_silence(card):
    card(with_triton=False)
    with pytest.raises(RuntimeError, match="need triton; set the backend up again"):
        devices.triton_path("cuda:0")

# SPDX-License-Identifier: GPL-3.0-or-later
"""Triton decides when a kernel is defined whether it interprets or compiles: this folder has a process of its own."""

import os
import sys

import pytest

if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
    raise pytest.UsageError("Run tests/kernels/interpreted alone; Triton was loaded as a compiler already.")
os.environ["TRITON_INTERPRET"] = "1"

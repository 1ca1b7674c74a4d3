# SPDX-License-Identifier: GPL-3.0-or-later
"""Triton's decorator chooses between interpreter and compiler when a kernel is defined: this folder has its own process."""

import os
import sys

import pytest

if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
    raise pytest.UsageError("Run tests/kernels/interpreted alone; Triton was loaded as a compiler already.")
os.environ["TRITON_INTERPRET"] = "1"

# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory this process takes."""

from __future__ import annotations

import os
import sys


def memory_mb() -> int:
    """Resident memory of this process in MiB; the peak so far where the system tells no more (macOS)."""
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
    if os.name == "nt":
        return _windows_memory_mb()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20


def _windows_memory_mb() -> int:
    import ctypes
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        _fields_ = [("cb", wintypes.DWORD), ("page_faults", wintypes.DWORD)] + [
            (name, ctypes.c_size_t)
            for name in (
                "peak_working_set",
                "working_set",
                "peak_paged_pool",
                "paged_pool",
                "peak_nonpaged_pool",
                "nonpaged_pool",
                "pagefile",
                "peak_pagefile",
            )
        ]

    counters = Counters(cb=ctypes.sizeof(Counters))
    kernel = ctypes.WinDLL("kernel32")
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    kernel.K32GetProcessMemoryInfo(
        wintypes.HANDLE(kernel.GetCurrentProcess()), ctypes.byref(counters), counters.cb
    )
    return counters.working_set >> 20

# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory this process takes, and how much there is."""

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


def available_gb() -> float:
    """Main memory that could be taken now, in 1e9 bytes; all of it where the system tells no more (macOS)."""
    if sys.platform == "linux":
        with open("/proc/meminfo", encoding="ascii") as file:
            sizes = {line.split(":")[0]: int(line.split()[1]) for line in file}
        return sizes["MemAvailable"] * 1024 / 1e9
    if os.name == "nt":
        return _windows_available_gb()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _windows_available_gb() -> float:
    import ctypes
    from ctypes import wintypes

    class Status(ctypes.Structure):
        _fields_ = [("length", wintypes.DWORD), ("load", wintypes.DWORD)] + [
            (name, ctypes.c_uint64)
            for name in (
                "total",
                "available",
                "total_page",
                "available_page",
                "total_v",
                "available_v",
                "extended",
            )
        ]

    status = Status(length=ctypes.sizeof(Status))
    ctypes.WinDLL("kernel32").GlobalMemoryStatusEx(ctypes.byref(status))
    return status.available / 1e9


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

# SPDX-License-Identifier: GPL-3.0-or-later
"""How much main memory there is to be had."""

from __future__ import annotations

import os
import sys


def available_gb() -> float:
    """Main memory that could be taken now, in 1e9 bytes; all of it where the system tells no more (macOS)."""
    if sys.platform == "linux":
        return _linux_gb("MemAvailable")
    return _windows_gb("available") if os.name == "nt" else total_gb()


def total_gb() -> float:
    """All main memory, in 1e9 bytes."""
    if os.name == "nt":
        return _windows_gb("total")
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _linux_gb(name: str) -> float:
    with open("/proc/meminfo", encoding="ascii") as file:
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in file}
    return sizes[name] * 1024 / 1e9


def _windows_gb(name: str) -> float:
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
    return getattr(status, name) / 1e9

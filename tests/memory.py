"""How much memory something takes at its worst."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def allocated_above(function: Callable[[], Any]) -> int:
    """Call a function and return the bytes that Python and NumPy hold for it at the worst moment."""
    gc.collect()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def peak_above(function: Callable[[], Any]) -> int:
    """Call a function and return the bytes in use at the worst moment, above those in use before.

    That is what Python and NumPy allocate; and on Linux the resident set, if it grows more: there the memory of Pillow
    and pandas counts, too, and that of the tracing, but not what is taken from room that was in use before.
    """
    gc.collect()
    if _CLEAR.exists():
        _CLEAR.write_text("5")  # the high-water mark begins anew (proc(5))
    before = _resident()
    tracemalloc.start()
    try:
        function()
        return max(tracemalloc.get_traced_memory()[1], _resident() - before)
    finally:
        tracemalloc.stop()


def _resident() -> int:
    if not _CLEAR.exists():
        return 0
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])

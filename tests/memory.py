"""How much memory something takes at its worst."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def peak_above(function: Callable[[], Any]) -> int:
    """Call a function and return the bytes in use at the worst moment, above those in use before.

    On Linux it is the resident set, in which the memory of Pillow and pandas counts too; elsewhere what Python and
    NumPy allocate.
    """
    gc.collect()
    if not _CLEAR.exists():
        return _traced(function)
    _CLEAR.write_text("5")  # the high-water mark begins anew (proc(5))
    before = _resident("VmHWM")
    function()
    return max(0, _resident("VmHWM") - before)


def _traced(function: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _resident(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return 1024 * int(line.split()[1])

"""On which core a helper wakes up: not on that of the thread which waits for its help.

Linux often wakes a thread on the core of the one that wakes it, expecting that one to sleep soon. Here both go on
computing, and until the system notices and moves one of them, some eight milliseconds later, two threads are as slow as
one: for a network that needs one millisecond that is the usual case, not the exception.

So a helper may not use its caller's core while it wakes up. Once it is awake it may use all of them again. Where the
system has no such calls nothing is done.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable

_here: Callable[[], int] | None = (
    getattr(ctypes.PyDLL(None), "sched_getcpu", None) if sys.platform == "linux" else None)


def keep_off(thread: int | None) -> set[int]:
    """Keep another thread, known by its native number, off the core of this one; return all cores it might use."""
    if _here is None or thread is None:
        return set()
    with contextlib.suppress(OSError):  # not allowed, or the cores have changed meanwhile: it is no more than a hint
        its = os.sched_getaffinity(thread)
        if others := its - {_here()}:
            os.sched_setaffinity(thread, others)
        return its
    return set()


def spread(cores: set[int]) -> None:
    """Let this thread use those cores, if any are given."""
    if cores:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cores)

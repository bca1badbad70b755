"""How many threads the kernels use: a number, and where it comes from."""

from __future__ import annotations

import operator
import os
import re

from minicnn.errors import ArgumentError

MOST = 1024  # more is a slip of the keyboard, and would be tried

_threads: int | None = None


def set_threads(n: int | None) -> None:
    """Set the number of threads; results have the same bits for every number.

    Parameters
    ----------
    n : int or None
        1 to 1024; None goes back to ``MINICNN_THREADS`` or else the cores this process may use.

    Raises
    ------
    ArgumentError
        If ``n`` is no whole number from 1 to 1024.
    """
    global _threads
    if n is None:
        _threads = None
        return
    try:
        number = operator.index(n)  # NumPy's integers too
    except TypeError:
        number = 0
    if isinstance(n, bool) or not 1 <= number <= MOST:
        raise ArgumentError(f"set_threads got {n!r}; expected a whole number from 1 to {MOST}, or None for the "
                            "default. One thread a core is best.")
    _threads = number


def get_threads() -> int:
    """Return the number of threads in force."""
    return _threads if _threads is not None else _default()


def _default() -> int:
    text = os.environ.get("MINICNN_THREADS")
    if not text:
        return _available_cores()
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= MOST:
        raise ArgumentError(f"MINICNN_THREADS is {text!r}; expected a whole number from 1 to {MOST}. Correct or "
                            "unset it.")
    return int(text)


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: respects taskset and containers' CPU sets
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

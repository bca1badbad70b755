"""How many threads the kernels use: a number, and where it comes from."""

from __future__ import annotations

import os

from minicnn.errors import ArgumentError

_threads: int | None = None


def set_threads(n: int | None) -> None:
    """Set the number of threads; results have the same bits for every number.

    Parameters
    ----------
    n : int or None
        At least 1; None goes back to ``MINICNN_THREADS`` or else the cores this process may use.

    Raises
    ------
    ArgumentError
        If ``n`` is not a positive integer.
    """
    global _threads
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
        raise ArgumentError(f"set_threads got {n!r}; expected a whole number of at least 1, or None for the default.")
    _threads = n


def get_threads() -> int:
    """Return the number of threads in force."""
    return _threads if _threads is not None else _default()


def _default() -> int:
    text = os.environ.get("MINICNN_THREADS")
    if not text:
        return _available_cores()
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentError(f"MINICNN_THREADS is {text!r}; expected a whole number of at least 1. Correct or unset it.")
    return int(text)


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: respects taskset and containers' CPU sets
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

"""Chance, made explicit: every random number follows from a key, and every key from a seed and a path.

There is no global random state in this library. Whoever needs chance names what it is for, for instance
``generator(seed, "shuffle", epoch)``, and gets the same numbers each time the same path is named. That is what makes
a run repeatable, independent of the number of threads and resumable in the middle.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream_key(*path: int | str) -> int:
    """Hash a path to the 64-bit key of its stream.

    Parameters
    ----------
    *path : int or str
        What the numbers are for, from the general to the special: seed, purpose, layer, step.

    Returns
    -------
    int
        In [0, 2**64); equal for equal paths, on every machine.
    """
    text = "/".join(f"{type(part).__name__[0]}{part}" for part in map(_plain, path))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def generator(*path: int | str) -> np.random.Generator:
    """Return NumPy's generator (Philox, counter-based: Salmon et al. 2011) at the start of a path's stream.

    Parameters
    ----------
    *path : int or str
        See :func:`stream_key`.

    Returns
    -------
    numpy.random.Generator
    """
    return np.random.Generator(np.random.Philox(key=stream_key(*path)))


def _plain(part: int | str) -> int | str:
    """Turn NumPy's integers into Python's, so that both name the same stream."""
    return part if isinstance(part, str) else int(part)

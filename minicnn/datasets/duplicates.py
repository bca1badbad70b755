"""Rows that are there twice: within a set of images, or in two sets that should have nothing in common.

An accuracy on images a network was trained on says how well it remembers. Rows are compared by a hash of all their
bytes (BLAKE2b, 128 bits: that two different images agree is out of the question).
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def digests(x: NDArray) -> list[bytes]:
    """Return a hash of each row (N, ...); rows of different size or type have different ones.

    Parameters
    ----------
    x : (N, ...) array

    Returns
    -------
    list of bytes
        16 bytes a row.
    """
    kind = f"{x.dtype.str} {x.shape[1:]}".encode()
    return [hashlib.blake2b(kind + np.ascontiguousarray(row).tobytes(), digest_size=16).digest() for row in x]


def repeated(x: NDArray) -> list[list[int]]:
    """Return the rows that are there more than once.

    Parameters
    ----------
    x : (N, ...) array

    Returns
    -------
    list of list of int
        Numbers of the rows that are the same, two at least in each list, in the order of the first of them.
    """
    groups: dict[bytes, list[int]] = {}
    for row, digest in enumerate(digests(x)):
        groups.setdefault(digest, []).append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def occurring(x: NDArray, among: NDArray) -> NDArray[np.intp]:
    """Return the numbers of the rows of x that occur among other rows.

    Parameters
    ----------
    x, among : (N, ...) and (M, ...) array

    Returns
    -------
    (K,) array of int
        In ascending order.
    """
    known = set(digests(among))
    return np.flatnonzero([digest in known for digest in digests(x)])

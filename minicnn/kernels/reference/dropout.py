"""Dropout: each value is dropped with probability ``rate``; those kept are scaled up, so that the mean stays.

Whether element i of image n is kept follows from 32 hashed bits of (key, n, i). Nothing is stored: backward computes
the same bits again. All arithmetic is modulo 2**32, as NumPy's uint32 arrays do it.

References
----------
Srivastava et al.: Dropout, 2014, JMLR 15. The hash is lowbias32 by Chris Wellons, "Prospecting for hash functions",
2018. Counter-based streams: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011.
"""

from __future__ import annotations

import numpy as np


def dropout(x: np.ndarray, rate: float, key: int) -> np.ndarray:
    """Drop values of x and scale the others by 1 / (1 - rate) (inverted dropout).

    Parameters
    ----------
    x : (N, ...) array
    rate : float
        In [0, 1): the expected share of values dropped.
    key : int
        In [0, 2**64): the same key gives the same mask.

    Returns
    -------
    (N, ...) array
    """
    kept = bits(x.shape, key) >= round(rate * 2**32)  # (N, ...)
    return np.ascontiguousarray(np.where(kept, x * x.dtype.type(1 / (1 - rate)), 0))


def dropout_backward(dout: np.ndarray, rate: float, key: int) -> np.ndarray:
    """Return dx: the mask and the factor of the forward pass, applied to dout.

    Parameters
    ----------
    dout : (N, ...) array
    rate, key
        As in the forward pass.

    Returns
    -------
    (N, ...) array
    """
    return dropout(dout, rate, key)


def bits(shape: tuple[int, ...], key: int) -> np.ndarray:
    """Return 32 random bits for each element of an array of that shape (N, ...), as uint32.

    With ``low`` and ``high`` the halves of the key: ``bits[n, i] = mix(mix(i + a[n]) ^ b[n])`` for the i-th element of
    image n, where ``a[n] = mix(low + n * 0x9E3779B9)`` and ``b[n] = mix(high ^ mix(a[n]))``.
    """
    N = shape[0]
    low, high = np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32)
    n = np.arange(N, dtype=np.uint32)[:, None]  # (N, 1)
    i = np.arange(int(np.prod(shape[1:])), dtype=np.uint32)  # (D,)
    a = mix(low + n * np.uint32(0x9E3779B9))  # (N, 1)
    b = mix(high ^ mix(a))  # (N, 1); of a itself, element 0 of every image would hash to 0 if high is 0
    return mix(mix(i + a) ^ b).reshape(shape)  # (N, D) -> (N, ...)


def mix(x: np.ndarray) -> np.ndarray:
    """Hash each uint32 of an array: every bit of the result depends on every bit of x."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)

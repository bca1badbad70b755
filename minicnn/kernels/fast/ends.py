"""Where a convolution's input comes from, where its result goes, and where the gradient of the result comes from.

``rows.py`` has what is done on the way; ``fused.py`` makes these from arrays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Source(NamedTuple):
    """Where a convolution's input (N, H, W, C) comes from: x, normalized, then pooled, then with some of it dropped."""

    x: np.ndarray        # (N, H, W, C), or (N, height, width, C) before pooling
    height: int          # of x
    width: int
    norm: int            # 1: normalize with the three vectors that follow
    near: np.ndarray     # (C)
    scale: np.ndarray
    shift: np.ndarray
    pool: int            # 1: 2x2 windows, whose winners before normalization go to ``largest`` (N, H, W, C)
    largest: np.ndarray
    drop: int            # 1: dropout, see dropout.py for the four that follow
    low: np.uint32
    high: np.uint32
    threshold: np.uint64
    keep: np.ndarray     # (1,) 1 / (1 - rate)


class Target(NamedTuple):
    """Where a convolution's result (N, OH, OW, F) goes: plus bias, cut at zero, pooled."""

    out: np.ndarray      # (N, OH, OW, F), or (N, OH // 2, OW // 2, F) after pooling
    bias: np.ndarray     # (F)
    relu: int            # 1: nothing below zero
    measure: int         # 1: gather the sums for batch normalization
    pool: int            # 1: 2x2 windows; the largest wins, or where ``scale`` is negative the smallest
    scale: np.ndarray    # (F) of the batch normalization that follows, otherwise ones
    places: np.ndarray   # as ``out``: which of the window won, 0 to 3; -1 if no gradient goes through. May be empty


class Gradient(NamedTuple):
    """The gradient dz (N, OH, OW, F) of a convolution's result, from that of what was made of it."""

    dout: np.ndarray     # (N, OH, OW, F), or (N, OH // 2, OW // 2, F) after pooling
    out: np.ndarray      # (N, OH, OW, F) what ``write_rows`` wrote
    relu: int            # 1: no gradient where out is not above zero
    norm: int            # 1: dz = dout * factor + (out - near) * slope + offset
    factor: np.ndarray   # (F)
    near: np.ndarray
    slope: np.ndarray
    offset: np.ndarray
    pool: int            # dout belongs to 2x2 windows; 1: ``winners`` has what won, 2: which, as in ``Target.places``;
    winners: np.ndarray  # (N, OH // 2, OW // 2, F); with 2, dz depends on nothing else

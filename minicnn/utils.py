"""Small helpers by Keras' names."""

from __future__ import annotations

import random

import numpy as np

from minicnn.arguments import whole_number
from minicnn.errors import ArgumentError, DataError

MOST_BYTES = 2**35  # of one-hot rows: more is a slip, and would be tried
_default_seed = 0


def set_random_seed(seed: int) -> None:
    """Set the seed of models made from now on without one of their own (0 unless set).

    As in Keras, ``random`` and ``numpy.random`` are seeded too: for a script's own use, the library draws from neither.

    Parameters
    ----------
    seed : int
        Less than 2**32.
    """
    global _default_seed
    seed = whole_number("set_random_seed: seed", seed, least=0)
    if seed >= 1 << 32:
        raise ArgumentError(f"set_random_seed: seed is {seed}; expected less than 2**32, as numpy.random does.")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    _default_seed = seed


def default_seed() -> int:
    """Return the seed models get that are made without one."""
    return _default_seed


def to_categorical(x: np.ndarray, num_classes: int | None = None) -> np.ndarray:
    """Turn class numbers into one-hot rows.

    Parameters
    ----------
    x : ndarray of int, any shape
        A last axis of size 1 is dropped.
    num_classes : int, optional
        K; default ``x.max() + 1``.

    Returns
    -------
    ndarray of float32, shape (..., K)

    Raises
    ------
    DataError
        If a number is negative, not whole, or not below K, or the rows would take more than ``MOST_BYTES``.
    ArgumentError
        If ``num_classes`` is no whole number of at least 1.
    """
    labels = np.asarray(x)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.size == 0 and num_classes is None:
        raise DataError("to_categorical got an empty array; give num_classes.")
    if labels.dtype.kind not in "iufb":
        raise DataError(f"to_categorical got labels of type {labels.dtype}; expected class numbers.")
    largest = labels.max() + 1 if num_classes is None else whole_number("to_categorical: num_classes", num_classes)
    K = int(largest) if np.isfinite(largest) else 0
    if labels.size * K * 4 > MOST_BYTES:
        raise DataError(f"to_categorical got {labels.size:,} labels for {K:,} classes, rows of "
                        f"{labels.size * K * 4:.3g} bytes; expected at most {MOST_BYTES:.3g}. Correct the labels.")
    if not np.all((labels >= 0) & (labels < K) & (labels == np.floor(labels))):
        raise DataError(f"to_categorical got labels from {labels.min()} to {labels.max()}; expected whole numbers "
                        f"from 0 to {K - 1}.")
    return (labels[..., None] == np.arange(K)).astype(np.float32)       # (..., K)


def normalize(x: np.ndarray, axis: int = -1, order: int = 2) -> np.ndarray:
    """Divide by the norms along an axis; what is zero throughout stays so.

    Parameters
    ----------
    x : ndarray
    axis : int
    order : int
        Of the norm, as in ``numpy.linalg.norm``.

    Returns
    -------
    ndarray of the shape of ``x``
    """
    x = np.asarray(x)
    norms = np.linalg.norm(x, order, axis, keepdims=True)
    return x / np.where(norms == 0, 1, norms)

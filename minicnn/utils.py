"""Small helpers by Keras' names."""

from __future__ import annotations

import numpy as np

from minicnn.arguments import whole_number
from minicnn.errors import DataError

_default_seed = 0


def set_random_seed(seed: int) -> None:
    """Set the seed of models made from now on without one of their own (0 unless set).

    Parameters
    ----------
    seed : int
    """
    global _default_seed
    _default_seed = whole_number("set_random_seed: seed", seed, least=0)


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
        If a number is negative, not whole, or not below K.
    """
    labels = np.asarray(x)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.size == 0 and num_classes is None:
        raise DataError("to_categorical got an empty array; give num_classes.")
    K = int(labels.max()) + 1 if num_classes is None else num_classes
    if not np.all((labels >= 0) & (labels < K) & (labels == np.floor(labels))):
        raise DataError(f"to_categorical got labels from {labels.min()} to {labels.max()}; expected whole numbers "
                        f"from 0 to {K - 1}.")
    return np.eye(K, dtype=np.float32)[labels.astype(np.intp)]          # (..., K)

"""What a count of right answers says: the confusion matrix, and how far an accuracy can be trusted.

A test set is a sample. 9,920 right of 10,000 does not mean 99.20 % for all digits ever to be written, but somewhere
between 99.01 % and 99.36 %; the interval below says where.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minicnn.errors import ArgumentError, DataError, ShapeError


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval for a share of right answers.

    With ``p = correct / total`` and ``z`` the normal quantile of the confidence (1.96 for 95 %)::

        (p + z²/2n ± z * sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)

    Unlike ``p ± z * sqrt(p(1-p)/n)`` it stays inside [0, 1] and is not empty at ``p = 1``.

    Parameters
    ----------
    correct, total : int
        Right answers, and all answers; ``0 <= correct <= total``, ``total >= 1``.
    confidence : float
        How often such intervals contain the true share; in (0, 1).

    Returns
    -------
    (low, high) : tuple of float

    Raises
    ------
    ArgumentError
        If the counts or the confidence make no sense.

    References
    ----------
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), 209-212.
    """
    if total < 1 or not 0 <= correct <= total:
        raise ArgumentError(f"wilson_interval got {correct} right of {total}; expected 0 <= correct <= total and "
                            "total >= 1. Pass counts, not shares.")
    if not 0 < confidence < 1:
        raise ArgumentError(f"wilson_interval got confidence={confidence}; expected a share in (0, 1), such as 0.95.")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = correct / total
    centre = p + z * z / (2 * total)
    half_width = z * (p * (1 - p) / total + z * z / (4 * total * total)) ** 0.5
    scale = 1 + z * z / total
    return max(0.0, (centre - half_width) / scale), min(1.0, (centre + half_width) / scale)


def confusion_matrix(y_true: ArrayLike, y_pred: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Count how often each class was taken for each.

    Parameters
    ----------
    y_true, y_pred : array_like of int, shape (N,)
        True and predicted labels in [0, classes).
    classes : int
        Number of classes, K.

    Returns
    -------
    matrix : ndarray of int64, shape (K, K)
        ``matrix[i, j]``: how many of class ``i`` were predicted to be ``j``; rows are the truth.

    Raises
    ------
    ShapeError
        If the labels are not two vectors of equal length.
    DataError
        If a label is no integer, or outside [0, classes).
    """
    true, predicted = np.asarray(y_true), np.asarray(y_pred)
    if true.ndim != 1 or true.shape != predicted.shape:
        raise ShapeError(f"confusion_matrix got labels of shapes {true.shape} and {predicted.shape}; expected two "
                         "vectors of equal length. Of probabilities (N, K), take .argmax(axis=1).")
    for name, labels in (("y_true", true), ("y_pred", predicted)):
        if not np.issubdtype(labels.dtype, np.integer):
            raise DataError(f"confusion_matrix got {name} of type {labels.dtype}; expected integers, the "
                            "numbers of the classes.")
        if labels.size and (labels.min() < 0 or labels.max() >= classes):
            raise DataError(f"confusion_matrix got {name} from {labels.min()} to {labels.max()}; expected 0 to "
                            f"{classes - 1}. Pass classes={int(labels.max()) + 1}, or correct the labels.")
    cell = true.astype(np.int64) * classes + predicted.astype(np.int64)  # uint8 labels would overflow
    return np.bincount(cell, minlength=classes * classes).reshape(classes, classes).astype(np.int64)

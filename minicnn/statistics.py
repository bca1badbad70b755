"""What a count of right answers says: the confusion matrix, how far an accuracy can be trusted, which of two is better.

A test set is a sample. 9,920 right of 10,000 does not mean 99.20 % for all digits ever to be written, but somewhere
between 99.01 % and 99.36 %; the interval below says where.
"""

from __future__ import annotations

import math
from fractions import Fraction
from statistics import NormalDist
from typing import NamedTuple

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
    if not all(isinstance(count, (int, float, np.number)) for count in (correct, total)) or (
            total < 1 or not 0 <= correct <= total):
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


def precision_recall_f1(matrix: ArrayLike) -> NDArray[np.float64]:
    """Return how each class fares: of those called so, how many are; of those that are, how many were found.

    With the counts of one class, ``precision = right / called so``, ``recall = right / all that are`` and
    ``F1 = 2 * right / (called so + all that are)``, the harmonic mean of the two.

    Parameters
    ----------
    matrix : array_like of int, shape (K, K)
        As from :func:`confusion_matrix`: rows are the truth.

    Returns
    -------
    ndarray of float64, shape (3, K)
        Precision, recall and F1; NaN where there is nothing to divide by.

    References
    ----------
    C. J. van Rijsbergen, "Information Retrieval", 2nd edition (1979), chapter 7.
    """
    counts = np.asarray(matrix)
    right, called, there = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0: a class that is absent, or never predicted
        return np.array([right / called, right / there, 2 * right / (called + there)])


class PairedComparison(NamedTuple):
    """Two classifiers on the same samples, see :func:`mcnemar`.

    Attributes
    ----------
    only_first, only_second : int
        How many samples only the one, only the other got right.
    p_value : float
        How often two equally good ones would disagree at least so unevenly.
    """

    only_first: int
    only_second: int
    p_value: float

    @property
    def disagreements(self) -> int:
        """On how many samples just one of them is right."""
        return self.only_first + self.only_second

    def can_be_told_apart(self, level: float = 0.05) -> bool:
        """Whether chance alone would show such a difference less often than ``level``."""
        return self.p_value < level


def mcnemar(first_right: ArrayLike, second_right: ArrayLike) -> PairedComparison:
    """Ask whether one of two classifiers is better, by the samples on which just one of them is right.

    Of ``n`` such samples, equally good ones would each win ``n/2``, up to the chance of ``n`` throws of a coin. The
    p-value is that of the binomial distribution, exact whatever ``n``::

        p = min(1, 2 * sum over k = 0 ... min(wins) of C(n, k) / 2^n)

    Samples that both get right, or both wrong, tell nothing about who is better. Comparing two accuracies as if they
    came from different samples would waste that: two intervals may overlap where this test is sure.

    Parameters
    ----------
    first_right, second_right : array_like of bool, shape (N,)
        Whether each got sample ``n`` right.

    Returns
    -------
    PairedComparison

    Raises
    ------
    ShapeError
        If they are not two vectors of equal length.

    References
    ----------
    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), 153-157.
    """
    first, second = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    if first.ndim != 1 or first.shape != second.shape:
        raise ShapeError(f"mcnemar got arrays of shapes {first.shape} and {second.shape}; expected two vectors of "
                         "equal length, one entry for each sample that both were given.")
    wins = int((first & ~second).sum()), int((second & ~first).sum())
    n = sum(wins)
    tail = sum(math.comb(n, k) for k in range(min(wins) + 1))   # whole numbers: exact for any n
    return PairedComparison(*wins, min(1.0, float(Fraction(2 * tail, 2 ** n))))

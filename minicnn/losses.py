r"""Losses: cross-entropy for labels and for distributions.

With targets t (a distribution over K classes) and predicted probabilities p, the loss of one sample is

.. math:: L = -\sum_k t_k \log p_k

If p is the softmax of logits z, value and gradient are computed from the logits in one step
(``kernels.softmax_cross_entropy``): :math:`dz = p - t`, exact however sure the network is. The model does so whenever
its last layer ends in a softmax; the formula for given probabilities below is for all other networks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn import kernels
from minicnn.arguments import by_name, real_number
from minicnn.errors import DataError, ShapeError, refuse_unsupported

# Keras' fuzz: probabilities are clipped to [1e-7, 1 - 1e-7] before the logarithm.
EPSILON = 1e-7


class CrossEntropy:
    """What both cross-entropies share: everything but the form of the labels.

    Parameters
    ----------
    from_logits : bool
        Whether predictions are logits (before softmax) rather than probabilities.
    label_smoothing : float
        In [0, 1): targets become ``(1 - s) * t + s / K`` (Szegedy et al. 2016, section 7).
    """

    name = "cross_entropy"

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0, **unsupported: Any) -> None:
        refuse_unsupported(type(self).__name__, unsupported, {
            "axis": (-1,), "reduction": ("sum_over_batch_size",), "dtype": (None,), "ignore_class": (None,),
            "name": (self.name, None)})
        self.from_logits = bool(from_logits)
        self.label_smoothing = real_number(f"{type(self).__name__}: label_smoothing", label_smoothing, 0, below=1)

    def check(self, y: np.ndarray, classes: int) -> None:
        """Raise ShapeError or DataError, with row numbers, if ``y`` are no labels for ``classes`` outputs."""
        raise NotImplementedError

    def one_hot(self, y: np.ndarray, classes: int) -> np.ndarray:
        """Return labels that passed ``check`` as distributions (N, K), float64."""
        raise NotImplementedError

    def targets(self, y: np.ndarray, classes: int, dtype: Any) -> np.ndarray:
        """Return what the network should have said: distributions (N, K), smoothed if asked for."""
        self.check(y, classes)
        t = self.one_hot(y, classes)                                        # (N, K)
        if self.label_smoothing:
            t = (1 - self.label_smoothing) * t + self.label_smoothing / classes
        return t.astype(dtype, copy=False)

    def forward(self, targets: np.ndarray, predicted: np.ndarray, from_logits: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the losses (N) and the probabilities (N, K) of predictions (N, K)."""
        if from_logits:
            return kernels.softmax_cross_entropy(predicted, targets)
        p = predicted / predicted.sum(axis=1, keepdims=True)                # (N, K)
        return -(targets * np.log(np.clip(p, EPSILON, 1 - EPSILON))).sum(axis=1), p

    def backward(self, targets: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, weights: np.ndarray,
                 from_logits: bool) -> np.ndarray:
        """Return the gradient of ``sum(weights * losses)`` with respect to the predictions (N, K)."""
        if from_logits:
            return kernels.softmax_cross_entropy_backward(probabilities, targets, weights)
        inside = (probabilities > EPSILON) & (probabilities < 1 - EPSILON)  # the clip passes no gradient outside
        dp = np.where(inside, -targets / np.clip(probabilities, EPSILON, 1), 0) * weights[:, None]
        through_sum = (dp * probabilities).sum(axis=1, keepdims=True)       # p = predicted / sum(predicted)
        return ((dp - through_sum) / predicted.sum(axis=1, keepdims=True)).astype(predicted.dtype, copy=False)

    def __call__(self, y_true: np.ndarray, y_pred: np.ndarray) -> float:
        """Return the mean loss of predictions (N, K) for labels."""
        return float(self.of_each(y_true, y_pred).mean())

    def of_each(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """Return the loss (N) of each of the predictions (N, K) for labels."""
        y_pred = np.asarray(y_pred)
        if not np.issubdtype(y_pred.dtype, np.floating):
            y_pred = y_pred.astype(np.float32)
        targets = self.targets(np.asarray(y_true), y_pred.shape[1], y_pred.dtype)
        return self.forward(targets, y_pred, self.from_logits)[0]

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"from_logits": self.from_logits, "label_smoothing": self.label_smoothing}


class SparseCategoricalCrossentropy(CrossEntropy):
    """Cross-entropy for labels that are class numbers: y (N) or (N, 1), whole numbers in 0..K-1."""

    name = "sparse_categorical_crossentropy"

    def __init__(self, from_logits: bool = False, **unsupported: Any) -> None:
        super().__init__(from_logits, 0.0, **unsupported)

    def check(self, y: np.ndarray, classes: int) -> None:
        """See CrossEntropy."""
        if y.ndim == 2 and y.shape[1] == classes and classes > 1:
            raise ShapeError(f"The labels have shape {y.shape}, one column a class; {self.name} expects class numbers "
                             f"of shape (N,). Use loss='categorical_crossentropy', or y.argmax(axis=1).")
        if y.ndim != 1 and y.shape != (len(y), 1):
            raise ShapeError(f"The labels have shape {y.shape}; {self.name} expects class numbers of shape (N,). For "
                             f"one column a class ({classes} here) use loss='categorical_crossentropy'.")
        wrong = ~((y >= 0) & (y < classes) & (y == np.floor(y)))            # true for NaN as well
        if wrong.any():
            rows = np.flatnonzero(wrong.any(axis=tuple(range(1, y.ndim))))
            raise DataError(f"The label {y[rows[0]].item()!r} in {_rows(rows)} is out of range; expected whole numbers "
                            f"from 0 to {classes - 1}, because the network has {classes} outputs. Correct the labels "
                            f"or the number of units of the last layer.")

    def one_hot(self, y: np.ndarray, classes: int) -> np.ndarray:
        """See CrossEntropy."""
        return np.eye(classes)[y.reshape(-1).astype(np.intp)]               # (N, K)

    def config(self) -> dict[str, Any]:
        """See CrossEntropy."""
        return {"from_logits": self.from_logits}


class CategoricalCrossentropy(CrossEntropy):
    """Cross-entropy for labels that are distributions, such as one-hot rows: y (N, K)."""

    name = "categorical_crossentropy"

    def check(self, y: np.ndarray, classes: int) -> None:
        """See CrossEntropy."""
        if y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1 and classes > 1):
            raise ShapeError(f"The labels have shape {y.shape}, one number a sample; {self.name} expects one column a "
                             f"class, (N, {classes}). Use loss='sparse_categorical_crossentropy', or "
                             f"minicnn.utils.to_categorical(y, {classes}).")
        if y.shape != (len(y), classes):
            raise ShapeError(f"The labels have shape {y.shape}; expected (N, {classes}), because the network has "
                             f"{classes} outputs.")
        wrong = ~((y >= 0) & (y <= 1))                                      # true for NaN as well
        if wrong.any():
            rows = np.flatnonzero(wrong.any(axis=1))
            raise DataError(f"The labels in {_rows(rows)} are no probabilities; expected numbers in [0, 1].")

    def one_hot(self, y: np.ndarray, classes: int) -> np.ndarray:
        """See CrossEntropy."""
        return y.astype(np.float64)


def categorical_crossentropy(y_true: np.ndarray, y_pred: np.ndarray, from_logits: bool = False,
                             label_smoothing: float = 0.0) -> np.ndarray:
    """Return the loss (N) of each of the predictions (N, K) for labels (N, K); see CategoricalCrossentropy."""
    return CategoricalCrossentropy(from_logits, label_smoothing).of_each(y_true, y_pred)


def sparse_categorical_crossentropy(y_true: np.ndarray, y_pred: np.ndarray, from_logits: bool = False) -> np.ndarray:
    """Return the loss (N) of each of the predictions (N, K) for labels (N); see SparseCategoricalCrossentropy."""
    return SparseCategoricalCrossentropy(from_logits).of_each(y_true, y_pred)


LOSSES: dict[str, type[CrossEntropy]] = {
    loss.name: loss for loss in (CategoricalCrossentropy, SparseCategoricalCrossentropy)}


def get(identifier: Any) -> CrossEntropy:
    """Return the loss of a name, such as ``categorical_crossentropy`` or ``CategoricalCrossentropy``.

    Parameters
    ----------
    identifier : str, CrossEntropy, class or function
        A name, a function or class of this page, or the object itself.

    Raises
    ------
    ArgumentError
        For an unknown name.
    """
    if isinstance(identifier, CrossEntropy):
        return identifier
    for name, loss in LOSSES.items():
        if identifier in (loss, loss.__name__) or identifier is globals()[name]:
            return loss()
    return by_name("loss", identifier, LOSSES)()


def _rows(rows: np.ndarray) -> str:
    shown = ", ".join(map(str, rows[:5].tolist()))
    return f"row {shown}" if len(rows) == 1 else f"{len(rows)} rows ({shown}{', ...' if len(rows) > 5 else ''})"

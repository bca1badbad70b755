"""Metrics: numbers to watch that training does not follow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minicnn.arguments import by_name

# A metric takes labels and predictions (N, K) and returns one number per sample, (N).
Metric = Callable[[np.ndarray, np.ndarray], np.ndarray]


def sparse_categorical_accuracy(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Return 1 where the largest of the K predictions (N, K) is that of the class number (N), else 0."""
    return (np.asarray(y_true).reshape(-1) == np.argmax(y_pred, axis=-1)).astype(np.float64)


def categorical_accuracy(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Return 1 where labels (N, K) and predictions (N, K) have their largest value in the same column, else 0."""
    return (np.argmax(y_true, axis=-1) == np.argmax(y_pred, axis=-1)).astype(np.float64)


METRICS: dict[str, Metric] = {f.__name__: f for f in (categorical_accuracy, sparse_categorical_accuracy)}


def get(identifier: str | Metric, sparse_labels: bool) -> tuple[str, Metric]:
    """Return the name in the logs and the function of a metric.

    Parameters
    ----------
    identifier : str or callable
        ``accuracy`` follows the loss: class numbers or one column a class.
    sparse_labels : bool
        Whether the labels are class numbers.

    Raises
    ------
    ArgumentError
        For an unknown name.
    """
    if callable(identifier):
        return getattr(identifier, "__name__", type(identifier).__name__), identifier
    follows_loss = sparse_categorical_accuracy if sparse_labels else categorical_accuracy
    return str(identifier), by_name("metric", identifier, {"accuracy": follows_loss, **METRICS})

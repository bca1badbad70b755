"""Metrics: numbers to watch that training does not follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

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


# For all of these, larger is better.
METRICS: dict[str, Metric] = {f.__name__: f for f in (categorical_accuracy, sparse_categorical_accuracy)}


class MeanMetric:
    """A function of this page as an object: with a name of its own, or to take the mean over several batches.

    Parameters
    ----------
    name : str, optional
        In the logs; by default that of the function.
    """

    function: ClassVar[Any]

    def __init__(self, name: str | None = None) -> None:
        self.name = name or type(self).function.__name__
        self._means = Means()

    def update_state(self, y_true: np.ndarray, y_pred: np.ndarray) -> None:
        """Take in labels and predictions (N, K) of a batch."""
        values = type(self).function(y_true, y_pred)
        self._means.add({self.name: float(np.mean(values))}, len(values))

    def result(self) -> float:
        """Return the mean over all samples so far, 0 without any."""
        return self._means.values()[self.name] if self._means.count else 0.0

    def reset_state(self) -> None:
        """Forget all samples."""
        self._means = Means()

    def __call__(self, y_true: np.ndarray, y_pred: np.ndarray) -> float:
        """Take in a batch and return the mean over all samples so far."""
        self.update_state(y_true, y_pred)
        return self.result()


class CategoricalAccuracy(MeanMetric):
    """See ``categorical_accuracy``."""

    function = staticmethod(categorical_accuracy)


class SparseCategoricalAccuracy(MeanMetric):
    """See ``sparse_categorical_accuracy``."""

    function = staticmethod(sparse_categorical_accuracy)


def get(identifier: Any, sparse_labels: bool) -> tuple[str, Metric]:
    """Return the name in the logs and the function of a metric.

    Parameters
    ----------
    identifier : str, MeanMetric, callable or (str, str)
        ``accuracy`` and ``acc`` follow the loss, class numbers or one column a class, and are logged as they are
        written. Two strings: the name in the logs, the name of the metric.
    sparse_labels : bool
        Whether the labels are class numbers.

    Raises
    ------
    ArgumentError
        For an unknown name.
    """
    if isinstance(identifier, type) and issubclass(identifier, MeanMetric):
        identifier = identifier()
    if isinstance(identifier, MeanMetric):
        return identifier.name, type(identifier).function
    if callable(identifier):
        return getattr(identifier, "__name__", type(identifier).__name__), identifier
    if isinstance(identifier, (tuple, list)) and len(identifier) == 2:
        return str(identifier[0]), by_name("metric", identifier[1], METRICS)
    follows_loss = sparse_categorical_accuracy if sparse_labels else categorical_accuracy
    if isinstance(identifier, str) and identifier.lower() in ("accuracy", "acc"):
        return identifier, follows_loss
    return str(identifier), by_name("metric", identifier, {"accuracy": follows_loss, **METRICS})


def identifier_of(name: str, metric: Metric) -> str | list[str] | None:
    """Return what ``get`` makes this metric of, in types JSON knows; None for a function of one's own."""
    if METRICS.get(getattr(metric, "__name__", "")) is not metric:
        return None
    return name if name.lower() in ("accuracy", "acc") or name in METRICS else [name, metric.__name__]


class Means:
    """Means of logged values over the samples of several batches.

    Attributes
    ----------
    count : int
        Samples so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, float] = {}

    def add(self, logs: Mapping[str, float], samples: int) -> None:
        """Take in the means of a batch."""
        self.count += samples
        for name, value in logs.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * samples

    def values(self) -> dict[str, float]:
        """Return the means so far."""
        return {name: total / self.count for name, total in self.sums.items()}

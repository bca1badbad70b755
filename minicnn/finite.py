"""Numbers that went wrong: found before they reach a weight, and traced to the layer they come from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from minicnn import kernels
from minicnn.errors import TrainingError
from minicnn.layers import Layer

TOGETHER = 1 << 11  # values of an array, at most, that is looked at together with others: most of it would be calling
REMEDY = ("The step was not made: the weights are those before it. Try a smaller learning rate, and look for large "
          "numbers in the data.")


def all_finite(arrays: Iterable[np.ndarray]) -> bool:
    """Tell whether no value is NaN or infinite."""
    small = []
    for array in arrays:
        if array.size <= TOGETHER:
            small.append(array)
        elif not kernels.all_finite(array):
            return False
    return not small or kernels.all_finite(np.concatenate(small, axis=None))


class Kept:
    """What layers learn in ``forward`` (moving averages), to be put back if the step fails."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._state = [(layer.state, key, array, array.copy())
                       for layer in layers for key, array in layer.state.items()]

    def put_back(self) -> None:
        """Give the layers back what they had."""
        for state, key, array, before in self._state:
            array[...] = before
            state[key] = array


def error(layers: Sequence[Layer], x: np.ndarray, loss: float, gradients: Mapping[str, np.ndarray],
          step: int) -> TrainingError:
    """Return the error that names layer, tensor and step.

    Parameters
    ----------
    layers : sequence of Layer
        After the failed step, its moving averages put back.
    x : ndarray
        The batch (N, ...).
    loss : float
    gradients : mapping of str to ndarray
        By names such as ``conv2d/kernel``, in the order of the layers.
    step : int
        Counted from 1.
    """
    found = _weights(layers) or ("" if math.isfinite(loss) else _outputs(layers, x)) or _gradients(gradients)
    said = f"the loss is {loss}" + (f": {found}" if found else "") if not math.isfinite(loss) else found
    return TrainingError(f"Step {step}: {said}; expected finite numbers. {REMEDY}")


def _weights(layers: Sequence[Layer]) -> str:
    for layer in layers:
        for key, array in layer.weights.items():
            if wrong := _count(array):
                return f"the weight {key} of {layer} has {wrong}"
    return ""


def _outputs(layers: Sequence[Layer], x: Any) -> str:
    """Go forward once more, layer by layer, to the first whose output is wrong."""
    kept = Kept(layers)
    try:
        for layer in layers:
            with np.errstate(all="ignore"):
                x = layer.forward(x, training=True)
            if wrong := _count(x):
                return f"the output of {layer} has {wrong}"
    finally:
        kept.put_back()
    return ""


def _gradients(gradients: Mapping[str, np.ndarray]) -> str:
    """Look from the loss backwards: what goes wrong in one layer goes wrong in all before it."""
    for name, array in reversed(list(gradients.items())):
        if wrong := _count(array):
            layer, _, key = name.rpartition("/")
            return f"the gradient of {key} of layer {layer!r} has {wrong}"
    return ""


def _count(array: np.ndarray) -> str:
    finite = np.isfinite(array)
    wrong = int(np.size(finite) - np.count_nonzero(finite))
    return f"{wrong:,} NaN or infinite value{'s' * (wrong > 1)} of {finite.size:,}" if wrong else ""

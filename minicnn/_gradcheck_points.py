"""Where a gradient is checked: at inputs and weights that hide no mistake; see ``minicnn/gradcheck.py``.

A new layer is full of zeros and ones. What is multiplied by a gamma of ones may as well not be, what is added to a bias
of zeros neither, and blank images under blank biases put every ReLU on its kink. So the copies that are checked get
numbers that differ from each other, near those they had.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicnn.arguments import whole_number
from minicnn.batches import as_arrays
from minicnn.errors import ShapeError
from minicnn.layers.base import Layer


def prepare(layers: Sequence[Layer], nudge: float, rng: np.random.Generator) -> None:
    """Make copies fit for the check: chance held, gradients of inputs wanted, no weight that hides a mistake.

    Parameters
    ----------
    layers : sequence of Layer
        Built, float64; their weights are changed in place.
    nudge : float
        Zeros become numbers up to this, positive in state; other weights that are all equal are divided by 1 to
        1 + ``nudge``, so that a variance stays positive and a share below 1. With 0 all stay where they are.
    rng : numpy.random.Generator
    """
    for layer in layers:
        layer.step = 1
        layer.needs_input_gradient = True
        for array in layer.params.values():
            signs = rng.choice([-1.0, 1.0], array.shape)
            shifts = rng.uniform(nudge / 2, nudge, array.shape)
            array[...] = np.where(array == 0, signs * shifts, _spread(array, shifts))
        for array in layer.state.values():
            shifts = rng.uniform(nudge / 2, nudge, array.shape)
            array[...] = _spread(array, shifts) if array.any() else shifts


def _spread(array: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Return an array whose entries were all equal with entries that differ, of the same sign and no larger."""
    return array / (1 + shifts) if array.size and (array == array.flat[0]).all() else array


def drawn(layer: Layer, input_shape: Sequence[int] | None, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """Return inputs (N, ...) drawn for a layer."""
    if input_shape is None and layer.input_shape is None:
        raise ShapeError(f"check_layer does not know the input shape of {layer}: it is not built. Give "
                         f"input_shape, such as (7, 5, 2), without the batch axis.")
    if isinstance(input_shape, (int, np.integer)):
        raise ShapeError(f"check_layer got input_shape={input_shape}; expected a tuple. Write ({input_shape},).")
    shape = layer.input_shape if input_shape is None else layer.check_shape(input_shape)
    return rng.standard_normal((whole_number("check_layer: batch_size", batch_size), *(shape or ())))


def moved(x: Any, nudge: float, rng: np.random.Generator) -> np.ndarray:
    """Return a caller's inputs, a little beside where they are."""
    x = as_arrays(x).x.astype(np.float64)
    return x + rng.uniform(-nudge, nudge, x.shape)

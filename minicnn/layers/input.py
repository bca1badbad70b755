"""Input: says what shape the data has; computes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.errors import ArgumentError
from minicnn.layers.base import Layer, Shape


class Input(Layer):
    """Declare the shape of one input: ``Sequential([Input((28, 28, 1)), ...])``.

    Parameters
    ----------
    shape : tuple of int
        Without the batch axis. Keras' ``shape=``; ``input_shape=`` says the same.
    **base
        ``name``, ``dtype``, see Layer.
    """

    unsupported = {"batch_size": (None,), "sparse": (None, False), "ragged": (None, False), "batch_shape": (None,),
                   "tensor": (None,), "optional": (False,)}

    def __init__(self, shape: Shape | None = None, **base: Any) -> None:
        if shape is not None:
            base["input_shape"] = shape
        super().__init__(**base)
        if self.declared_input_shape is None:
            raise ArgumentError("Input got no shape; expected the shape of one input, such as Input((28, 28, 1)).")
        self.build(self.declared_input_shape)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return ``x`` as it is, its shape checked."""
        x = self.check_input(x)
        self.keep(training)
        return x

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return ``dout`` as it is."""
        self.kept()
        self.grads = {}
        return self.check_gradient(dout)

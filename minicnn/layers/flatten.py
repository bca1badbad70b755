"""Flatten: each image becomes one row of numbers."""

from __future__ import annotations

import math

import numpy as np

from minicnn.layers.base import Layer, Shape


class Flatten(Layer):
    """Reshape ``(N, H, W, C)`` to ``(N, H*W*C)``, in the order rows, columns, channels.

    Its gradient is the same numbers in the shape of the input. No parameters.
    """

    unsupported = {"data_format": (None, "channels_last")}

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """See Layer."""
        return (math.prod(input_shape),)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return ``x`` of any shape (N, ...) as (N, D)."""
        x = self.check_input(x)
        self.keep(training, shape=x.shape)
        return x.reshape(len(x), -1)                            # (N, D)

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return ``dout`` (N, D) in the shape of the input."""
        shape = self.kept("shape")
        self.grads = {}
        return self.check_gradient(dout).reshape(shape)         # (N, H, W, C)

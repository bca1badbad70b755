"""LeakyReLU: a ReLU that lets a small part of negative numbers through."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from minicnn import kernels
from minicnn.arguments import real_number
from minicnn.layers.base import Layer


class LeakyReLU(Layer):
    """``x`` where it is positive, else ``negative_slope * x``, so that no unit's gradient is ever zero.

    The gradient is 1 or ``negative_slope``; at 0 the latter. Shapes stay. No parameters.

    Parameters
    ----------
    negative_slope : float
        At least 0. Keras' older name of it, ``alpha``, is taken with a DeprecationWarning.
    **base
        ``name``, ``dtype``, ``input_shape``, see Layer.

    References
    ----------
    Maas, Hannun, Ng (2013), "Rectifier nonlinearities improve neural network acoustic models", eq. 2.
    """

    def __init__(self, negative_slope: float = 0.3, **base: Any) -> None:
        if "alpha" in base:
            warnings.warn("LeakyReLU's alpha is called negative_slope now.", DeprecationWarning, stacklevel=2)
            negative_slope = base.pop("alpha")
        super().__init__(**base)
        self.negative_slope = real_number("LeakyReLU: negative_slope", negative_slope)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the function of ``x`` (any shape)."""
        out = kernels.leaky_relu(self.check_input(x), self.negative_slope)
        self.keep(training, out=out)
        return out

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return dx, of the shape of ``dout``."""
        out = self.kept("out")
        self.grads = {}
        return kernels.leaky_relu_backward(self.check_gradient(dout), out, self.negative_slope)

    def config(self) -> dict[str, Any]:
        """See Layer."""
        return super().config() | {"negative_slope": self.negative_slope}

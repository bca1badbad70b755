"""Activation: an activation function as a layer of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.activations import ActivationFunction
from minicnn.layers.activated import ActivatedLayer


class Activation(ActivatedLayer):
    """Apply an activation function to every number (softmax: over the last axis).

    The formulas of value and gradient stand in ``minicnn/activations.py``. No parameters; shapes stay.

    Parameters
    ----------
    activation : str or ActivationFunction
        ``relu``, ``softmax``, ``sigmoid``, ``tanh`` or ``linear``.
    **base
        ``name``, ``dtype``, ``input_shape``, see Layer.
    """

    def __init__(self, activation: str | ActivationFunction, **base: Any) -> None:
        super().__init__(activation, **base)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the activation of ``x`` (any shape)."""
        x = self.check_input(x)
        out = self.activate(x)
        self.keep(training, out=out)
        return out

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return dx, of the shape of ``dout``."""
        out = self.kept("out")
        self.grads = {}
        return self.activation_gradient(self.check_gradient(dout), out)

"""Activation functions by name; each knows its value and, from its *output*, its gradient.

================  =====================================  ==================================================
name              value                                  gradient, with a the output
================  =====================================  ==================================================
``linear``        a = z                                  dz = da
``relu``          a = max(z, 0)                          dz = da where a > 0, else 0 (so ReLU'(0) = 0)
``sigmoid``       a = 1 / (1 + exp(-z))                  dz = da a (1 - a)
``tanh``          a = tanh(z)                            dz = da (1 - a²)
``softmax``       a_k = exp(z_k) / sum_j exp(z_j)        dz_k = a_k (da_k - sum_j da_j a_j)
================  =====================================  ==================================================

Having the gradient depend on the output alone means that a layer keeps one array less for backward.
"""

from __future__ import annotations

import numpy as np

from minicnn import kernels
from minicnn.arguments import by_name


class ActivationFunction:
    """A named activation: call it for the value, ``gradient`` for the backward step."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, z: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the activation of ``z`` (any shape; softmax over the last axis), written to ``out`` if given."""
        if self.name == "linear":
            return z
        return getattr(kernels, self.name)(z, out=out)

    def gradient(self, da: np.ndarray, a: np.ndarray) -> np.ndarray:
        """Return dz from the upstream gradient ``da`` and the output ``a``, both of the same shape."""
        if self.name == "linear":
            return da
        return getattr(kernels, f"{self.name}_backward")(da, a)

    def __repr__(self) -> str:
        return f"<activation {self.name}>"


linear = ActivationFunction("linear")
relu = ActivationFunction("relu")
sigmoid = ActivationFunction("sigmoid")
softmax = ActivationFunction("softmax")
tanh = ActivationFunction("tanh")

ACTIVATIONS = {f.name: f for f in (linear, relu, sigmoid, softmax, tanh)}


def get(identifier: str | ActivationFunction | None) -> ActivationFunction:
    """Return the activation of a name; ``None`` means ``linear``.

    Raises
    ------
    ArgumentError
        For an unknown name; the message suggests the nearest.
    """
    if identifier is None:
        return linear
    if isinstance(identifier, ActivationFunction):
        return identifier
    return by_name("activation", identifier, ACTIVATIONS)

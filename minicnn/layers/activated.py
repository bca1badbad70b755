"""ActivatedLayer: what layers have in common that end in an activation function."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn import activations
from minicnn.layers.base import Layer


class ActivatedLayer(Layer):
    """A layer that ends in an activation function.

    Attributes
    ----------
    activation : ActivationFunction
    skip_activation : bool
        Set by the model while its loss contains the softmax: ``forward`` then returns the logits and ``backward``
        takes their gradient, so that nothing is lost between the two.
    """

    def __init__(self, activation: str | activations.ActivationFunction | None = None, **base: Any) -> None:
        super().__init__(**base)
        self.activation = activations.get(activation)
        self.skip_activation = False

    def activate(self, z: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the activation of ``z``, written to ``out`` if given."""
        return z if self.skip_activation else self.activation(z, out)

    def activation_gradient(self, dout: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Return the gradient of ``z`` from that of the output."""
        return dout if self.skip_activation else self.activation.gradient(dout, out)

    def config(self) -> dict[str, Any]:
        """See Layer."""
        return super().config() | {"activation": self.activation.name}

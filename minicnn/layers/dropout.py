"""Dropout: during training a random part of the values is set to zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn import kernels
from minicnn.arguments import real_number, whole_number
from minicnn.layers.base import Layer
from minicnn.streams import stream_key


class Dropout(Layer):
    """Set each value to zero with probability ``rate`` and multiply the others by ``1 / (1 - rate)``.

    So the expected value stays (inverted dropout), and outside training nothing is done. The mask follows from (seed,
    layer, step, image, position) by a counter-based stream: backward draws the same mask again instead of keeping it,
    and the number of threads does not matter. Shapes stay. No parameters.

    Parameters
    ----------
    rate : float
        In [0, 1).
    seed : int, optional
        Default: the model's seed.
    **base
        ``name``, ``dtype``, ``input_shape``, see Layer.

    References
    ----------
    Srivastava et al. (2014), "Dropout: a simple way to prevent neural networks from overfitting".
    """

    unsupported = {"noise_shape": (None,)}

    def __init__(self, rate: float, seed: int | None = None, **base: Any) -> None:
        super().__init__(**base)
        self.rate = real_number("Dropout: rate (the part of the values to drop)", rate, 0, below=1)
        self.own_seed = None if seed is None else whole_number("Dropout: seed", seed, least=0)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return ``x`` (any shape) with some of its values dropped, or as it is outside training."""
        x = self.check_input(x)
        if not training:
            return x
        key = self.key()
        self.keep(training, key=key)
        return kernels.dropout(x, self.rate, key) if self.rate else x

    def key(self) -> int:
        """Return the key of this training forward's mask."""
        seed = self.seed if self.own_seed is None else self.own_seed
        return stream_key(seed, "dropout", self.index, self.next_step())

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return dx: ``dout`` through the same mask and factor."""
        key = self.kept("key")
        self.grads = {}
        dout = self.check_gradient(dout)
        return kernels.dropout_backward(dout, self.rate, key) if self.rate else dout

    def config(self) -> dict[str, Any]:
        """See Layer."""
        return super().config() | {"rate": self.rate, "seed": self.own_seed}

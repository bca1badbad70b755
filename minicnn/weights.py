"""A network's weights: taken out, put in, counted, kept in a file."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from minicnn import model_file, saving
from minicnn.layers import Layer
from minicnn.layers.base import check_weights
from minicnn.step import one_at_a_time


class Weights:
    """What ``Sequential`` can do with its weights."""

    layers: list[Layer]

    # What models.py provides.
    def _require_built(self, call: str) -> None:
        raise NotImplementedError

    @one_at_a_time
    def get_weights(self) -> list[np.ndarray]:
        """Return copies of all weights in Keras' order: layer by layer, parameters, then moving averages."""
        self._require_built("get_weights")
        return [array for layer in self.layers for array in layer.get_weights()]

    @one_at_a_time
    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Set all weights, in the order of ``get_weights`` (which is Keras').

        Raises
        ------
        ShapeError
            If their number or a shape is wrong; nothing is changed then.
        """
        self._require_built("set_weights")
        new_weights = iter(check_weights(self.named_weights(), weights))
        for layer in self.layers:
            layer.set_weights([next(new_weights) for _ in layer.weights])

    def named_weights(self) -> dict[str, np.ndarray]:
        """Return the weights in use, under names such as ``conv2d/kernel``; training changes them (no copies)."""
        return {f"{layer.name}/{key}": array for layer in self.layers for key, array in layer.weights.items()}

    def weights_sha256(self) -> str:
        """Return the SHA-256 of all weights; equal for equal bits."""
        return saving.sha256_of(self.named_weights())

    def count_params(self) -> int:
        """Return the number of weights, trainable or not."""
        self._require_built("count_params")
        return sum(layer.count_params() for layer in self.layers)

    @one_at_a_time
    def save_weights(self, path: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Write the weights alone to a file, for ``load_weights``; for ``path`` and errors see ``Sequential.save``."""
        self._require_built("save_weights")
        model_file.check_name("save_weights", path, overwrite)
        model_file.write_weights(path, self)

    @one_at_a_time
    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Take the weights from a file that ``save_weights`` or ``save`` wrote, of a network built alike.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        FileFormatError
            If the file is damaged, or a weight of it or of the network has no counterpart of its name and shape;
            nothing is changed then.
        """
        self._require_built("load_weights")
        model_file.read_weights(path, self)

"""Programs: the calls that take a batch of one shape through a plan's blocks, arranged once and made many times.

A kernel has to be told what to do: which arrays, which sizes, on how many threads. Python takes longer for that than
one image takes the kernels. While a network predicts, all of it stays the same from batch to batch but the numbers in
the first array; so it is arranged for the first batch, and the next ones of that shape only make the calls.

What was made of the weights (a kernel transformed for Winograd's algorithm, the scale and shift of a batch
normalization) is part of a program. So before each run the weights are compared with those it was made of, by value:
no change goes unseen, however it was made.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn import kernels
from minicnn.kernels.threads import get_threads
from minicnn.layers import Layer


class Program:
    """What to call for a batch, and the arrays that the calls read and write.

    Blocks add their calls in their order: see ``Block.prepare``.

    Parameters
    ----------
    x_shape : tuple of int
        Of the batch.
    dtype : str

    Attributes
    ----------
    x, out : ndarray
        What the calls begin with, and what they end with.
    allocator : InTurns
        Of the arrays of the calls.
    """

    def __init__(self, x_shape: tuple[int, ...], dtype: str) -> None:
        self.x = self.out = kernels.blocks.empty(x_shape, dtype)
        self.allocator = kernels.blocks.InTurns()
        self._calls: list[Callable[[], Any]] = []
        self._checks: list[Callable[[], bool]] = []  # whether what the calls use is as it was
        self._layers: list[Layer] = []
        self._weights: list[np.ndarray] = []  # of all layers, with their shapes
        self._shapes: list[tuple[int, ...]] = []
        self._made_of: list[np.ndarray] = []  # those of them that something was made of
        self._then = self._now = np.empty(0)  # their numbers when the program was made, and room for those of today
        self._threads = get_threads()

    def call(self, function: Callable[[], Any]) -> None:
        """Add a call to the end."""
        self._calls.append(function)

    def uses(self, layer: Layer, watched: np.ndarray | None = None) -> None:
        """Note that the calls depend on a layer's weights.

        One of them may be ``watched`` by others: a call that reads it each time anew, or a check.
        """
        self._layers.append(layer)
        self._weights += layer.weights.values()
        self._made_of += [array for array in layer.weights.values() if array is not watched]

    def check(self, function: Callable[[], bool]) -> None:
        """Have a function asked before each run whether the program is still right."""
        self._checks.append(function)

    def ends_with(self, out: np.ndarray) -> None:
        """Say which array is the result; nothing may be added any more."""
        self.out = out
        self._shapes = [array.shape for array in self._weights]
        if self._made_of:
            self._then = np.concatenate(self._made_of, axis=None)
            self._now = np.empty_like(self._then)

    def is_current(self) -> bool:
        """Tell whether a run gives what the layers would give now."""
        if get_threads() != self._threads:
            return False
        weights = [array for layer in self._layers for own in (layer.params, layer.state) for array in own.values()]
        if len(weights) != len(self._weights) or not all(map(operator.is_, weights, self._weights)):
            return False
        if [array.shape for array in weights] != self._shapes or not all(check() for check in self._checks):
            return False
        if self._made_of:
            np.concatenate(self._made_of, axis=None, out=self._now)
        # As bytes: NaN equals itself then, and 0 is not -0.
        return bool((self._now.view(np.uint8) == self._then.view(np.uint8)).all())

    def run(self, x: np.ndarray) -> np.ndarray:
        """Return the result for a batch, as an array of its own."""
        self.x[...] = x
        for call in self._calls:
            call()
        return self.out.copy()

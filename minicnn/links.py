"""Links: what stands between two layers that compute, and what two blocks hand to each other. See ``blocks.py``.

A link is read through by the layer behind it. Only pooling may be done earlier, by the block before: what it then
writes is a quarter. That is possible where nothing needs what is not pooled; mean and variance do, and so does the way
back through a batch normalization.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minicnn import kernels
from minicnn.kernels.remembered import Remembered
from minicnn.layers import BatchNormalization, Dropout, Flatten, Layer, MaxPooling2D
from minicnn.program import Program

Moments = tuple[np.ndarray, np.ndarray]


class Flow(NamedTuple):
    """What a block hands to the next: its output, and mean and variance of it if the next one normalizes."""

    out: np.ndarray
    moments: Moments | None = None
    pooled: bool = False  # has the next link's pooling been done?


class Return(NamedTuple):
    """What a block hands to the one before: the gradient of what it made of that one's output, and how it made it."""

    dout: np.ndarray
    slopes: tuple[np.ndarray, ...] | None = None  # of batch normalization
    largest: np.ndarray | None = None             # winners of pooling


class Passage(NamedTuple):
    """How one batch came through a link."""

    x: np.ndarray                          # (N, H, W, C) or (N, C), what the block before has written
    shape: tuple[int, ...]                 # of what the layer reads, before flattening
    norm: tuple[np.ndarray, ...] | None    # near, scale, shift: what normalizing does to a number
    moments: Moments | None                # (C) mean and variance it was normalized with
    largest: np.ndarray | None             # winners of pooling, not normalized
    drop: tuple[float, int] | None         # rate and key of the mask

    @property
    def changes_numbers(self) -> bool:
        """Whether the layer reads anything but ``x`` as it is."""
        return self.norm is not None or self.largest is not None or self.drop is not None

    def source(self) -> Any:
        """Return the Source a layer reads from; reading it pools."""
        return kernels.blocks.source_of(self.x, self.norm, self.largest, self.drop)

    def source_again(self) -> Any:
        """Return the Source for backward: the winners of pooling are known by then."""
        return kernels.blocks.source_of(self.x if self.largest is None else self.largest, self.norm, None, self.drop)


class Link:
    """The layers between two that compute: normalization, pooling, dropout, flattening."""

    def __init__(self) -> None:
        self.norm: BatchNormalization | None = None
        self.pool: MaxPooling2D | None = None
        self.dropout: Dropout | None = None
        self.flatten: Flatten | None = None
        self._remembered = Remembered()  # what inference made of the normalization

    @property
    def layers(self) -> list[Layer]:
        """The layers in their order."""
        return [layer for layer in (self.norm, self.pool, self.dropout, self.flatten) if layer is not None]

    def take(self, layer: Layer) -> bool:
        """Make a layer part of the link if it can be done here, after those it has; say whether."""
        if type(layer) is BatchNormalization and not self.layers:
            self.norm = layer
        elif type(layer) is MaxPooling2D and _is_halving(layer) and self.layers in ([], [self.norm]):
            self.pool = layer
        elif type(layer) is Dropout and self.dropout is None and self.flatten is None:
            self.dropout = layer
        elif type(layer) is Flatten and self.flatten is None:
            self.flatten = layer
        else:
            return False
        return True

    def pools_early(self, training: bool) -> np.ndarray | None:
        """Return what has the sign that says who wins (C), if the block before can pool; otherwise None."""
        if self.pool is None or (self.norm is not None and training):
            return None
        if self.norm is not None:
            return self.norm.params["gamma"]
        assert self.pool.output_shape is not None
        return np.ones(self.pool.output_shape[-1], self.pool.dtype)

    def measures(self, training: bool) -> bool:
        """Whether the block before must gather the sums for mean and variance."""
        return self.norm is not None and training and self.norm.trainable

    def passage(self, flow: Flow, training: bool) -> Passage:
        """Say how a batch is to be read; when training, update the moving averages."""
        x, norm, moments, largest, drop = flow.out, None, None, None, None
        shape = x.shape
        if self.norm is not None:
            moments = self.norm.statistics(flow.moments, training)
            weights = (self.norm.params["gamma"], self.norm.params["beta"], *moments)
            settings = (self.norm.epsilon, x.dtype)
            make = functools.partial(kernels.blocks.normalization, *weights, *settings)
            norm = make() if training else self._remembered.get(settings, weights, make)
        if self.pool is not None and not flow.pooled:
            shape = (shape[0], shape[1] // 2, shape[2] // 2, shape[3])
            largest = kernels.blocks.empty(shape, x.dtype)
        if self.dropout is not None and training and self.dropout.rate:
            drop = self.dropout.rate, self.dropout.key()
        return Passage(x, shape, norm, moments, largest, drop)

    def reading(self, passage: Passage, **allocator: Any) -> tuple[Callable[[], None] | None, np.ndarray]:
        """Return what comes through the link as an array of its own, for a layer that reads no Source.

        It is there once the call has been made that stands before it, if there is one.
        """
        call, x = None, passage.x
        if passage.changes_numbers:
            call, x = kernels.blocks.reading(passage.source(), passage.shape, **allocator)
        return call, x.reshape(len(x), -1) if self.flatten is not None else x

    def read(self, passage: Passage) -> np.ndarray:
        """Return the same, the call made."""
        call, x = self.reading(passage)
        if call is not None:
            call()
        return x

    def prepare(self, program: Program, flow: Flow) -> np.ndarray:
        """Add to a program what ``read`` does; return the array."""
        for layer in self.layers:
            program.uses(layer)
        call, x = self.reading(self.passage(flow, training=False), allocator=program.allocator)
        if call is not None:
            program.call(call)
        return x

    def read_backward(self, passage: Passage, dx: np.ndarray) -> Return:
        """Return the gradient for the block before, from that of what ``read`` gave."""
        dx = dx.reshape(passage.shape)
        if not passage.changes_numbers:
            return Return(dx)
        return self.back(passage, *kernels.blocks.read_backward(passage.source_again(), dx))

    def back(self, passage: Passage, dx: np.ndarray, sums: np.ndarray) -> Return:
        """Return the gradient for the block before, from that of the Source and the sums over it."""
        if self.norm is None or passage.norm is None or passage.moments is None:
            return Return(dx, None, passage.largest)
        count = passage.x.size // passage.x.shape[-1]
        slopes, dgamma, dbeta = kernels.blocks.normalization_gradient(
            sums, count, self.norm.params["gamma"], *passage.moments, self.norm.epsilon, passage.norm[0],
            frozen=not self.norm.trainable)
        self.norm.grads = {"gamma": dgamma, "beta": dbeta}
        return Return(dx, slopes, passage.largest)

    def describe(self) -> list[str]:
        """Say in a few words each what is done to the numbers."""
        words = ["normalize"] if self.norm is not None else []
        words += ["pool 2x2" if self.norm is not None else ""] if self.pool is not None else []  # else done before
        words += [f"drop {self.dropout.rate:.3g}"] if self.dropout is not None else []
        return words + (["flatten"] if self.flatten is not None else [])


def _is_halving(pool: MaxPooling2D) -> bool:
    """Whether a pooling layer has 2x2 windows side by side, none of them partly outside the image."""
    H, W, _ = pool.input_shape or (1, 1, 1)
    return pool.pool_size == pool.strides == (2, 2) and (pool.padding == "valid" or H % 2 == W % 2 == 0)

"""Layers as a reader may write them: right ones, the ground on which ``wrong_layers*.py`` build."""

from __future__ import annotations

import numpy as np

from minicnn.layers import Layer
from minicnn.streams import generator

SHAPE = (4, 3, 2)    # of one input


class Slope(Layer):
    """A right one: x where x > 0, else slope * x, a slope for each channel."""

    def __init__(self, start=0.25, **base):
        super().__init__(**base)
        self.start = start

    def build(self, input_shape):
        super().build(input_shape)
        self.add_param("slope", (input_shape[-1],), lambda shape, rng: np.full(shape, self.start))

    def forward(self, x, training=False):
        x = self.check_input(x)
        self.keep(training, x=x)
        return np.where(x > 0, x, self.params["slope"] * x)

    def backward(self, dout):
        x = self.kept("x")
        axes = tuple(range(x.ndim - 1))
        self.grads = {"slope": np.sum(dout * np.minimum(x, 0), axis=axes)}
        return np.where(x > 0, dout, self.params["slope"] * dout)

    def config(self):
        return super().config() | {"start": self.start}


class Average(Layer):
    """A right one with state and nothing to keep: in training it follows the mean, elsewhere it subtracts it."""

    def build(self, input_shape):
        super().build(input_shape)
        self.add_state("mean", (input_shape[-1],), "zeros")

    def forward(self, x, training=False):
        x = self.check_input(x)
        self.keep(training)
        if training:
            self.follow(x)
            return 2 * x
        return 2 * x - self.state["mean"]

    def follow(self, x):
        self.state["mean"] = (0.5 * self.state["mean"] + 0.5 * x.mean(axis=(0, 1, 2))).astype(self.dtype)

    def backward(self, dout):
        self.kept()
        self.grads = {}
        return 2 * dout


class Noise(Layer):
    """A right one with chance: multiplies by numbers from 0.5 to 1.5."""

    def factors(self, shape):
        return generator(self.seed, "noise", self.index, self.next_step()).uniform(0.5, 1.5, shape).astype(self.dtype)

    def forward(self, x, training=False):
        x = self.check_input(x)
        if not training:
            return x
        factors = self.factors(x.shape)
        self.keep(training, factors=factors)
        return x * factors

    def backward(self, dout):
        self.grads = {}
        return dout * self.kept("factors")


class Logarithm(Layer):
    def forward(self, x, training=False):
        x = self.check_input(x)
        self.keep(training, x=x)
        return np.log(x)

    def backward(self, dout):
        self.grads = {}
        return dout / self.kept("x")


def slope_with(**methods):
    """Return a Slope with some methods replaced."""
    return type("Bad", (Slope,), methods)()


def average_with(**methods):
    return type("Bad", (Average,), methods)()


def noise_with(**methods):
    return type("Bad", (Noise,), methods)()

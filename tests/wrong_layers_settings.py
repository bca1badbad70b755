"""Layers with one thing wrong in what they refuse, describe or save, and the clauses that must say so.

``WRONG_SETTINGS`` at the end has them all; what computes wrongly stands in ``wrong_layers.py``.
"""

from __future__ import annotations

import numpy as np

from contract_layers import SHAPE, Average, Slope, slope_with
from minicnn.errors import ShapeError
from minicnn.layers import Layer
from wrong_layers import divides_by_zero


def does_not_check_its_input(self, x, training=False):
    self.keep(training, x=x)
    return np.where(x > 0, x, self.params["slope"] * x)


def raises_something_else(self, x, training=False):
    if np.ndim(x) != 4:
        raise ValueError("no")
    return Slope.forward(self, x, training)


def refuses_without_a_word(self, x, training=False):
    if np.shape(x)[1:] != SHAPE:
        raise ShapeError
    return Slope.forward(self, x, training)


def builds_again(self, input_shape):
    self.output_shape = None
    Slope.build(self, input_shape)


def builds_anything(self, input_shape):
    self.input_shape = self.output_shape = tuple(input_shape)
    self.add_param("slope", (input_shape[-1],), "ones")


def forgets_its_argument(self):
    return Layer.config(self)


def forgets_the_base(self):
    return {"start": self.start}


def is_not_json(self):
    return Layer.config(self) | {"start": np.float32(self.start)}


class Renames(Slope):
    """Keeps its argument under another name and forgets it."""

    def __init__(self, start=0.25, **base):
        super().__init__(start, **base)
        self.beginning, self.start = self.start, 0.25
        del self.start

    def build(self, input_shape):
        Layer.build(self, input_shape)
        self.add_param("slope", (input_shape[-1],), "ones")

    def forward(self, x, training=False):
        return super().forward(x, training) * np.array(self.beginning, self.dtype)

    def backward(self, dout):
        return super().backward(dout * np.array(self.beginning, self.dtype))

    def config(self):
        return Layer.config(self)


class NoBase(Slope):
    def __init__(self, start=0.25):
        super().__init__(start)


class Required(Slope):
    def __init__(self, start, **base):
        super().__init__(start, **base)

    config = forgets_its_argument


class HiddenState(Average):
    """Learns something that is neither in params nor in state."""

    def build(self, input_shape):
        Layer.build(self, input_shape)
        self.state = {}
        self.mean = np.zeros(input_shape[-1])

    def follow(self, x):
        self.mean = 0.5 * self.mean + 0.5 * x.mean(axis=(0, 1, 2))

    def forward(self, x, training=False):
        x = self.check_input(x)
        self.keep(training)
        if training:
            self.follow(x)
        return 2 * x if training else 2 * x - self.mean.astype(self.dtype)


def is_changed_by_a_refusal(self, x, training=False):
    if np.shape(x)[1:] != SHAPE:
        self.params["slope"] += 1
    return Slope.forward(self, x, training)


class DoublesItsArgument(Slope):
    def __init__(self, start=0.25, **base):
        super().__init__(2 * start, **base)


class HandsOutCopies(Slope):
    @property
    def weights(self):
        return {key: array.copy() for key, array in self.params.items()}


WRONG_SETTINGS = {
    "any shape accepted": (slope_with(forward=does_not_check_its_input), {"refusals", "dtypes"}),
    "errors of its own": (slope_with(forward=raises_something_else), {"refusals"}),
    "errors without a message": (slope_with(forward=refuses_without_a_word), {"refusals"}),
    "built twice": (slope_with(build=builds_again), {"refusals"}),
    "built for empty inputs": (slope_with(build=builds_anything), {"refusals"}),
    "argument missing in config": (slope_with(config=forgets_its_argument), {"config"}),
    "renamed argument missing in config": (Renames(0.3), {"config"}),
    "required argument missing in config": (Required(0.3), {"config"}),
    "name and dtype missing in config": (slope_with(config=forgets_the_base), {"config"}),
    "config that is no JSON": (slope_with(config=is_not_json), {"config"}),
    "constructor without base": (NoBase(), {"config"}),
    "state nobody saves": (HiddenState(), {"saving"}),
    "changed by what it refuses": (slope_with(forward=is_changed_by_a_refusal), {"refusals"}),
    "constructor that changes its argument": (DoublesItsArgument(0.1), {"config"}),
    "weights that are copies": (HandsOutCopies(0.1), {"saving"}),
    "config crashes": (slope_with(config=divides_by_zero), {"config"}),
}

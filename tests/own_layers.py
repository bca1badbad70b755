"""Layers of a reader's own, right and wrong, and a small model, for the gradient check and for the diagnosis."""

from __future__ import annotations

import numpy as np

from minicnn import kernels
from minicnn.layers import Dense, Dropout, Layer
from minicnn.models import Sequential


class LeakyReLU(Layer):
    def forward(self, x, training=False):
        x = self.check_input(x)
        self.keep(training, x=x)
        return np.where(x > 0, x, 0.1 * x)

    def backward(self, dout):
        self.grads = {}
        return np.where(self.kept("x") > 0, dout, 0.1 * dout)


class Scale(Layer):
    """Multiplies each channel by a parameter."""

    def build(self, input_shape):
        super().build(input_shape)
        self.add_param("factor", (input_shape[-1],), "glorot_uniform")

    def forward(self, x, training=False):
        x = self.check_input(x)
        self.keep(training, x=x)
        return x * self.params["factor"]

    def backward(self, dout):
        self.grads = {"factor": (dout * self.kept("x")).reshape(-1, dout.shape[-1]).sum(axis=0)}
        return dout * self.params["factor"]


class Cube(Layer):
    def forward(self, x, training=False):
        x = self.check_input(x)
        self.keep(training, x=x)
        return x**3

    def backward(self, dout):
        self.grads = {}
        return 3 * self.kept("x")**2 * dout


class NearlyLinear(Cube):
    """Affine but for one part in a million."""

    def forward(self, x, training=False):
        return x + 1e-6 * super().forward(x, training)

    def backward(self, dout):
        return dout + 1e-6 * super().backward(dout)


class Sine(Layer):
    """Far from zero."""

    def forward(self, x, training=False):
        x = self.check_input(x)
        self.keep(training, x=x)
        return np.sin(x - 1e4)

    def backward(self, dout):
        self.grads = {}
        return np.cos(self.kept("x") - 1e4) * dout


class WrongDense(Dense):
    """A Dense layer with something done to its gradients."""

    def __init__(self, units, spoil, **base):
        super().__init__(units, **base)
        self.spoil = spoil

    def backward(self, dout):
        dx = super().backward(dout)
        return self.spoil(self.grads, dx)


def scaled(grads, dx):
    grads["kernel"] = grads["kernel"] * 1.001
    return dx


def scaled_input(grads, dx):
    return dx * 1.001


def missing(grads, dx):
    del grads["kernel"]
    return dx


class RedrawnMask(Dropout):
    """Forward and backward draw different masks."""

    def backward(self, dout):
        return kernels.dropout_backward(dout, self.rate, self.kept("key") + 1)


def small_model(*middle):
    model = Sequential([Dense(6, input_shape=(5,)), *middle, Dense(3, activation="softmax")])
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    return model


def small_data():
    return np.random.default_rng(3).standard_normal((5, 5)), np.array([0, 2, 1, 1, 0])

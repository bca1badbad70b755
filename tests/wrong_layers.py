"""Layers that compute one thing wrong each, and the clauses of the contract that must say so.

``WRONG`` at the end has them all; each method above says by its name what it does wrong. What is wrong with settings,
files and errors stands in ``wrong_layers_settings.py``.
"""

from __future__ import annotations

import random

import numpy as np

from contract_layers import SHAPE, Average, Noise, Slope, average_with, noise_with, slope_with
from minicnn import kernels
from minicnn.kernels import threads as thread_settings
from minicnn.streams import generator


def modifies_its_input(self, x, training=False):
    x = self.check_input(x)
    self.keep(training, x=x.copy())
    x *= np.where(x > 0, 1, self.params["slope"])
    return x


def modifies_dout(self, dout):
    x = self.kept("x")
    self.grads = {"slope": np.sum(dout * np.minimum(x, 0), axis=(0, 1, 2))}
    dout *= np.where(x > 0, 1, self.params["slope"])
    return dout


def modifies_its_parameter(self, x, training=False):
    np.clip(self.params["slope"], 0, 0.2, out=self.params["slope"])
    return Slope.forward(self, x, training)


def forgets_the_batch_axis(self, x, training=False):
    return Slope.forward(self, x, training)[0]


def promotes(self, x, training=False):
    return Slope.forward(self, x, training) * np.ones(1)


def demotes(self, x, training=False):
    return Slope.forward(self, x, training).astype(np.float32)


def promotes_a_gradient(self, dout):
    dx = Slope.backward(self, dout)
    self.grads["slope"] = self.grads["slope"].astype(np.float64)
    return dx


def promotes_its_state(self, x):
    self.state["mean"] = 0.5 * self.state["mean"] + 0.5 * x.mean(axis=(0, 1, 2), dtype=np.float64)


def accumulates(self, dout):
    before = self.grads.get("slope", 0)
    dx = Slope.backward(self, dout)
    self.grads["slope"] = self.grads["slope"] + before
    return dx


def forgets_a_gradient(self, dout):
    dx = Slope.backward(self, dout)
    self.grads = {}
    return dx


def leaves_old_gradients(self, dout):
    self.kept()
    return 2 * dout


def invents_a_gradient(self, dout):
    dx = Slope.backward(self, dout)
    self.grads["offset"] = self.grads["slope"]
    return dx


def shapes_a_gradient_wrongly(self, dout):
    dx = Slope.backward(self, dout)
    self.grads["slope"] = self.grads["slope"][None]
    return dx


def needs_dx_for_grads(self, dout):
    dx = Slope.backward(self, dout)
    if not self.needs_input_gradient:
        self.grads = {"slope": np.zeros_like(self.grads["slope"])}
    return dx


def is_wrong_by_a_thousandth(self, dout):
    dx = Slope.backward(self, dout)
    self.grads["slope"] *= 1.001
    return dx


def returns_zeros(self, dout):
    return np.zeros_like(Slope.backward(self, dout))


def means_instead_of_sums(self, dout):
    dx = Slope.backward(self, dout)
    self.grads["slope"] /= len(dout)
    return dx


def redraws_the_mask(self, dout):
    self.grads = {}
    self.kept("factors")
    return dout * generator(self.seed, "other noise", self.step or 0).uniform(0.5, 1.5, dout.shape).astype(self.dtype)


def draws_from_the_global_state(self, shape):
    return np.random.uniform(0.5, 1.5, shape).astype(self.dtype)  # noqa: NPY002


def draws_from_pythons_state(self, shape):
    return np.full(shape, random.uniform(0.5, 1.5), self.dtype)


def seeds_the_global_state(self, shape):
    np.random.seed(self.next_step())  # noqa: NPY002
    return np.random.uniform(0.5, 1.5, shape).astype(self.dtype)  # noqa: NPY002


class OwnGenerator(Noise):
    def __init__(self, **base):
        super().__init__(**base)
        self.rng = np.random.default_rng(0)

    def factors(self, shape):
        return self.rng.uniform(0.5, 1.5, shape).astype(self.dtype)


def ignores_the_step(self, shape):
    self.count = getattr(self, "count", 0) + 1
    return generator(self.seed, self.count).uniform(0.5, 1.5, shape).astype(self.dtype)


def keeps_its_noise(self, x, training=False):
    return Noise.forward(self, x, training=True)


def follows_in_inference(self, x, training=False):
    x = self.check_input(x)
    self.follow(x)
    self.keep(training)
    return 2 * x if training else 2 * x - self.state["mean"]


def remembers_in_inference(self, x, training=False):
    out = Slope.forward(self, x, training)
    if not training:
        self.seen = getattr(self, "seen", 0) + 1
        out = out + np.array(0.1 * self.seen, out.dtype)
    return out


def counts_inferences_as_steps(self, x, training=False):
    if not training and self.step is None:
        self.next_step()
    return Noise.forward(self, x, training)


def trains_by_default(self, x, training=True):
    return Average.forward(self, x, training)


def keeps_on_its_own(self, x, training=False):
    x = self.check_input(x)
    self.x = x
    return np.where(x > 0, x, self.params["slope"] * x)


def takes_its_own(self, dout):
    self._kept = {"x": self.x}
    return Slope.backward(self, dout)


def keeps_always(self, x, training=False):
    return Slope.forward(self, x, training=True)


def keeps_nothing(self, x, training=False):
    return 2 * self.check_input(x)


def doubles(self, dout):
    self.grads = {}
    return 2 * dout


def uses_one_buffer(self, x, training=False):
    out = Slope.forward(self, x, training)
    if getattr(self, "buffer", None) is None or self.buffer.shape != out.shape or self.buffer.dtype != out.dtype:
        self.buffer = np.empty_like(out)
    self.buffer[...] = out
    return self.buffer


def uses_one_gradient(self, dout):
    dx = Slope.backward(self, dout)
    if getattr(self, "buffer", None) is None or self.buffer.dtype != dx.dtype:
        self.buffer = self.grads["slope"]
    self.buffer[...] = self.grads["slope"]
    self.grads["slope"] = self.buffer
    return dx


def subtracts_the_batch(self, x, training=False):
    x = self.check_input(x)
    self.keep(training)
    return 2 * (x if training else x - x.mean(axis=0))


def fixes_the_batch(self, x, training=False):
    self.n = getattr(self, "n", len(x))
    return Slope.forward(self, x, training).reshape(self.n, *SHAPE)


def reads_memory_order(self, x, training=False):
    out = Slope.forward(self, x, training)
    return out.ravel(order="K").reshape(out.shape)


def sums_by_threads(self, dout):
    dx = Slope.backward(self, dout)
    parts = np.array_split(dout * np.minimum(self.kept("x"), 0), thread_settings.get_threads())
    self.grads["slope"] = np.sum([part.sum(axis=(0, 1, 2)) for part in parts], axis=0, dtype=dout.dtype)
    return dx


def depends_on_the_kernels(self, x, training=False):
    out = Average.forward(self, x, training)
    return out + np.array(1e-6, out.dtype) if kernels.active() == "fast" else out


def breaks_under_reference(self, dout):
    return Slope.backward(self, dout) * (1 if kernels.active() == "fast" else 2)


def builds_without_base(self, input_shape):
    self.add_param("slope", (input_shape[-1],), "ones")


def lists_a_gradient(self, dout):
    dx = Slope.backward(self, dout)
    self.grads["slope"] = list(self.grads["slope"])
    return dx


def cuts_dx(self, dout):
    return Slope.backward(self, dout)[..., :1].copy()


def says_another_shape_once_built(self, input_shape):
    return (*input_shape[:-1], 7) if self.built else input_shape


def adds_state_in_inference(self, x, training=False):
    if not training:
        self.state["seen"] = np.ones(3, self.dtype)
    return Slope.forward(self, x, training)


def divides_by_zero(self, *args, **kwargs):
    return 1 // 0


WRONG = {
    "modifies its input": (slope_with(forward=modifies_its_input), {"arguments", "views", "gradients"}),
    "modifies dout": (slope_with(backward=modifies_dout), {"arguments", "views", "gradients"}),
    "modifies its parameter": (slope_with(forward=modifies_its_parameter), {"arguments", "gradients"}),
    "another compute_output_shape": (slope_with(compute_output_shape=lambda self, shape: (*shape[:-1], 7)), {"shapes"}),
    "compute_output_shape that changes": (
        slope_with(compute_output_shape=lambda self, shape: [*shape]), {"shapes"}),
    "forward without the batch axis": (slope_with(forward=forgets_the_batch_axis),
                                       {"shapes", "batches", "saving"}),
    "float64 for float32": (slope_with(forward=promotes), {"dtypes"}),
    "float32 for float64": (slope_with(forward=demotes), {"dtypes", "gradients"}),
    "float64 gradient": (slope_with(backward=promotes_a_gradient), {"dtypes"}),
    "float64 state": (average_with(follow=promotes_its_state), {"dtypes", "saving"}),
    "accumulates": (slope_with(backward=accumulates), {"grads", "gradients"}),
    "gradient missing": (slope_with(backward=forgets_a_gradient), {"grads", "gradients"}),
    "gradients never assigned": (average_with(backward=leaves_old_gradients), {"grads"}),
    "gradient too many": (slope_with(backward=invents_a_gradient), {"grads", "gradients"}),
    "gradient of another shape": (slope_with(backward=shapes_a_gradient_wrongly), {"grads", "gradients"}),
    "no grads without dx": (slope_with(backward=needs_dx_for_grads), {"grads"}),
    "gradient wrong by a thousandth": (slope_with(backward=is_wrong_by_a_thousandth), {"gradients"}),
    "dx all zero": (slope_with(backward=returns_zeros), {"gradients"}),
    "mean instead of sum": (slope_with(backward=means_instead_of_sums), {"gradients"}),
    "mask redrawn in backward": (noise_with(backward=redraws_the_mask), {"gradients"}),
    "global NumPy randomness": (noise_with(factors=draws_from_the_global_state), {"repeatable"}),
    "global Python randomness": (noise_with(factors=draws_from_pythons_state), {"repeatable"}),
    "global state seeded": (noise_with(factors=seeds_the_global_state), {"repeatable"}),
    "generator of its own": (OwnGenerator(), {"repeatable"}),
    "mask does not follow the step": (noise_with(factors=ignores_the_step), {"repeatable"}),
    "noise in inference": (noise_with(forward=keeps_its_noise), {"inference", "batches", "keeping"}),
    "state changed in inference": (average_with(forward=follows_in_inference), {"inference", "batches"}),
    "hidden state changed in inference": (slope_with(forward=remembers_in_inference), {"inference"}),
    "steps counted in inference": (noise_with(forward=counts_inferences_as_steps), {"inference"}),
    "training by default": (average_with(forward=trains_by_default), {"inference"}),
    "keep forgotten": (slope_with(forward=keeps_on_its_own, backward=takes_its_own), {"keeping"}),
    "kept outside training": (slope_with(forward=keeps_always), {"keeping"}),
    "nothing kept or asked for": (average_with(forward=keeps_nothing, backward=doubles), {"keeping"}),
    "one buffer for all outputs": (slope_with(forward=uses_one_buffer), {"results"}),
    "one buffer for all gradients": (slope_with(backward=uses_one_gradient), {"results"}),
    "outputs depend on the batch": (average_with(forward=subtracts_the_batch), {"batches"}),
    "one batch size only": (slope_with(forward=fixes_the_batch), {"batches"}),
    "order of memory": (slope_with(forward=reads_memory_order), {"views"}),
    "sums by threads": (slope_with(backward=sums_by_threads), {"threads"}),
    "depends on the kernel set": (average_with(forward=depends_on_the_kernels), {"kernel sets"}),
    "wrong under one kernel set": (slope_with(backward=breaks_under_reference), {"gradients", "kernel sets"}),
    "build without base": (slope_with(build=builds_without_base), {"runs"}),
    "forward gives a list": (slope_with(forward=lambda self, x, training=False: [1.0]), {"runs"}),
    "backward gives None": (slope_with(backward=lambda self, dout: None), {"runs"}),
    "forward crashes": (slope_with(forward=divides_by_zero), {"runs"}),
    "gradient that is a list": (slope_with(backward=lists_a_gradient), {"runs"}),
    "dx of another shape": (slope_with(backward=cuts_dx), {"shapes", "saving"}),
    "another compute_output_shape once built": (
        slope_with(compute_output_shape=says_another_shape_once_built), {"shapes"}),
    "state added in inference": (slope_with(forward=adds_state_in_inference), {"inference"}),
}

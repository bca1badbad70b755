"""The layer contract: every built-in layer keeps it, and layers with one thing wrong are refused for that thing."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import NO_JIT

from minicnn import _contract_clauses, kernels
from minicnn._contract_subject import CLAUSES
from minicnn.errors import ArgumentError, FileFormatError, MinicnnError, ShapeError
from minicnn.gradcheck import check_layer
from minicnn.kernels import threads as thread_settings
from minicnn.layers import (
    LAYERS,
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    Layer,
    MaxPooling2D,
)
from minicnn.models import Sequential, load_model
from minicnn.streams import generator
from minicnn.testing import BROKEN, ContractError, check_layer_contract

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _small_batches_without_the_compiler(monkeypatch):
    """Plain Python loops have no threads to compare; 200 numbers are enough to run that clause."""
    if NO_JIT:
        monkeypatch.setattr(_contract_clauses, "LARGE", 200)


# --- built-in layers keep it -------------------------------------------------------------------------------------

BUILT_IN = [
    (lambda: Input((5, 4, 3)), (5, 4, 3)),
    (lambda: Flatten(), (2, 5, 3)),
    (lambda: Flatten(), (7,)),
    (lambda: Dropout(0.4), (5, 6)),
    (lambda: Dropout(0, seed=3), (7,)),
    (lambda: Dropout(0.7, seed=3), (4, 3, 2)),
    (lambda: Activation("relu"), (5, 3, 2)),
    (lambda: Activation("sigmoid"), (7,)),
    (lambda: Activation("tanh"), (3, 4)),
    (lambda: Activation("softmax"), (3, 4)),
    (lambda: Activation("linear"), (3, 4)),
    (lambda: Dense(3), (7,)),
    (lambda: Dense(1, activation="sigmoid", use_bias=False), (5,)),
    (lambda: Dense(4, activation="softmax", kernel_initializer="he_normal", bias_initializer="ones"), (3,)),
    (lambda: Dense(4, trainable=False, dtype="float64", name="frozen"), (3,)),
    (lambda: BatchNormalization(), (5, 3, 2)),
    (lambda: BatchNormalization(momentum=0.5, epsilon=0.1), (6,)),
    (lambda: BatchNormalization(trainable=False), (3, 4)),
    (lambda: MaxPooling2D(), (5, 6, 2)),
    (lambda: MaxPooling2D((2, 3), strides=(1, 2), padding="same"), (5, 4, 2)),
    (lambda: Conv2D(3, (2, 3)), (4, 5, 2)),
    (lambda: Conv2D(2, (3, 2), strides=(2, 1), padding="same", activation="relu"), (5, 4, 1)),
    (lambda: Conv2D(2, (1, 2), strides=(1, 3), activation="tanh", use_bias=False, algorithm="im2col",
                    input_shape=(3, 7, 2)), None),
]


@pytest.mark.gradient
@pytest.mark.parametrize(("make", "shape"), BUILT_IN, ids=[f"{i}-{make()!r}" for i, (make, _) in enumerate(BUILT_IN)])
def test_built_in_layers_keep_the_contract(make, shape):
    report = check_layer_contract(make(), shape)
    assert report
    assert [row.clause for row in report.rows] == [clause.name for clause in CLAUSES]


def test_every_built_in_layer_is_there():
    assert {type(make()) for make, _ in BUILT_IN} == set(LAYERS.values())


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_a_wrong_gradient_planted_in_a_built_in_layer_is_refused(name, monkeypatch):
    make, shape = next((make, shape) for make, shape in BUILT_IN if type(make()) is LAYERS[name])
    right = LAYERS[name].backward
    monkeypatch.setattr(LAYERS[name], "backward", lambda self, dout: right(self, dout) * np.float32(1.001))
    assert "gradients" in broken(make(), shape)


# --- layers of a reader's own ------------------------------------------------------------------------------------

SHAPE = (4, 3, 2)


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


@pytest.mark.parametrize("make", [lambda: Slope(), lambda: Slope(0.1, name="own"), lambda: Average(), lambda: Noise()],
                         ids=["Slope", "Slope(0.1)", "Average", "Noise"])
def test_right_layers_of_ones_own_pass(make):
    assert check_layer_contract(make(), SHAPE)
    assert check_layer_contract(make(), SHAPE, seed=5)


def test_inputs_of_ones_own():
    x = np.random.default_rng(0).uniform(1, 2, (7, *SHAPE))
    assert check_layer_contract(Logarithm(), x=x)
    with pytest.raises(ContractError, match="invalid value"):
        check_layer_contract(Logarithm(), SHAPE)    # logarithms of negative numbers


# --- wrong ones --------------------------------------------------------------------------------------------------

def slope_with(**methods):
    """Return a Slope with some methods replaced."""
    return type("Bad", (Slope,), methods)()


def average_with(**methods):
    return type("Bad", (Average,), methods)()


def noise_with(**methods):
    return type("Bad", (Noise,), methods)()


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


def does_not_check_its_input(self, x, training=False):
    self.keep(training, x=x)
    return np.where(x > 0, x, self.params["slope"] * x)


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


def builds_without_base(self, input_shape):
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


def divides_by_zero(self, *args, **kwargs):
    return 1 // 0


WRONG = {
    "modifies its input": (slope_with(forward=modifies_its_input), {"arguments", "views"}),
    "modifies dout": (slope_with(backward=modifies_dout), {"arguments", "views"}),
    "modifies its parameter": (slope_with(forward=modifies_its_parameter), {"arguments"}),
    "another compute_output_shape": (slope_with(compute_output_shape=lambda self, shape: (*shape[:-1], 7)), {"shapes"}),
    "compute_output_shape that changes": (
        slope_with(compute_output_shape=lambda self, shape: [*shape]), {"shapes"}),
    "forward without the batch axis": (slope_with(forward=forgets_the_batch_axis), {"shapes", "batches", "gradients"}),
    "float64 for float32": (slope_with(forward=promotes), {"dtypes"}),
    "float32 for float64": (slope_with(forward=demotes), {"dtypes", "gradients"}),
    "float64 gradient": (slope_with(backward=promotes_a_gradient), {"dtypes"}),
    "float64 state": (average_with(follow=promotes_its_state), {"dtypes", "saving"}),
    "accumulates": (slope_with(backward=accumulates), {"grads", "gradients"}),
    "gradient missing": (slope_with(backward=forgets_a_gradient), {"grads", "gradients"}),
    "gradients never assigned": (average_with(backward=leaves_old_gradients), {"grads"}),
    "gradient too many": (slope_with(backward=invents_a_gradient), {"grads"}),
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
    "build without base": (slope_with(build=builds_without_base), {"runs"}),
    "forward gives a list": (slope_with(forward=lambda self, x, training=False: [1.0]), {"runs"}),
    "backward gives None": (slope_with(backward=lambda self, dout: None), {"runs"}),
    "forward crashes": (slope_with(forward=divides_by_zero), {"runs"}),
    "gradient that is a list": (slope_with(backward=lists_a_gradient), {"runs"}),
    "dx of another shape": (slope_with(backward=cuts_dx), {"shapes", "gradients"}),
    "another compute_output_shape once built": (
        slope_with(compute_output_shape=says_another_shape_once_built), {"shapes"}),
    "state added in inference": (slope_with(forward=adds_state_in_inference), {"inference"}),
    "changed by what it refuses": (slope_with(forward=is_changed_by_a_refusal), {"refusals"}),
    "constructor that changes its argument": (DoublesItsArgument(0.1), {"config"}),
    "weights that are copies": (HandsOutCopies(0.1), {"saving"}),
    "config crashes": (slope_with(config=divides_by_zero), {"config"}),
}


def broken(layer, shape=SHAPE):
    """Return the names of the clauses that a layer breaks."""
    try:
        report = check_layer_contract(layer, shape)
    except ContractError as error:
        report = error.report
    return {row.clause for row in report.rows if row.verdict == BROKEN}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_layers_are_refused_for_what_is_wrong(what):
    layer, clauses = WRONG[what]
    assert broken(layer) == clauses


def test_every_clause_is_seen_to_refuse_something():
    assert set.union(*(clauses for _, clauses in WRONG.values())) == {clause.name for clause in CLAUSES}
    assert len(WRONG) >= 60


# --- what it says ------------------------------------------------------------------------------------------------

def refusal(layer, shape=SHAPE, **arguments):
    with pytest.raises(ContractError) as caught:
        check_layer_contract(layer, shape, **arguments)
    return caught.value


def test_a_violation_says_what_was_expected_what_was_found_and_what_to_do():
    error = refusal(slope_with(backward=accumulates))
    assert isinstance(error, MinicnnError)
    assert isinstance(error, AssertionError)    # a test runner counts it as a failure, not as an accident
    violation = error.report["grads"].violations[0]
    assert violation.expected == "backward after an equal backward gives the same"
    assert "entries of grads['slope'] differ, first at (0,): " in violation.found
    assert "assign self.grads" in violation.advice
    assert f"\ngrads\n  expected  {violation.expected}\n  found     {violation.found}\n  to do     " in str(error)
    assert not error.report
    assert error.report["shapes"].ok
    assert f"2 of {len(CLAUSES)} clauses broken" in str(error)
    with pytest.raises(KeyError, match=r"'colour'.*shapes"):
        error.report["colour"]


def test_the_report_of_a_right_layer_is_a_table():
    report = check_layer_contract(Slope(0.1), SHAPE)
    lines = str(report).splitlines()
    assert lines[0] == "contract of Slope 'slope', inputs (N, 4, 3, 2)"
    assert lines[1].split() == ["clause", "verdict", "promise"]
    assert len(lines) == len(CLAUSES) + 3
    assert lines[-1] == f"all {len(CLAUSES)} clauses are kept"
    assert report.violations == []


def test_all_violations_are_listed():
    error = refusal(slope_with(forward=modifies_its_parameter, config=forgets_its_argument,
                               backward=is_wrong_by_a_thousandth))
    assert {violation.clause for violation in error.report.violations} == {"arguments", "gradients", "config"}
    assert "'start' in config()" in str(error)
    assert check_layer(slope_with(backward=is_wrong_by_a_thousandth), SHAPE)["slope"].note in str(error)


@pytest.mark.parametrize("method", ["__deepcopy__", "astype", "build", "compute_output_shape", "forward", "backward"])
def test_a_crash_is_a_violation_of_the_first_clause(method):
    report = refusal(slope_with(**{method: divides_by_zero})).report
    assert [row.verdict for row in report.rows] == ["BROKEN"] + ["not tried"] * (len(CLAUSES) - 1)
    violation, = report.violations
    assert violation.found.startswith("ZeroDivisionError: ")
    assert violation.found.endswith(", in divides_by_zero)")
    assert "(test_contract.py, line " in violation.found


def test_a_crash_later_on_is_a_violation_of_its_clause():
    def crashes_with_three(self, x, training=False):
        if len(x) == 3:
            raise KeyError("three")
        return Slope.forward(self, x, training)

    violation, = refusal(slope_with(forward=crashes_with_three)).report.violations
    assert violation.clause == "batches"
    assert violation.found.startswith("KeyError: 'three' (test_contract.py, line ")


def test_what_one_kernel_set_shows_alone_is_said():
    report = refusal(slope_with(backward=breaks_under_reference)).report
    assert report["gradients"].violations[0].sets == ("reference",)
    assert "\n  expected  the gradients of finite differences (with reference kernels only)\n" in str(report)


def test_what_both_kernel_sets_show_is_said_once_and_so_is_the_advice():
    report = refusal(slope_with(forward=keeps_on_its_own, backward=takes_its_own)).report
    assert len(report.violations) == len({violation.expected for violation in report.violations}) > 2
    assert all(violation.sets == ("fast", "reference") for violation in report.violations)
    assert str(report).count("  expected  ") == str(report).count("  found     ") == len(report.violations)
    assert str(report).count("  to do     ") == 1
    violation, = refusal(slope_with(backward=is_wrong_by_a_thousandth)).report.violations
    assert "slope" in violation.found
    assert "WRONG" in str(violation)


def test_arguments_of_the_check_itself():
    with pytest.raises(ArgumentError, match=r"expected a layer. Perhaps write Slope\(\.\.\.\)\?"):
        check_layer_contract(Slope, SHAPE)
    with pytest.raises(ShapeError, match="Give input_shape"):
        check_layer_contract(Slope())
    with pytest.raises(ShapeError, match=r"layer.input_shape \(4,\), input_shape \(5,\)"):
        check_layer_contract(Dense(3, input_shape=(4,)), (5,))


# --- nothing is left behind --------------------------------------------------------------------------------------

@pytest.mark.parametrize("built", [False, True])
def test_the_layer_stays_as_it_is(built):
    layer = Slope(0.1)
    if built:
        layer.forward(np.ones((2, *SHAPE), np.float32), training=True)
        layer.backward(np.ones((2, *SHAPE), np.float32))
    before = {key: value.copy() if isinstance(value, dict) else value for key, value in vars(layer).items()}
    arrays = {key: array.copy() for key, array in (layer.params | layer.grads).items()}
    assert check_layer_contract(layer, SHAPE)
    assert vars(layer) == before    # the very same arrays ...
    assert all(np.array_equal(array, (layer.params | layer.grads)[key]) for key, array in arrays.items())    # ... too
    assert layer.built is built


@pytest.mark.parametrize("name", kernels.SETS)
def test_settings_and_chance_stay_as_they_are(name, monkeypatch, threads):
    monkeypatch.setattr(kernels, "_active", kernels._active)
    kernels.use(name)
    threads(None)
    numpy_state, python_state = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    check_layer_contract(Noise(), SHAPE)
    refusal(slope_with(backward=sums_by_threads))
    refusal(slope_with(forward=divides_by_zero))
    assert kernels.active() == name
    assert thread_settings._threads is None
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
    assert python_state == random.getstate()


def test_a_trained_layer_is_checked_with_its_own_weights():
    model = Sequential([Input((4,)), Dense(3)], seed=3)
    model.layers[0].params["kernel"][...] = np.nan
    assert "gradients" in broken(model.layers[0], (4,))


def test_classes_come_from_the_callers_dictionary_only(tmp_path):
    path = tmp_path / "own.safetensors"
    model = Sequential([Input(SHAPE), Slope(0.1), Flatten(), Dense(2)])
    model.save(path)
    for known in (None, {}, {"Noise": Noise}):
        with pytest.raises(FileFormatError, match="'Slope', which is unknown"):
            load_model(path, custom_layers=known)

    class Another(Slope):
        pass

    assert type(load_model(path, custom_layers={"Slope": Another}).layers[0]) is Another


def test_it_needs_no_test_framework():
    code = ("import sys, minicnn; assert 'minicnn.testing' not in sys.modules; minicnn.testing.check_layer_contract; "
            "print([name for name in ('pytest', '_pytest', 'scipy', 'hypothesis') if name in sys.modules])")
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True,
                            cwd=ROOT)
    assert result.stdout == "[]\n"

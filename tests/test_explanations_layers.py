"""What the diagnosis says of the library's own layers: each mistake in a formula is given its own sentence.

The wrong gradients are computed here from input, output and upstream gradient alone; ``test_explanations.py`` has the
sentences that hold for any layer.
"""

from __future__ import annotations

import numpy as np
import pytest

from diagnosis_cases import wrong
from minicnn import _diagnosis_textbook, _diagnosis_windows, kernels
from minicnn.gradcheck import check_layer
from minicnn.layers import Activation, BatchNormalization, Conv2D, Dense, Flatten, MaxPooling2D


@pytest.fixture(autouse=True)
def _reference_kernels(monkeypatch):
    monkeypatch.setattr(kernels, "_active", kernels._active)
    kernels.use("reference")


# --- activations -------------------------------------------------------------------------------------------------

def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# What is in place of the derivative, as a function of the output.
DERIVATIVES = {
    "sigmoid": [
        (lambda out: np.ones_like(out), "sigmoid's derivative is left out"),
        (lambda out: out, "sigmoid's derivative lacks the factor 1 - output"),
        (lambda out: 1 - out, "sigmoid's derivative lacks the factor output"),
        (lambda out: sigmoid(out) * (1 - sigmoid(out)), "sigmoid is applied to its output again before"),
        (lambda out: out * (1 + out), "sigmoid's derivative is output (1 + output)"),
        (lambda out: 1 - out**2, "sigmoid's derivative is 1 - output²"),
        (lambda out: (out * (1 - out))**2, "sigmoid's derivative is applied twice")],
    "tanh": [
        (lambda out: 1 - out, "tanh's derivative is 1 - output, without the square"),
        (lambda out: 1 + out**2, "tanh's derivative has a plus: 1 + output²"),
        (lambda out: out**2, "tanh's derivative is output²"),
        (lambda out: 1 - np.tanh(out)**2, "tanh is applied to its output again before"),
        (lambda out: out * (1 - out), "tanh's derivative is output (1 - output), the sigmoid's"),
        (lambda out: (1 - out**2)**2, "tanh's derivative is applied twice")]}
CASES = [(name, *case) for name, cases in DERIVATIVES.items() for case in cases]


@pytest.mark.parametrize(("name", "derivative", "words"), CASES, ids=[words for _, _, words in CASES])
def test_a_wrong_derivative_is_named(name, derivative, words):
    layer = wrong(Activation, lambda layer, dout, dx: dout * derivative(layer.kept("out")))(name)
    diagnosis = check_layer(layer, (3, 4))["input"].diagnosis
    assert diagnosis.kind == "factor"
    assert str(diagnosis) == f"input: {diagnosis.explanations[0].words}"
    assert diagnosis.explanations[0].words.startswith(words)


@pytest.mark.parametrize(("name", "derivative", "words"), CASES, ids=[words for _, _, words in CASES])
def test_a_wrong_derivative_inside_a_dense_layer_is_named_in_each_gradient(name, derivative, words):
    def spoil(layer, dout, dx):
        dz = dout * derivative(layer.kept("out"))
        layer.grads = {"kernel": layer.kept("x").T @ dz, "bias": dz.sum(axis=0)}
        return dz @ layer.params["kernel"].T

    report = check_layer(wrong(Dense, spoil)(3, activation=name), (5,))
    for row in report.rows:
        assert row.diagnosis.kind == "factor"
        assert row.diagnosis.explanations[0].words.startswith(words), row.what


def test_the_formula_of_a_large_layer_is_not_tried(monkeypatch, rng):
    """It would take minutes. The numbers alone still say where the gradient is wrong."""
    def without_the_last_input(layer, dout, dx):
        layer.grads["kernel"][-1] = 0
        return dx

    arguments = "kernel", rng.standard_normal((3, 5)), *[rng.standard_normal((3, 6))] * 2
    layer = wrong(Dense, without_the_last_input)(6)
    layer.build((5,))
    assert _diagnosis_textbook.textbook_gradient(layer, *arguments).shape == (5, 6)
    monkeypatch.setattr(_diagnosis_textbook, "WORK_LIMIT", 3 * 5 * 6 - 1)
    assert _diagnosis_textbook.textbook_gradient(layer, *arguments) is None
    report = check_layer(wrong(Dense, without_the_last_input)(6), (5,))
    assert "wrong in the last input only, where it is zero" in str(report["kernel"].diagnosis)


# --- batch normalization -----------------------------------------------------------------------------------------

EPSILON = 0.3    # large, so that it matters where it stands


def normalization(**grads):
    """Return a wrong layer for images: ``grads`` are functions of (x, dout, deviation (C), gamma (C))."""
    def spoil(layer, dout, dx):
        x = layer.kept("x")
        deviation = np.sqrt(x.var(axis=(0, 1, 2)) + layer.epsilon)
        for key, gradient in grads.items():
            layer.grads[key] = gradient(x, dout, deviation, layer.params["gamma"])
        return dx

    layer = wrong(BatchNormalization, spoil)(epsilon=EPSILON)
    layer.build((4, 3, 2))
    layer.params["gamma"] = np.array([0.6, 1.7], np.float32)
    return layer


def summed(array):
    return array.sum(axis=(0, 1, 2))


def centred(x):
    return x - x.mean(axis=(0, 1, 2))


@pytest.mark.parametrize(("gradient", "words"), [
    (lambda x, dout, deviation, gamma: summed(dout * x), "x is used where the normalised x is needed"),
    (lambda x, dout, deviation, gamma: summed(dout * centred(x)), "the division by the deviation is missing"),
    (lambda x, dout, deviation, gamma: summed(dout * x / deviation), "the mean is not subtracted"),
    (lambda x, dout, deviation, gamma: summed(dout * centred(x) / deviation**2), "divided by the variance instead"),
    (lambda x, dout, deviation, gamma: summed(dout * centred(x) / deviation) * gamma, "it is multiplied by gamma."),
    (lambda x, dout, deviation, gamma: summed(dout * centred(x) / deviation**2) * gamma, "gamma / deviation")])
def test_a_wrong_gradient_of_gamma_is_named(gradient, words):
    report = check_layer(normalization(gamma=gradient), (4, 3, 2), batch_size=5)
    assert [row.what for row in report.rows if not row.ok] == ["gamma"]
    assert report["gamma"].diagnosis.kind == "factor"
    assert words in str(report["gamma"].diagnosis)


@pytest.mark.parametrize(("gradient", "words"), [
    (lambda x, dout, deviation, gamma: summed(dout) * gamma, "it is multiplied by gamma."),
    (lambda x, dout, deviation, gamma: summed(dout) / deviation, "it is divided by the deviation."),
    (lambda x, dout, deviation, gamma: summed(dout) * gamma / deviation, "it is multiplied by gamma / deviation.")])
def test_a_wrong_gradient_of_beta_is_named(gradient, words):
    report = check_layer(normalization(beta=gradient), (4, 3, 2), batch_size=5)
    assert [row.what for row in report.rows if not row.ok] == ["beta"]
    assert report["beta"].diagnosis.kind == "factor"
    assert words in str(report["beta"].diagnosis)


@pytest.mark.parametrize(("key", "gradient", "words"), [
    ("beta", lambda x, dout, deviation, gamma: summed(dout[:-1]), "the contribution of image 4 is missing"),
    ("beta", lambda x, dout, deviation, gamma: summed(dout[:, :2]), "the last 2 rows do not contribute"),
    ("gamma", lambda x, dout, deviation, gamma: summed((dout * centred(x) / deviation)[:, :, 1:]),
     "the contribution of column 0 is missing")])
def test_a_sum_that_leaves_something_out_is_named(key, gradient, words):
    report = check_layer(normalization(**{key: gradient}), (4, 3, 2), batch_size=5)
    assert report[key].diagnosis.kind == "remainder"
    assert words in str(report[key].diagnosis)


def test_sums_of_too_many_numbers_are_not_taken_apart(monkeypatch):
    """The diagnosis of a large layer must not take minutes; it then says less."""
    def without_the_last_image():
        layer = normalization(beta=lambda x, dout, deviation, gamma: summed(dout[:-1]))
        return str(check_layer(layer, (4, 3, 2), batch_size=5)["beta"].diagnosis)

    assert "contribution" in without_the_last_image()
    monkeypatch.setattr(_diagnosis_windows, "PARTS_LIMIT", 5)
    assert "contribution" not in without_the_last_image()


@pytest.mark.parametrize(("terms", "words"), [
    ((1, 1), "with terms through mean and variance."), ((1, 0), "with a term through the mean."),
    ((0, 1), "with a term through the variance.")])
def test_terms_of_training_in_a_frozen_layer_are_named(terms, words):
    """Its statistics are constants: only the direct term is there."""
    def spoil(layer, dout, dx):
        factor = layer.params["gamma"] / np.sqrt(layer.state["moving_variance"] + layer.epsilon)
        x_hat = (layer.kept("x") - layer.state["moving_mean"]) / np.sqrt(layer.state["moving_variance"] + layer.epsilon)
        return dx - factor * (terms[0] * dout.mean(axis=0) + terms[1] * x_hat * (dout * x_hat).mean(axis=0))

    layer = wrong(BatchNormalization, spoil)(epsilon=EPSILON, trainable=False)
    layer.build((3,))
    layer.params["gamma"] = np.array([0.6, 1.7, 1.2], np.float32)
    diagnosis = check_layer(layer, (3,), batch_size=6)["input"].diagnosis
    assert diagnosis.kind == "missing term"
    assert str(diagnosis) == f"input: the gradient of training mode, in a layer whose statistics are constants, {words}"


# --- a layer that was extended -----------------------------------------------------------------------------------

@pytest.mark.parametrize(("base", "arguments", "shape", "name"), [
    (Activation, ("tanh",), (4,), "gamma"), (BatchNormalization, (), (4, 3), "volume"), (Flatten, (), (3, 2), "volume"),
    (Conv2D, (2, (2, 1)), (4, 3, 2), "beta"), (Dense, (3,), (4,), "volume"),
    (MaxPooling2D, ((2, 1),), (4, 3, 2), "kernel")])
def test_a_parameter_that_the_formula_does_not_know_is_diagnosed_by_its_numbers(base, arguments, shape, name):
    """A subclass multiplies the output by a parameter of its own, and gets that parameter's gradient wrong."""
    class Louder(base):
        def build(self, input_shape):
            super().build(input_shape)
            self.add_param(name, (1, 2), lambda shape, rng: np.array([[1.5, 0.5]]))

        def forward(self, x, training=False):
            self.out = super().forward(x, training)
            return self.out * self.params[name].sum()

        def backward(self, dout):
            dx = super().backward(dout * self.params[name].sum())
            self.grads[name] = np.array([[-1.0, -1.0]]) * np.sum(dout * self.out)
            return dx

    report = check_layer(Louder(*arguments), shape)
    row = report[name]
    assert not row.ok
    assert row.diagnosis.kind == "sign"


@pytest.mark.parametrize(("base", "arguments", "shape"), [
    (Activation, ("tanh",), (4,)), (BatchNormalization, (), (4, 3)), (Flatten, (), (3, 2)),
    (Conv2D, (2, (2, 1)), (4, 3, 2)), (Dense, (3,), (4,)), (MaxPooling2D, ((2, 1),), (4, 3, 2))])
def test_a_subclass_with_outputs_of_another_shape_is_diagnosed_by_its_numbers(base, arguments, shape):
    """It gives its outputs twice, one beside the other: the formula of the base does not even fit in shape."""
    class Doubled(base):
        def compute_output_shape(self, input_shape):
            *axes, last = super().compute_output_shape(input_shape)
            return (*axes, 2 * last)

        def forward(self, x, training=False):
            out = super().forward(x, training)
            return np.concatenate([out, out], axis=-1)

        def check_gradient(self, dout):
            return dout

        def backward(self, dout):
            first, second = np.split(dout, 2, axis=-1)
            return -super().backward(first + second)

    row = check_layer(Doubled(*arguments), shape)["input"]
    assert not row.ok
    assert row.diagnosis.kind == "sign"

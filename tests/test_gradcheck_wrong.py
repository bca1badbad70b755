"""The gradient check itself: it must refuse wrong layers, whatever is wrong."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest

from minicnn.gradcheck import check_layer, check_model
from minicnn.layers import BatchNormalization, Conv2D, Dense, Flatten, Layer
from minicnn.models import Sequential
from own_layers import (
    Cube,
    LeakyReLU,
    RedrawnMask,
    WrongDense,
    missing,
    scaled,
    scaled_input,
)

# The check is the same under both sets; test_gradients.py runs it under each.
pytestmark = pytest.mark.usefixtures("reference_kernels")


# --- wrong layers ------------------------------------------------------------------------------------------------

def zero_everything(grads, dx):
    grads.update({key: np.zeros_like(grad) for key, grad in grads.items()})
    return np.zeros_like(dx)


def zero_input(grads, dx):
    return np.zeros_like(dx)


def sign(grads, dx):
    grads["bias"] = -grads["bias"]
    return dx


def transposed(grads, dx):
    grads["kernel"] = np.ascontiguousarray(grads["kernel"].T)
    return dx


def none(grads, dx):
    grads["bias"] = None


def wrong_shape(grads, dx):
    grads["bias"] = grads["bias"][None, :]
    return dx


def wrong_dtype(grads, dx):
    grads["kernel"] = grads["kernel"].astype(np.float32)
    return dx


def not_finite(grads, dx):
    dx[0, 0] = np.nan
    return dx


def number(grads, dx):
    grads["bias"] = 1.0
    return dx


def bias_of_one_image(grads, dx):
    grads["bias"] = grads["bias"] / 5  # averaged over the batch instead of summed
    return dx


def one_entry(grads, dx):
    grads["kernel"][1, 2] += 1e-6 * np.abs(grads["kernel"]).max()
    return dx


@pytest.mark.parametrize(("spoil", "refused", "note"), [
    (zero_everything, {"input", "kernel", "bias"}, "all zero"), (zero_input, {"input"}, "all zero"),
    (scaled, {"kernel"}, ""), (scaled_input, {"input"}, ""), (sign, {"bias"}, ""), (transposed, {"kernel"}, ""),
    (missing, {"kernel"}, "missing from layer.grads"), (none, {"input", "bias"}, "None|missing"),
    (wrong_shape, {"bias"}, r"shape \(1, 4\), expected \(4,\)"), (wrong_dtype, {"kernel"}, "float32, expected float64"),
    (not_finite, {"input"}, "1 of 20 entries are NaN"), (number, {"bias"}, "float, expected an array"),
    (bias_of_one_image, {"bias"}, ""), (one_entry, {"kernel"}, "")])
def test_wrong_dense_is_refused(spoil, refused, note):
    report = check_layer(WrongDense(4, spoil), (4,))
    assert not report
    assert {row.what for row in report.rows if not row.ok} == refused
    for what in refused:
        row = report[what]
        assert row.verdict == "WRONG"
        assert row.error > row.limit
        if note:
            assert re.search(note, row.note), row.note
    assert "WRONG" in str(report)


def test_sizes_of_errors_are_reported():
    assert check_layer(WrongDense(4, scaled), (4,))["kernel"].error == pytest.approx(1e-3, rel=1e-6)
    assert check_layer(WrongDense(4, zero_input), (4,))["input"].error == pytest.approx(1, rel=1e-9)
    row = check_layer(WrongDense(4, one_entry), (4,))["kernel"]
    assert row.where == (1, 2)
    assert row.error == pytest.approx(1e-6, rel=1e-3)
    assert row.numeric.shape == row.analytic.shape == (4, 4)


class Accumulating(Dense):
    def backward(self, dout):
        before = dict(self.grads)
        dx = super().backward(dout)
        self.grads = {key: grad + before.get(key, 0) for key, grad in self.grads.items()}
        return dx


def test_accumulating_gradients_are_refused():
    report = check_layer(Accumulating(3), (4,))
    assert report["input"].ok
    assert not report["kernel"].ok
    assert "assigned" in report["kernel"].note


class UnfrozenMask(Layer):
    """Chance that does not follow from layer.step."""

    calls = 0

    def forward(self, x, training=False):
        self.calls += 1
        mask = np.random.default_rng(self.calls).random(x.shape) < 0.5
        self.keep(training, mask=mask)
        self.build(x.shape[1:]) if not self.built else None
        return x * mask

    def backward(self, dout):
        return dout * self.kept("mask")


def test_wrong_dropouts_are_refused():
    row = check_layer(RedrawnMask(0.4), (6, 5))["input"]
    assert row.verdict == "WRONG"
    assert row.error > 0.5
    row = check_layer(UnfrozenMask(), (6, 5))["input"]
    assert row.verdict == "WRONG"


def test_chance_that_leaves_the_gradient_alone():
    class Noise(Layer):
        calls = 0

        def forward(self, x, training=False):
            self.calls += 1
            x = self.check_input(x)
            return x + np.random.default_rng(self.calls).standard_normal(x.shape)

        def backward(self, dout):
            self.grads = {}
            return dout

    row = check_layer(Noise(), (6, 5))["input"]
    assert row.verdict == "WRONG"
    assert "two equal forward passes differ" in row.note


class WrongBatchNorm(BatchNormalization):
    def __init__(self, term, **base):
        super().__init__(**base)
        self.term = term

    def backward(self, dout):
        super().backward(dout)
        x, mean, variance = self.kept("x", "mean", "variance")
        axes = tuple(range(x.ndim - 1))
        normal = (x - mean) / np.sqrt(variance + self.epsilon)
        terms = {"mean": dout.mean(axis=axes), "variance": normal * (dout * normal).mean(axis=axes)}
        kept = sum(value for name, value in terms.items() if name != self.term)
        return self.params["gamma"] / np.sqrt(variance + self.epsilon) * (dout - kept)


@pytest.mark.parametrize("shape", [(5,), (3, 4, 2)])
def test_wrong_batch_norms_are_refused(shape):
    assert check_layer(WrongBatchNorm("neither"), shape)  # the test's own formula is right
    for term in ("mean", "variance"):
        report = check_layer(WrongBatchNorm(term), shape)
        assert report["input"].verdict == "WRONG"
        assert report["gamma"].ok
        assert report["beta"].ok


class GammaForgotten(BatchNormalization):
    """Right where gamma is 1, as it is in every new layer."""

    def backward(self, dout):
        return super().backward(dout) / self.params["gamma"]


class MeanForgotten(BatchNormalization):
    """With constant statistics right where the moving mean is 0 and the moving variance 1, as in every new layer."""

    def backward(self, dout):
        dx = super().backward(dout)
        self.grads["gamma"] = (dout * self.kept("x")).sum(axis=tuple(range(dout.ndim - 1)))
        self.grads["gamma"] /= np.sqrt(self.state["moving_variance"] + self.epsilon)
        return dx


class VarianceForgotten(BatchNormalization):
    def backward(self, dout):
        super().backward(dout)
        return dout * self.params["gamma"] / np.sqrt(1 + self.epsilon)


@pytest.mark.parametrize(("layer", "what"), [
    (GammaForgotten(), "input"), (GammaForgotten(trainable=False), "input"),
    (MeanForgotten(trainable=False), "gamma"), (VarianceForgotten(trainable=False), "input")])
@pytest.mark.parametrize("shape", [(5,), (3, 4, 2), (3, 2, 1)])
def test_values_that_a_new_layer_starts_with_hide_no_mistake(layer, what, shape):
    """Ones and zeros: whatever is multiplied by the former, or by the latter added, might as well be forgotten."""
    report = check_layer(layer, shape)
    assert [row.what for row in report.rows if not row.ok] == [what], str(report)
    assert report[what].verdict == "WRONG"
    model = Sequential([copy.deepcopy(layer), Flatten(), Dense(2)])
    report = check_model(model, np.random.default_rng(2).standard_normal((5, *shape)))
    assert [row.what.rpartition("/")[2] for row in report.rows if not row.ok] == [what], str(report)
    assert report.notes[0].startswith(f"{layer.name} is wrong by itself: {what}: "), str(report)


def test_what_is_wrong_where_gamma_is_1_is_named():
    diagnosis = check_layer(GammaForgotten(), (3, 4, 2))["input"].diagnosis
    assert diagnosis.kind == "factor"
    assert "the factor gamma is missing" in str(diagnosis)


class WrongConv(Conv2D):
    """The bias gradient is taken from the first image only."""

    def backward(self, dout):
        dx = super().backward(dout)
        self.grads["bias"] = dout[0].sum(axis=(0, 1))
        return dx


def test_bias_gradient_not_summed_over_the_batch():
    report = check_layer(WrongConv(3, (2, 3)), (4, 5, 2))
    assert [row.what for row in report.rows if not row.ok] == ["bias"]


class OneRowWrong(Dense):
    def backward(self, dout):
        dx = super().backward(dout)
        self.grads["kernel"][self.row] *= 1.01
        return dx


def test_random_direction_sees_entries_that_were_not_drawn():
    layer = OneRowWrong(7)
    layer.row = 0
    drawn = np.isfinite(check_layer(layer, (300,))["kernel"].numeric).any(axis=1)
    assert not drawn.all()
    layer.row = int(np.flatnonzero(~drawn)[0])
    row = check_layer(layer, (300,))["kernel"]
    assert row.checked == 201
    assert row.verdict == "WRONG"
    assert row.where == "random direction"


def test_wrong_layer_is_never_excused_by_kinks():
    """A wrong gradient of a function with kinks is refused as wrong, not skipped."""
    class Wrong(LeakyReLU):
        def backward(self, dout):
            return np.where(self.kept("x") > 0, dout, 0.2 * dout)

    row = check_layer(Wrong(), (8, 5))["input"]
    assert row.verdict == "WRONG"
    assert row.skipped == 0


def test_wrong_smooth_layer_is_refused():
    class Wrong(Cube):
        def backward(self, dout):
            return super().backward(dout) * (1 + 1e-7)

    assert check_layer(Wrong(), (4, 3))["input"].error == pytest.approx(1e-7, rel=0.01)
    assert not check_layer(Wrong(), (4, 3))


def test_output_of_the_wrong_dtype():
    class Narrow(LeakyReLU):
        def forward(self, x, training=False):
            return super().forward(x, training).astype(np.float32)

    report = check_layer(Narrow(), (4, 3))
    assert not report
    assert report["forward"].verdict == "WRONG"
    assert "float32" in report["forward"].note

"""The gradient check itself: it must pass right layers, whatever their steps and kinks."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn._gradcheck_points import prepare
from minicnn.errors import ShapeError
from minicnn.gradcheck import check_layer, check_model
from minicnn.layers import Activation, BatchNormalization, Conv2D, Dense, Flatten, MaxPooling2D
from minicnn.models import Sequential
from own_layers import (
    Cube,
    LeakyReLU,
    NearlyLinear,
    RedrawnMask,
    Scale,
    Sine,
    small_data,
    small_model,
)

# The check is the same under both sets; test_gradients.py runs it under each.
pytestmark = pytest.mark.usefixtures("reference_kernels")


# --- right layers of a reader's own ------------------------------------------------------------------------------

@pytest.mark.parametrize(("layer", "shape", "limit"), [
    (LeakyReLU(), (4, 3, 2), 1e-8), (Scale(), (4, 3, 2), 1e-10), (Cube(), (7,), 1e-8),
    (NearlyLinear(), (7,), 1e-8)])
def test_right_layers_pass(layer, shape, limit):
    report = check_layer(layer, shape)
    assert report, str(report)
    assert report.ok
    assert {row.limit for row in report.rows} == {limit}
    assert all(row.skipped == 0 and row.error <= limit for row in report.rows)
    assert [row.what for row in report.rows] == ["input", *layer.params] if layer.built else ["input"]


def test_curvature_is_extrapolated_away():
    for seed in range(4):
        assert check_layer(Cube(), (7,), seed=seed)["input"].error < 1e-11


def test_far_from_zero():
    x = 1e4 + np.random.default_rng(0).standard_normal((5, 3))
    assert check_layer(Sine(), x=x)["input"].error < 1e-11


@pytest.mark.parametrize("seed", range(20))
def test_no_alarm_on_right_layers(seed):
    """On many seeds: step sizes and kinks are a matter of luck, the verdict must not be."""
    for layer, shape in [(LeakyReLU(), (5, 4)), (Dense(6, activation="relu"), (5,)), (BatchNormalization(), (3, 2, 2)),
                         (Dense(4, activation="softmax"), (3,))]:
        report = check_layer(layer, shape, seed=seed)
        assert report.ok, str(report)


# --- the caller's layer stays as it is ---------------------------------------------------------------------------

def test_layer_stays_untouched():
    layer = Dense(3)
    assert check_layer(layer, (4,))
    assert not layer.built
    assert layer.params == {}
    built = Scale()
    built.build((2,))
    before = built.params["factor"].copy()
    assert check_layer(built)  # a built layer knows its input shape
    assert built.dtype == "float32"
    assert built.params["factor"].dtype == np.float32
    assert np.array_equal(built.params["factor"], before)
    assert built.grads == {}
    assert built.step is None


def test_model_stays_untouched():
    model = small_model()
    weights = [array.copy() for array in model.get_weights()]
    assert check_model(model, *small_data())
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(weights, model.get_weights()))
    assert all(layer.grads == {} and layer.dtype == "float32" for layer in model.layers)


def test_unknown_input_shape():
    with pytest.raises(ShapeError, match="input_shape"):
        check_layer(Dense(3))


# --- kinks -------------------------------------------------------------------------------------------------------

def test_inputs_on_kinks_are_not_checked():
    on_kink = np.zeros((5, 4, 3))
    row = check_layer(Activation("relu"), x=on_kink, nudge=0)["input"]
    assert row.verdict == "NOT CHECKED"
    assert (row.checked, row.skipped) == (0, 60)
    assert "60 of 60" in row.note
    assert check_layer(Activation("relu"), x=on_kink)  # moved off


def test_a_wrong_gradient_on_kinks_is_still_refused():
    row = check_layer(RedrawnMask(0.4), x=np.zeros((5, 3, 2)), nudge=0)["input"]
    assert row.verdict == "WRONG"


@pytest.mark.parametrize("distance", [0.0, 1e-7, -3e-8])
def test_skipped_points_are_counted(distance):
    """Three of 100 points on or beside a kink: skipped. Six: too many."""
    x = np.random.default_rng(0).choice([-1, 1], (10, 10)) * 0.5
    x[2, 3:6] = distance
    row = check_layer(Activation("relu"), x=x, nudge=0)["input"]
    assert row.ok, row
    assert (row.checked, row.skipped) == (97, 3)
    assert np.isnan(row.numeric[2, 3:6]).all()
    x[4, 2:5] = distance
    row = check_layer(Activation("relu"), x=x, nudge=0)["input"]
    assert row.verdict == "NOT CHECKED"
    assert row.skipped == 6


class KinkInParameter(Scale):
    """x (p² + |p - s|): p starts on the kinks s; beside them the gradient depends on where exactly."""

    start = np.array([0.5, 1.0, 1.5, 2.0])     # not all equal: the check moves such a parameter from the outset

    def build(self, input_shape):
        super().build(input_shape)
        self.params["factor"] = self.start.astype(self.dtype)

    def forward(self, x, training=False):
        super().forward(x, training)
        p = self.params["factor"]
        return x * (p**2 + np.abs(p - self.start))

    def backward(self, dout):
        p = self.params["factor"]
        self.grads = {"factor": (dout * self.kept("x")).sum(axis=0) * (2 * p + np.sign(p - self.start))}
        return dout * (p**2 + np.abs(p - self.start))


def test_points_on_kinks_are_moved():
    report = check_layer(KinkInParameter(), (4,))
    assert report, str(report)
    row = report["factor"]
    assert (row.checked, row.moved, row.skipped) == (4, 4, 0)
    assert np.all(np.abs(row.analytic - row.numeric) < 1e-8 * np.abs(row.numeric).max())
    row = check_layer(KinkInParameter(), (4,), nudge=0)["factor"]
    assert row.verdict == "NOT CHECKED"


def test_parameters_at_zero_are_moved():
    report = check_layer(Dense(3, activation="relu", kernel_initializer="zeros"), (4,))
    assert report, str(report)
    assert [row.moved for row in report.rows] == [0, 0, 0]
    assert np.abs(report["input"].numeric).max() > 0


@pytest.mark.parametrize("nudge", [0, 0.1, 3])
def test_weights_that_are_all_equal_are_moved_apart(nudge):
    """Learned ones stay where they are; what was positive stays so, and no larger."""
    layer = BatchNormalization(dtype="float64")
    layer.build((6,))
    learned = np.array([1.0, 1, 1, 1, 1, 2])
    layer.params["learned"] = learned.copy()
    layer.state["learned"] = learned - 1
    before = {key: array.copy() for key, array in layer.weights.items()}
    prepare([layer], nudge, np.random.default_rng(1))
    gamma, beta = layer.params["gamma"], layer.params["beta"]
    mean, variance = layer.state["moving_mean"], layer.state["moving_variance"]
    assert np.array_equal(layer.params["learned"], learned)
    assert np.array_equal(layer.state["learned"], learned - 1)
    if nudge == 0:
        assert all(np.array_equal(array, before[key]) for key, array in layer.weights.items())
        return
    assert all(len(set(array)) == 6 for array in (gamma, beta, mean, variance))
    for ones in (gamma, variance):
        assert np.all((1 / (1 + nudge) <= ones) & (ones <= 1 / (1 + nudge / 2)))
    assert np.all((nudge / 2 <= mean) & (mean <= nudge))
    assert np.all((nudge / 2 <= np.abs(beta)) & (np.abs(beta) <= nudge))


def test_ties_of_pooling_are_seen():
    x = np.random.default_rng(1).permutation(np.arange(6 * 5 * 4.0)).reshape(1, 6, 5, 4)[..., :2].copy()
    assert check_layer(MaxPooling2D((3, 2)), x=x, nudge=0)
    x[0, :3, :2, 0] = 7.0
    row = check_layer(MaxPooling2D((3, 2)), x=x, nudge=0)["input"]
    assert row.verdict == "NOT CHECKED"
    assert row.skipped == 6


def test_blank_background():
    """Zero images and zero biases: every ReLU on its kink, every pool in a tie; the copy is moved."""
    model = Sequential([Conv2D(2, (3, 2), padding="same", activation="relu", input_shape=(4, 6, 1)),
                        MaxPooling2D((2, 3)), Flatten(), Dense(3)])
    x = np.zeros((3, 4, 6, 1), np.float32)
    report = check_model(model, x)
    assert report, str(report)
    report = check_model(model, x, nudge=0)
    assert not report
    assert report[f"{model.layers[0].name}/bias"].verdict == "NOT CHECKED"

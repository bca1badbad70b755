"""Steps of the gradient check: no function may look affine, or smooth, because its period divides a step."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn._gradcheck_differences import Line
from minicnn.gradcheck import check_gradients, check_layer, check_model
from minicnn.layers import Dense, Layer
from minicnn.models import Sequential

pytestmark = pytest.mark.usefixtures("reference_kernels")


class Elementwise(Layer):
    """y = f(x), whose backward multiplies by ``slope(x)``, right or wrong."""

    def __init__(self, f, slope, **base):
        super().__init__(**base)
        self.f = f
        self.slope = slope

    def forward(self, x, training=False):
        x = self.check_input(x)
        self.keep(training, x=x)
        return self.f(x)

    def backward(self, dout):
        self.grads = {}
        return self.slope(self.kept("x")) * dout


def fixed_point(levels):
    return lambda x: np.round(levels * x) / levels


def sine(x):
    return np.sin(2 * np.pi * x)


def wave(x):
    return x + 0.1 * sine(x)


def saw(x):
    return x - np.floor(x)


def sine_slope(x):
    return 2 * np.pi * np.cos(2 * np.pi * x)


def one(x):
    return np.ones_like(x)


def zero(x):
    return np.zeros_like(x)


STEPPED = {"floor": np.floor, "round": np.round, "255 levels": fixed_point(255), "256 levels": fixed_point(256),
           "two decimals": fixed_point(100), "2**11 levels": fixed_point(2**11), "2**12 levels": fixed_point(2**12),
           "2**16 levels": fixed_point(2**16), "four decimals": fixed_point(10**4)}
RIGHT = {"sine": (sine, sine_slope), "wave": (wave, lambda x: 1 + 0.1 * sine_slope(x)), "saw": (saw, one),
         "period 1/2": (lambda x: sine(2 * x), lambda x: 2 * sine_slope(2 * x)),
         "period 1/10": (lambda x: sine(10 * x), lambda x: 10 * sine_slope(10 * x)),
         **{name: (f, zero) for name, f in STEPPED.items()}}
WRONG = {"sine without slope": (sine, zero), "wave without cosine": (wave, one), "saw without slope": (saw, zero),
         "period 1/2 without slope": (lambda x: sine(2 * x), zero),
         "weak wave without cosine": (lambda x: x + 1e-5 * sine(x), one),
         **{f"{name}, straight through": (f, one) for name, f in STEPPED.items()}}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", RIGHT)
def test_right_periodic_functions_pass(name, seed):
    report = check_layer(Elementwise(*RIGHT[name]), (4, 3), seed=seed)
    assert report, str(report)
    assert report["input"].limit == 1e-8


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", WRONG)
def test_wrong_periodic_functions_are_refused(name, seed):
    row = check_layer(Elementwise(*WRONG[name]), (4, 3), seed=seed)["input"]
    assert row.verdict == "WRONG", row
    assert row.error > 1e-7


@pytest.mark.parametrize("name", WRONG)
def test_periodic_functions_in_a_model(name):
    """Behind a Dense layer, with labels and a tensor of more entries than are drawn."""
    def model(f, slope):
        return Sequential([Dense(13, input_shape=(17,)), Elementwise(f, slope), Dense(4)])

    x = np.random.default_rng(4).standard_normal((2, 17))
    report = check_model(model(*WRONG[name]), x)
    assert {row.what for row in report.rows if row.verdict == "WRONG"} >= {"input", "dense/kernel", "dense/bias"}


@pytest.mark.parametrize("distance", np.linspace(0, 4, 41)[:-1])
def test_doubt_is_as_large_as_the_error_near_a_kink(distance):
    """What DOUBT, below 0.9, relies on."""
    def function():
        return float(max(0.0, x[0] - distance * 2.0**-12))

    x = np.zeros(1)
    slope, doubt = Line(function, x, (0,), 0.0).slope(2.0**-12)
    true = 0.5 if distance == 0 else 0.0
    assert doubt >= 0.9 * abs(slope - true)
    assert doubt > 0.005


def test_periodic_function_of_an_array():
    a = np.random.default_rng(0).uniform(-2, 2, (3, 2))

    def function(a):
        return np.sum(sine(a))

    assert check_gradients(function, {"a": a}, {"a": sine_slope(a)})
    assert check_gradients(function, {"a": a}, {"a": zero(a)})["a"].verdict == "WRONG"


def test_a_random_direction_that_cannot_be_followed_is_said_to_be_unchecked():
    """Each entry may change alone; two at once leave the function's domain."""
    start = np.random.default_rng(0).standard_normal((16, 15))

    def function(a):
        if np.count_nonzero(a != start) > 1:
            raise ValueError("outside")
        return np.sum(a**2)

    row = check_gradients(function, {"a": start.copy()}, {"a": 2 * start})["a"]
    assert (row.checked, row.skipped) == (200, 1)
    assert (row.verdict, row.note) == ("NOT CHECKED", "kinks or ties all along the random direction")

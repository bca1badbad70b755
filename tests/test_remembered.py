"""What inference keeps of the weights is used only while they are the same, however they were changed."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.kernels.remembered import Remembered
from minicnn.layers import BatchNormalization, Conv2D, Dense, Flatten, Input
from minicnn.models import Sequential


@pytest.fixture
def counted():
    """A Remembered and the list of what it had made."""
    made: list[int] = []

    def make():
        made.append(len(made))
        return made[-1]

    return Remembered(), make, made


def test_equal_arrays_are_not_made_anew(counted, rng):
    remembered, make, made = counted
    a, b = rng.standard_normal((3, 2)), rng.standard_normal(4)
    assert [remembered.get("key", arrays, make) for arrays in ((a, b), (a, b), (a.copy(), b.copy()))] == [0, 0, 0]
    assert made == [0]


def test_every_change_is_seen(counted, rng):
    remembered, make, _ = counted
    a, b = rng.standard_normal((3, 2)), rng.standard_normal(4)
    remembered.get("key", (a, b), make)
    a[2, 1] += 1
    assert remembered.get("key", (a, b), make) == 1
    assert remembered.get("other key", (a, b), make) == 2
    assert remembered.get("other key", (a.astype(np.float32), b), make) == 3
    assert remembered.get("other key", (a.reshape(2, 3), b), make) == 4
    b[0] = np.nan
    assert [remembered.get("other key", (a, b), make) for _ in range(2)] == [5, 6]  # NaN equals nothing


def network(seed):
    """A direct convolution, one by Winograd's algorithm, normalization: all that is remembered."""
    return Sequential([Input((9, 7, 2)), Conv2D(16, 3, activation="relu"), BatchNormalization(),
                       Conv2D(16, 3, activation="relu", algorithm="winograd"), BatchNormalization(), Flatten(),
                       Dense(3)], seed=seed)


def changes(model):
    """Ways to change weights, in place and by new arrays."""
    first, norm, second = model.layers[0], model.layers[1], model.layers[2]
    first.params["kernel"][0, 1, 1, 3] += 1
    yield "in place"
    second.params["kernel"] = second.params["kernel"] * 2
    yield "a new array"
    norm.state["moving_mean"] = norm.state["moving_mean"] + 0.5
    yield "moving averages"
    norm.params["gamma"] *= -1
    yield "gamma"
    model.set_weights([array + 0.01 for array in model.get_weights()])
    yield "set_weights"
    old = first.params["kernel"]
    first.params["kernel"] = old.copy()
    model(np.ones((1, 9, 7, 2), np.float32))
    old[...] = 0
    yield "an array that is no longer the layer's"


def test_predictions_follow_the_weights(rng):
    model, x = network(1), rng.standard_normal((2, 9, 7, 2)).astype(np.float32)
    model(x)
    for how in changes(model):
        fresh = network(2)
        fresh.set_weights(model.get_weights())
        np.testing.assert_array_equal(model(x), fresh(x), err_msg=how)

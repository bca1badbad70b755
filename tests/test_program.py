"""Programs: what is arranged once for inference gives, every time, what the layers would give now."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import recipes
from minicnn import Sequential, activations, plan
from minicnn.activations import ActivationFunction
from minicnn.errors import ShapeError
from minicnn.kernels.fast import fused, memory
from minicnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, MaxPooling2D
from minicnn.program import Program
from networks import SPARSE
from own_layers import LeakyReLU

conv2d = importlib.import_module("minicnn.kernels.fast.conv2d")


@pytest.fixture(autouse=True)
def _fast(use_kernels, threads):
    use_kernels("fast")
    threads(1)


@pytest.fixture
def made(monkeypatch):
    """Return the list of the shapes that programs were made for."""
    shapes = []
    original = Program.__init__
    monkeypatch.setattr(Program, "__init__", lambda self, shape, dtype: (shapes.append(shape),
                                                                         original(self, shape, dtype))[1])
    return shapes


def network(seed=0, **options):
    """All that can be part of a program; Dense(16) reads its kernel itself, Dense(5) a copy of it."""
    return Sequential([
        Input((9, 7, 2)), Conv2D(16, 3, activation="relu"), BatchNormalization(), Conv2D(4, 3, padding="same"),
        BatchNormalization(), MaxPooling2D(), Dropout(0.5), Flatten(), Dense(16, activation="relu"),
        BatchNormalization(), Dense(5, activation="softmax", **options)], seed=seed)


def draw(rng, n):
    return rng.standard_normal((n, 9, 7, 2)).astype(np.float32)


def fresh(model, x):
    """Return what a new network with the same weights and settings says."""
    other = network(7)
    for layer, its in zip(model.layers, other.layers, strict=True):
        if isinstance(layer, BatchNormalization):
            its.epsilon = layer.epsilon
    other.set_weights(model.get_weights())
    return other(x)


def test_one_program_serves_all_batches_of_its_shape(rng, made):
    model = network()
    for n, anew in ((3, True), (3, False), (1, True), (3, False), (1, False), (2, True), (3, True)):
        x = draw(rng, n)
        made.clear()
        out = model(x)
        assert made == [(n, 9, 7, 2)] * anew                           # two are kept
        np.testing.assert_array_equal(out, fresh(model, x))


def test_what_a_batch_leaves_behind_does_not_reach_the_next(rng):
    model = network()
    x = draw(rng, 2)
    expected = model(x)
    with np.errstate(all="ignore"):
        assert np.isnan(model(np.full_like(x, np.nan))).any()
    assert np.isfinite(expected).all()                                 # what was handed out is not overwritten
    np.testing.assert_array_equal(model(x), expected)


def weights_of_all_layers():
    """Each weight of the network, changed in place and replaced."""
    for layer in network().layers:
        for own in ("params", "state"):
            for key in getattr(layer, own):
                yield layer.name, own, key


@pytest.mark.parametrize("way", ["in place", "replaced"])
@pytest.mark.parametrize(("name", "own", "key"), list(weights_of_all_layers()))
def test_every_weight_is_looked_at(rng, name, own, key, way):
    model, x = network(), draw(rng, 2)
    before = model(x)
    arrays = getattr(model.get_layer(name), own)
    place = (0,) * arrays[key].ndim
    if way == "in place":
        arrays[key][place] += 0.75
    else:
        arrays[key] = arrays[key] + np.float32(0.75)
    after = model(x)
    np.testing.assert_array_equal(after, fresh(model, x))
    assert (after != before).any()


def test_a_weight_may_be_nan_or_lie_in_any_order(rng, made):
    model, x = network(), draw(rng, 2)
    expected = model(x)
    for dense in (model.layers[-3], model.layers[-1]):
        dense.params["kernel"] = np.asfortranarray(dense.params["kernel"])
        np.testing.assert_array_equal(model(x), expected)
        dense.params["kernel"][2, 1] += 1
        expected = fresh(model, x)
        np.testing.assert_array_equal(model(x), expected)
    kernel = dense.params["kernel"] = np.ascontiguousarray(dense.params["kernel"])
    np.testing.assert_array_equal(model(x), expected)
    kernel.shape = kernel.shape[::-1]                                  # no number has changed
    with pytest.raises(ShapeError, match=r"dense got .*w \(5, 16\)"):
        model(x)
    kernel.shape = kernel.shape[::-1]
    model.layers[0].params["bias"][0] = np.nan
    made.clear()
    with np.errstate(all="ignore"):
        assert np.isnan(model(x)).any()
        assert np.isnan(model(x)).any()
    assert len(made) == 1                                              # NaN has not changed since


def test_settings_are_looked_at(rng, threads, made):
    model, x = network(), draw(rng, 2)
    expected = model(x)
    model.layers[1].epsilon = 0.5
    assert (model(x) != expected).any()
    np.testing.assert_array_equal(model(x), fresh(model, x))
    model.layers[1].epsilon = 1e-3
    made.clear()
    threads(3)
    np.testing.assert_array_equal(model(x), expected)
    assert len(made) == 1
    model.layers[-1].activation = activations.get("sigmoid")
    assert (model(x).sum(axis=1) != 1).all()
    for layer in model.layers:
        layer.astype("float64")
    assert model(x).dtype == np.float64


def test_evaluation_gets_logits_and_prediction_probabilities(rng):
    model, x, y = network(), draw(rng, 4), np.array([0, 1, 2, 3])
    model.compile("sgd", SPARSE)
    for _ in range(2):
        shares = model.predict(x)
        np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
        loss = model.evaluate(x, y, batch_size=4)
        assert loss == pytest.approx(-np.log(shares[np.arange(4), y]).mean(), rel=1e-5)


def test_training_between_predictions_is_seen(rng):
    model, x, y = network(), draw(rng, 4), np.array([0, 1, 2, 3])
    model.compile("sgd", SPARSE)
    for _ in range(3):
        model.train_on_batch(x, y)
        np.testing.assert_array_equal(model(x), fresh(model, x))


@pytest.mark.parametrize("name", ["PREPARED_INPUT", "PREPARED"])
def test_large_batches_and_layers_of_ones_own_go_block_by_block(rng, made, monkeypatch, name):
    model, x = network(), draw(rng, 3)
    expected = model(x)
    model._current_plan()._programs.clear()
    monkeypatch.setattr(plan, name, 2 * (x[0].nbytes if name == "PREPARED_INPUT" else model.plan()._image_bytes))
    made.clear()
    np.testing.assert_array_equal(model(x), expected)
    assert not made
    model(x[:2])
    assert made == [(2, 9, 7, 2)]
    made.clear()
    own = Sequential([Input((9, 7, 2)), Conv2D(4, 3), LeakyReLU(0.1), Flatten(), Dense(3)], seed=0)
    np.testing.assert_array_equal(own(x[:2]), own(x[:2]))
    assert not made


class Restless(ActivationFunction):
    """A reader's own activation: each result is a new array, and not the one before."""

    calls = 0

    def __call__(self, z, out=None):
        self.calls += 1
        return z * 2 + self.calls


def test_an_activation_of_ones_own_may_return_another_array(rng):
    model, x = network(), draw(rng, 2)
    model.layers[-1].activation = activations.get("linear")
    z = model(x)
    model.layers[-1].activation = Restless("restless")
    np.testing.assert_array_equal(model(x), 2 * z + 1)
    np.testing.assert_array_equal(model(x), 2 * z + 2)


def test_who_predicts_in_the_middle_of_a_prediction_gets_a_program_of_his_own(rng, made):
    """As a signal handler may, and another thread that has the plan."""
    model, x, other = network(), draw(rng, 2), draw(rng, 2)
    expected, its = model(x), model(other)
    program = model._current_plan()._programs[x.shape]
    seen, made[:] = [], []

    def interrupt():
        if not seen:
            seen.append(None)
            seen.append(model(other))

    program._calls.insert(3, interrupt)
    np.testing.assert_array_equal(model(x), expected)
    np.testing.assert_array_equal(seen[1], its)
    assert len(made) == 1


def test_training_drops_the_programs(rng):
    model, x = network(), draw(rng, 4)
    model.compile("sgd", SPARSE)
    model(x)
    model.train_on_batch(x, np.array([0, 1, 2, 3]))
    assert not model._current_plan()._programs


def test_an_input_without_axes_is_refused_by_its_shape(rng):
    with pytest.raises(ShapeError, match=r"expected \(N, 9, 7, 2\)"):
        network()(np.float32(3))


def test_a_program_needs_two_activations_at_a_time_and_little_else(monkeypatch):
    """And no array that is made for a call, once the program is there."""
    model = recipes.cnn((28, 28, 1), 10, 0)
    x = np.zeros((8, 28, 28, 1), np.float32)
    taken: list[int] = []
    original = memory.empty
    for module in (memory, conv2d, fused):
        monkeypatch.setattr(module, "empty", lambda shape, dtype: (taken.append(
            int(np.prod(shape)) * np.dtype(dtype).itemsize), original(shape, dtype))[1])
    model(x)
    largest = 8 * 28 * 28 * 32 * 4
    assert largest in taken
    assert sum(size >= largest // 8 for size in taken) <= 6, sorted(taken)[-8:]
    taken.clear()
    model(x)
    assert not taken


def test_two_results_in_turns_share_two_pieces_of_memory(rng):
    arrays = memory.InTurns()
    a, b = arrays.result((3, 5), np.float32), arrays.result((4,), np.float64)
    c, d = arrays.result((2, 7), np.float32), arrays.result((9, 9), np.float32)
    assert [np.shares_memory(*pair) for pair in ((a, b), (a, c), (b, c), (c, d), (b, d))] == [False, True] + [False] * 3
    e, f = arrays.work((5,), np.float32), arrays.work((3,), np.float32)
    assert np.shares_memory(e, f)
    assert not any(np.shares_memory(e, array) for array in (a, b, c, d))
    assert not np.shares_memory(memory.FRESH.result((5,), np.float32), memory.FRESH.result((5,), np.float32))
    assert all(array.ctypes.data % memory.ALIGNMENT == 0 for array in (a, b, c, d, e, f))

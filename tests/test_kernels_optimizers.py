"""The optimizers' updates beside their formulas in Python's own numbers."""

from __future__ import annotations

import os

import numpy as np
import pytest

import naive
from kernel_calls import DTYPES, close, draw, equal, kernels  # noqa: F401  (a fixture)
from minicnn.errors import ArgumentError
from minicnn.optimizers import SGD, Adam, RMSprop

NO_JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def steps(update, one_number, slots: int, dtype, count: int = 5) -> None:
    """Run an optimizer beside its definition and compare parameter and slots after each step.

    ``update(param, grad, *slots, step)`` works in place; ``one_number`` takes and returns the same as numbers.
    """
    rng = np.random.default_rng(14)
    shape = (3, 2, 7)
    arrays = [draw(rng, shape, dtype)] + [np.zeros(shape, dtype) for _ in range(slots)]
    right = [array.astype(float) for array in arrays]
    for step in range(1, count + 1):
        grad = np.asfortranarray(draw(rng, shape, dtype, 10.0**rng.integers(-3, 2)))
        grad[0, 1] = 0
        before = grad.copy()
        assert update(arrays[0], grad, *arrays[1:], step) is None
        equal(grad, before, dtype)
        for index in np.ndindex(shape):
            numbers = one_number(right[0][index], float(grad[index]), *(slot[index] for slot in right[1:]), step)
            for array, number in zip(right, numbers, strict=True):
                array[index] = number
        for actual, expected in zip(arrays, right, strict=True):
            close(actual, expected, dtype, ulps=16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("settings", [(1e-3, 0.9, 0.999, 1e-7), (0.05, 0.5, 0.8, 1e-2)])
def test_adam(kernels, settings, dtype):  # noqa: F811
    steps(lambda param, grad, m, v, step: kernels.adam_update(param, grad, m, v, *settings, step),
          lambda param, grad, m, v, step: naive.adam(param, grad, m, v, *settings, step), 2, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True), (0.3, True)])
def test_sgd(kernels, momentum, nesterov, dtype):  # noqa: F811
    if momentum == 0:
        steps(lambda param, grad, step: kernels.sgd_update(param, grad, None, 0.03, 0.0, nesterov),
              lambda param, grad, step: naive.sgd(param, grad, 0.0, 0.03, 0.0, nesterov)[:1], 0, dtype)
    else:
        steps(lambda param, grad, velocity, step: kernels.sgd_update(param, grad, velocity, 0.03, momentum, nesterov),
              lambda param, grad, velocity, step: naive.sgd(param, grad, velocity, 0.03, momentum, nesterov), 1, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop(kernels, centered, momentum, dtype):  # noqa: F811
    def unpack(slots):
        """Return v, average or None, velocity or None."""
        return slots[0], slots[1] if centered else None, slots[-1] if momentum else None

    def update(param, grad, *slots_and_step):
        return kernels.rmsprop_update(param, grad, *unpack(slots_and_step[:-1]), 0.01, 0.8, momentum, 1e-3)

    def one_number(param, grad, *slots_and_step):
        v, average, velocity = unpack(slots_and_step[:-1])
        param, v, average, velocity = naive.rmsprop(param, grad, v, average, velocity or 0.0, 0.01, 0.8, momentum, 1e-3)
        return [number for number, present in ((param, True), (v, True), (average, centered), (velocity, momentum))
                if present]

    steps(update, one_number, 1 + centered + (momentum > 0), dtype)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop_the_class_has_the_slots_its_settings_need(kernel_set, centered, momentum):
    optimizer = RMSprop(0.02, rho=0.7, momentum=momentum, epsilon=1e-3, centered=centered)
    twin = RMSprop(**optimizer.config())
    weights, rng = {"a": np.array([1.0, -2.0]), "b": np.array([[3.0]])}, np.random.default_rng(16)
    right = {(key, *at): (float(weight[at]), 0.0, 0.0 if centered else None, 0.0)
             for key, weight in weights.items() for at in np.ndindex(weight.shape)}
    copied = {key: weight.copy() for key, weight in weights.items()}
    for _ in range(3):
        gradients = {key: rng.standard_normal(weight.shape) for key, weight in weights.items()}
        optimizer.apply(weights, gradients)
        twin.apply(copied, gradients)
        for (key, *at), (param, *slots) in right.items():
            right[(key, *at)] = naive.rmsprop(param, gradients[key][tuple(at)], *slots, 0.02, 0.7, momentum, 1e-3)
    for (key, *at), (param, *_) in right.items():
        assert weights[key][tuple(at)] == pytest.approx(param, rel=1e-12)
    for key, weight in weights.items():
        np.testing.assert_array_equal(copied[key], weight)
        assert set(optimizer.slots[key]) == {"v"} | ({"average"} if centered else set()) | (
            {"velocity"} if momentum else set())


@pytest.mark.parametrize("dtype", DTYPES)
def test_optimizers_flush_small_slots(kernels, dtype):  # noqa: F811
    """After a long time without gradient every slot is exactly 0, and what is above 1e-30 is not touched."""
    def slot():
        return np.array([1e-30, -1e-30, 5e-31, 3e-30, 0.5] * 4, dtype)

    zero, param = np.zeros(20, dtype), np.ones(20, dtype)
    m, v, velocity, rms, average, increment = slot(), abs(slot()), slot(), abs(slot()), slot(), slot()
    kernels.adam_update(param, zero, m, v, 1e-3, 0.9, 0.9, 1e-7, 3)
    kernels.sgd_update(param, zero, velocity, 0.1, 0.9, True)
    kernels.rmsprop_update(param, zero, rms, average, increment, 0.1, 0.9, 0.9, 1e-7)
    for array in (m, v, velocity, rms, average, increment):
        np.testing.assert_allclose(array, [0, 0, 0, 2.7e-30, 0.45] * 4, rtol=1e-6)
        assert (array.reshape(4, 5)[:, :3] == 0).all()


LONG = {
    "Adam": Adam, "Adam, quick": lambda: Adam(beta_1=0.3, beta_2=0.9), "SGD": lambda: SGD(momentum=0.9),
    "SGD, nesterov": lambda: SGD(momentum=0.99, nesterov=True), "RMSprop": RMSprop,
    "RMSprop, centered": lambda: RMSprop(centered=True), "RMSprop, momentum": lambda: RMSprop(momentum=0.9),
    "RMSprop, both": lambda: RMSprop(rho=0.99, centered=True, momentum=0.5),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", LONG)
def test_no_optimizer_state_is_ever_subnormal(kernel_set, optimizer, dtype):
    """Gradients of every size, down to subnormal ones, that keep it for a while, shrink, and vanish."""
    one, steps_each = LONG[optimizer](), 20 if NO_JIT else 700
    tiny, rng = np.finfo(dtype).tiny, np.random.default_rng(18)
    sizes = 10.0 ** np.linspace(np.log10(tiny) - 5, 0, 60) * rng.choice([-1, 1], 60)
    weights = {"a": np.ones(60, dtype)}
    for phase in (lambda step: rng.standard_normal(60), lambda step: 0.93**step, lambda step: 0.0):
        for step in range(steps_each):
            one.apply(weights, {"a": (sizes * phase(step)).astype(dtype)})
            for name, slot in one.slots["a"].items():
                assert not ((slot != 0) & (np.abs(slot) < tiny)).any(), (name, one.iterations)
    assert np.isfinite(weights["a"]).all()
    assert one.slots["a"].keys() == set(one.slot_names()) != set()


@pytest.mark.parametrize("dtype", DTYPES)
def test_centered_rmsprop_of_a_constant_gradient(kernels, dtype):  # noqa: F811
    """The variance of the gradient is then 0; rounding must not make it negative, and its root NaN."""
    grad = np.linspace(-300, 300, 37).astype(dtype)
    param, v, average = np.zeros(37, dtype), np.zeros(37, dtype), np.zeros(37, dtype)
    for _ in range(60):
        kernels.rmsprop_update(param, grad, v, average, None, 1e-3, 0.5, 0.0, 1e-7)
    assert np.isfinite(param).all()
    assert (np.sign(param) == -np.sign(grad)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gradient_whose_square_overflows_leaves_the_parameter_a_number(kernels, dtype):  # noqa: F811
    """The mean square is then infinite, and the step, divided by it, 0; an estimate of 1 / sqrt(inf) would give NaN."""
    grad = np.full(37, np.finfo(dtype).max / 4, dtype)
    with np.errstate(over="ignore"):
        for update in (lambda *arrays: kernels.rmsprop_update(*arrays, None, None, 1e-3, 0.9, 0.0, 1e-7),
                       lambda *arrays: kernels.adam_update(*arrays[:2], np.zeros(37, dtype), arrays[2], 1e-3, 0.9, 0.9,
                                                           1e-7, 1)):
            param, v = np.ones(37, dtype), np.zeros(37, dtype)
            update(param, grad, v)
            assert (v == np.inf).all()
            assert (param == 1).all()


@pytest.mark.parametrize("place", range(3))
def test_a_read_only_array_is_refused_before_anything_is_written(kernels, place):  # noqa: F811
    updates = [lambda grad, *arrays: kernels.adam_update(arrays[0], grad, *arrays[1:], 1e-3, 0.9, 0.9, 1e-7, 1),
               lambda grad, param, _, slot: kernels.sgd_update(param, grad, slot, 0.1, 0.9, True),
               lambda grad, param, v, slot: kernels.rmsprop_update(param, grad, v, None, slot, 0.1, 0.9, 0.9, 1e-7)]
    for number, update in enumerate(updates):
        if (number, place) == (1, 1):
            continue  # momentum has one slot
        arrays = [np.ones(20, np.float32) for _ in range(3)]
        arrays[place].flags.writeable = False
        with pytest.raises(ArgumentError, match=r"_update got .* read-only; .* is changed in place"):
            update(np.ones(20, np.float32), *arrays)
        assert all((array == 1).all() for array in arrays)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", [lambda array: array[::2, 1:], np.transpose, lambda array: array[:, ::-1]])
def test_parameters_and_slots_that_are_views_are_updated_in_place(kernels, view, dtype):  # noqa: F811
    rng = np.random.default_rng(15)
    whole = [draw(rng, (6, 5), dtype), np.zeros((6, 5), dtype), np.zeros((6, 5), dtype)]
    before = [array.copy() for array in whole]
    param, m, v = (view(array) for array in whole)
    grad = draw(rng, param.shape, dtype)
    right = [np.ascontiguousarray(array) for array in (param, m, v)]
    kernels.adam_update(right[0], grad, *right[1:], 0.05, 0.5, 0.8, 1e-2, 1)
    assert (right[0] != param).all()
    kernels.adam_update(param, grad, m, v, 0.05, 0.5, 0.8, 1e-2, 1)
    for array, expected, old, new in zip((param, m, v), right, before, whole, strict=True):
        equal(array, expected, dtype)
        view(old)[...] = expected
        equal(new, old, dtype)    # what the view leaves out is as it was

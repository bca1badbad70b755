"""Kernels that round: how close to the definition, and what happens at the extremes. pytest makes warnings errors."""

from __future__ import annotations

import functools
import importlib
import math

import naive
import numpy as np
import pytest
from kernel_calls import DTYPES, LAYOUTS, SETS, call, close, equal, kernels  # noqa: F401  (a fixture)


def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype, scale: float = 1.0, around: float = 0.0):
    return (around + scale * rng.standard_normal(shape)).astype(dtype)


# --- convolution with the algorithm the set chooses ---------------------------------------------------------------

@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("image", "window", "F", "padding"), [
    ((2, 7, 5, 1), (5, 5), 6, (2, 2, 2, 2)), ((2, 5, 8, 2), (3, 3), 5, (1, 1, 1, 1)),
    ((1, 4, 5, 16), (3, 3), 16, (1, 1, 1, 1)), ((1, 7, 6, 8), (5, 5), 16, (0, 0, 0, 0)),
    ((2, 6, 5, 3), (3, 2), 4, (1, 1, 0, 1))])
def test_conv2d_auto(kernels, image, window, F, padding, dtype):  # noqa: F811
    rng = np.random.default_rng([*image, *window])
    x, w, b = (draw(rng, shape, dtype) for shape in (image, (*window, image[3], F), (F,)))
    right = naive.conv2d(*(array.astype(float) for array in (x, w, b)), (1, 1), padding)
    close(call(kernels.conv2d, x, w, b, (1, 1), padding), right, dtype, ulps=20)
    dout = draw(rng, right.shape, dtype)
    dx, dw, db = call(kernels.conv2d_backward, dout, x, w, (1, 1), padding)
    x, w, dout = (array.astype(float) for array in (x, w, dout))
    close(dx, naive.conv2d_dx(dout, x.shape, w, (1, 1), padding), dtype, ulps=20)
    close(dw, naive.conv2d_dw(dout, x, w.shape, (1, 1), padding), dtype, ulps=20)
    close(db, naive.conv2d_db(dout), dtype, ulps=20)


# --- batch normalization -----------------------------------------------------------------------------------------

EPSILON = 1e-3
BATCHES = {  # shape, mean, deviation
    "plain": ((3, 5, 4, 3), 0, 1),
    "dense": ((29, 5), -2, 3),
    "sequence": ((4, 7, 2), 0, 1e-2),
    "far away": ((3, 5, 7, 2), 1e4, 0.1),
    "far away, dense": ((64, 3), -1e4, 0.1),
    "large": ((2, 7, 5, 2), 0, 1e4),
    "one channel": ((2, 6, 5, 1), 5, 1),
    "wide": ((2, 3, 2, 35), 1, 2),
}


@functools.cache
def batch(name: str, dtype):
    """Return x, gamma, beta, dout."""
    shape, mean, deviation = BATCHES[name]
    rng = np.random.default_rng([*shape, 1])
    C = shape[-1]
    return (draw(rng, shape, dtype, deviation, mean), draw(rng, (C,), dtype), draw(rng, (C,), dtype),
            draw(rng, shape, dtype))


def batch_ulps(name: str, dtype) -> float:
    """Return how exact a result can be expected, in units.

    Rounding a value at distance |mean| moves it by that many units of a deviation. Of float32, no more than a few
    units may be lost wherever the mean is: its digits are all there in the differences.
    """
    _, mean, deviation = BATCHES[name]
    return 6 if dtype == np.float32 else 20 * (1 + abs(mean) / deviation)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BATCHES)
def test_batch_norm(kernels, name, dtype):  # noqa: F811
    x, gamma, beta, _ = batch(name, dtype)
    out, mean, variance = call(kernels.batch_norm, x, gamma, beta, EPSILON)
    right_out, right_mean, right_variance = naive.batch_norm(*(a.astype(float) for a in (x, gamma, beta)), EPSILON)
    assert mean.dtype == variance.dtype == np.float64
    assert mean.shape == variance.shape == gamma.shape
    double = batch_ulps(name, np.float64) * np.finfo(np.float64).eps  # the statistics are float64's in either case
    np.testing.assert_allclose(mean, right_mean, rtol=0, atol=double * np.sqrt(right_variance).min())
    np.testing.assert_allclose(variance, right_variance, rtol=double)
    close(out, right_out, dtype, batch_ulps(name, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BATCHES)
def test_batch_norm_backward(kernels, name, dtype):  # noqa: F811
    x, gamma, beta, dout = batch(name, dtype)
    _, mean, variance = kernels.batch_norm(x, gamma, beta, EPSILON)
    dx, dgamma, dbeta = call(kernels.batch_norm_backward, dout, x, gamma, mean, variance, EPSILON)
    x, gamma, beta = (array.astype(float) for array in (x, gamma, beta))
    right = (naive.derivative(lambda x: naive.batch_norm(x, gamma, beta, EPSILON)[0], x, dout),
             naive.derivative(lambda gamma: naive.batch_norm(x.astype(complex), gamma, beta, EPSILON)[0], gamma, dout),
             naive.derivative(lambda beta: naive.batch_norm(x.astype(complex), gamma, beta, EPSILON)[0], beta, dout))
    for actual, expected in zip((dx, dgamma, dbeta), right, strict=True):
        close(actual, expected, dtype, batch_ulps(name, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("statistics", DTYPES)
@pytest.mark.parametrize("name", BATCHES)
def test_batch_norm_inference(kernels, name, statistics, dtype):  # noqa: F811
    x, gamma, beta, dout = batch(name, dtype)
    _, middle, deviation = BATCHES[name]
    rng = np.random.default_rng(4)
    mean = draw(rng, gamma.shape, statistics, deviation, middle)
    variance = (deviation**2 * rng.uniform(0.5, 2, gamma.shape)).astype(statistics)
    out = call(kernels.batch_norm_inference, x, gamma, beta, mean, variance, EPSILON)

    def inference(x, gamma, beta):
        return gamma * (x - mean.astype(float)) / np.sqrt(variance.astype(float) + EPSILON) + beta

    given = [array.astype(float) for array in (x, gamma, beta)]
    close(out, inference(*given), dtype, batch_ulps(name, dtype))
    gradients = call(kernels.batch_norm_inference_backward, dout, x, gamma, mean, variance, EPSILON)
    for k, actual in enumerate(gradients):
        right = naive.derivative(lambda moved, k=k: inference(*given[:k], moved, *given[k + 1:]), given[k], dout)
        close(actual, right, dtype, batch_ulps(name, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0.0, 2.0, 0.1, -1e4 / 3])
def test_constant_channel(kernels, value, dtype):  # noqa: F811
    rng = np.random.default_rng(6)
    x = draw(rng, (3, 5, 7, 2), dtype)
    x[..., 1] = value
    gamma, beta, dout = draw(rng, (2,), dtype), draw(rng, (2,), dtype), draw(rng, x.shape, dtype)
    out, mean, variance = call(kernels.batch_norm, x, gamma, beta, EPSILON)
    assert variance[1] <= 1e-20
    np.testing.assert_allclose(out[..., 1], beta[1], rtol=1e-6)
    dx, dgamma, _ = call(kernels.batch_norm_backward, dout, x, gamma, mean, variance, EPSILON)
    expected = gamma[1].astype(float) / math.sqrt(EPSILON) * (dout[..., 1] - dout[..., 1].astype(float).mean())
    close(dx[..., 1], expected, dtype, ulps=8 if dtype == np.float32 else 1e3)
    assert abs(dgamma[1]) <= 1e-6
    assert np.isfinite(dx).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_channel_without_epsilon_is_zero_not_nan(kernels, dtype):  # noqa: F811
    rng = np.random.default_rng(7)
    x, gamma, beta = np.full((3, 5, 2), 2, dtype), draw(rng, (2,), dtype), draw(rng, (2,), dtype)
    dout = draw(rng, x.shape, dtype)
    out, mean, variance = call(kernels.batch_norm, x, gamma, beta, 0.0)
    equal(out, np.broadcast_to(beta, x.shape), dtype)
    dx, dgamma, _ = call(kernels.batch_norm_backward, dout, x, gamma, mean, variance, 0.0)
    assert not dx.any()
    assert not dgamma.any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_batch_norm_reads_any_layout(kernels, layout):  # noqa: F811
    x, gamma, beta, dout = batch("plain", np.float32)
    to_layout = LAYOUTS[layout]
    x_view, gamma_view, beta_view, dout_view = map(to_layout, (x, gamma, beta, dout))
    right, mean, variance = kernels.batch_norm(x, gamma, beta, EPSILON)
    close(call(kernels.batch_norm, x_view, gamma_view, beta_view, EPSILON)[0], right, np.float32, ulps=2)
    statistics = to_layout(mean), to_layout(variance)
    close(call(kernels.batch_norm_inference, x_view, gamma_view, beta_view, *statistics, EPSILON), right, np.float32,
          ulps=4)
    for backward in (kernels.batch_norm_backward, kernels.batch_norm_inference_backward):
        results = call(backward, dout_view, x_view, gamma_view, *statistics, EPSILON)
        for actual, expected in zip(results, backward(dout, x, gamma, mean, variance, EPSILON), strict=True):
            close(actual, expected, np.float32, ulps=4)


# --- activations -------------------------------------------------------------------------------------------------

FORWARD = {"relu": lambda x: np.where(x.real > 0, x, 0), "sigmoid": naive.sigmoid, "tanh": np.tanh,
           "softmax": naive.softmax}
SHAPES = [(3, 7), (1, 1), (2, 3, 4, 5), (37,), (5, 18)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FORWARD)
def test_activation(kernels, name, shape, dtype):  # noqa: F811
    rng = np.random.default_rng(shape)
    x, dout = draw(rng, shape, dtype, 2), draw(rng, shape, dtype)
    out = call(getattr(kernels, name), x)
    close(out, FORWARD[name](x.astype(float)), dtype, ulps=4)
    dx = call(getattr(kernels, f"{name}_backward"), dout, out)
    # The gradient is a function of the *rounded* output, hence the looser bound.
    close(dx, naive.derivative(FORWARD[name], x.astype(float), dout), dtype, ulps=8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FORWARD)
def test_activation_writes_where_it_is_told_and_reads_any_layout(kernels, name, layout, dtype):  # noqa: F811
    rng = np.random.default_rng(8)
    x, dout = draw(rng, (3, 5, 6), dtype, 3), draw(rng, (3, 5, 6), dtype)
    activation, backward = getattr(kernels, name), getattr(kernels, f"{name}_backward")
    right = activation(x)
    right_dx = backward(dout, right)
    view = LAYOUTS[layout]
    equal(call(activation, view(x)), right, dtype)
    equal(call(backward, view(dout), view(right)), right_dx, dtype)
    elsewhere = np.full_like(x, np.nan)
    assert activation(x, out=elsewhere) is elsewhere
    equal(elsewhere, right, dtype)
    if layout != "read-only":
        inside = view(x.copy())
        assert activation(inside, out=inside) is inside
        equal(inside, right, dtype)


EXTREMES = [-np.inf, -1e30, -1e4, -750.0, -100.0, -88.0, -0.0, 0.0, 88.0, 100.0, 750.0, 1e4, 1e30, np.inf]


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_at_the_extremes(kernels, dtype):  # noqa: F811
    x = np.array(EXTREMES * 3, dtype)  # longer than a vector, and not a multiple of one
    equal(call(kernels.relu, x), np.maximum(x, 0), dtype)
    np.testing.assert_allclose(call(kernels.tanh, x), np.tanh(x), rtol=2e-7)
    right = [1 / (1 + math.exp(-v)) if v > -700 else 0.0 for v in x.tolist()]
    tiny = np.finfo(dtype).tiny  # whether what is smaller becomes 0 is the machine's affair
    np.testing.assert_allclose(call(kernels.sigmoid, x), right, rtol=1e-6, atol=tiny if dtype == np.float32 else 1e-300)


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_at_zero_and_nan(kernels, dtype):  # noqa: F811
    x = np.array([np.nan, -1.0, 0.0, -0.0, 2.0] * 5, dtype)
    out = call(kernels.relu, x)
    np.testing.assert_array_equal(out, np.array([np.nan, 0, 0, 0, 2] * 5, dtype))
    dx = call(kernels.relu_backward, np.full(25, 3, dtype), out)
    assert dx.reshape(5, 5)[:, 1:].tolist() == [[0, 0, 0, 3]] * 5
    for name in ("sigmoid", "tanh"):
        assert np.isnan(call(getattr(kernels, name), x)).tolist() == np.isnan(x).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1, 1e4, 1e30])
def test_softmax_of_large_logits(kernels, scale, dtype):  # noqa: F811
    rng = np.random.default_rng(9)
    x = (scale * rng.permuted(np.tile([-1.0, -0.5, 0, 0.5, 1.0], (6, 1)), axis=1)).astype(dtype)
    out = call(kernels.softmax, x)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out.sum(axis=1), 1, rtol=1e-6)
    assert (out.argmax(axis=1) == x.argmax(axis=1)).all()
    if scale > 1:
        equal(out, x == dtype(scale), dtype)
    equal(call(kernels.softmax, np.full((3, 4), -scale, dtype)), np.full((3, 4), 0.25), dtype)


# --- softmax and cross-entropy -----------------------------------------------------------------------------------

def targets_like(rng: np.random.Generator, N: int, K: int, kind: str, dtype) -> np.ndarray:
    one_hot = np.eye(K)[rng.integers(0, K, N)]
    return {"one-hot": one_hot, "smoothed": 0.9 * one_hot + 0.1 / K,
            "any sum": rng.uniform(0, 1, (N, K)) * rng.integers(0, 3, (N, 1))}[kind].astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["one-hot", "smoothed", "any sum"])
@pytest.mark.parametrize(("N", "K"), [(5, 10), (1, 3), (17, 2), (4, 35)])
def test_softmax_cross_entropy(kernels, N, K, kind, dtype):  # noqa: F811
    rng = np.random.default_rng([N, K])
    logits, targets, weights = draw(rng, (N, K), dtype, 3), targets_like(rng, N, K, kind, dtype), draw(rng, (N,), dtype)
    losses, probabilities = call(kernels.softmax_cross_entropy, logits, targets)
    exact = logits.astype(float), targets.astype(float)
    close(losses, naive.cross_entropy(*exact), dtype, ulps=8)
    close(probabilities, naive.softmax(exact[0]), dtype, ulps=8)
    dlogits = call(kernels.softmax_cross_entropy_backward, probabilities, targets, weights)
    close(dlogits, naive.derivative(lambda z: naive.cross_entropy(z, exact[1]), exact[0], weights),
          dtype, ulps=16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e2, 1e4, 1e30])
def test_cross_entropy_of_large_logits(kernels, scale, dtype):  # noqa: F811
    logits = np.array([[1, -1, 0.5], [-1, 1, 1], [1, -1, -1], [-1, -1, -1]], dtype) * dtype(scale)
    targets = np.array([[1, 0, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]], dtype)
    losses, probabilities = call(kernels.softmax_cross_entropy, logits, targets)
    np.testing.assert_allclose(losses, [0, math.log(2), 2.0 * scale, math.log(3)], rtol=1e-6, atol=1e-20)
    right = [[1, 0, 0], [0, 0.5, 0.5], [1, 0, 0], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(probabilities, right, rtol=1e-6, atol=1e-20)
    dlogits = call(kernels.softmax_cross_entropy_backward, probabilities, targets, np.ones(4, dtype))
    np.testing.assert_allclose(dlogits, np.array(right) - targets, rtol=1e-6, atol=1e-7)


def test_a_small_probability_keeps_its_gradient(kernels):  # noqa: F811
    """exp(-60) is far below float32's rounding of 1, and still there in loss and gradient."""
    logits, targets = np.array([[60, 0]], np.float32), np.array([[1, 0]], np.float32)
    losses, probabilities = call(kernels.softmax_cross_entropy, logits, targets)
    dlogits = call(kernels.softmax_cross_entropy_backward, probabilities, targets, np.ones(1, np.float32))
    np.testing.assert_allclose(dlogits[0, 1], math.exp(-60), rtol=1e-5)
    assert losses[0] == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cross_entropy_reads_any_layout(kernels, layout):  # noqa: F811
    rng = np.random.default_rng(10)
    arrays = draw(rng, (6, 5), np.float32), targets_like(rng, 6, 5, "smoothed", np.float32)
    views = [LAYOUTS[layout](array) for array in arrays]
    for actual, expected in zip(call(kernels.softmax_cross_entropy, *views), kernels.softmax_cross_entropy(*arrays),
                                strict=True):
        close(actual, expected, np.float32, ulps=2)
    weights = draw(rng, (6,), np.float32)
    right = kernels.softmax_cross_entropy_backward(*arrays, weights)
    close(call(kernels.softmax_cross_entropy_backward, *views, LAYOUTS[layout](weights)), right, np.float32, ulps=2)


# --- dropout -----------------------------------------------------------------------------------------------------

KEYS = [0, 1, 2**32, 0xDEADBEEF, 2**63 + 12345678901, 2**64 - 1]


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (5, 37), (1, 1), (18, 1)], ids=str)
def test_dropout_bits(kernels, shape, key, rate):  # noqa: F811
    rng = np.random.default_rng(11)
    for dtype in DTYPES:
        x, dout = draw(rng, shape, dtype), draw(rng, shape, dtype)
        kept = naive.dropout_kept(shape, rate, key)
        factor = dtype(1 / (1 - rate))
        equal(call(kernels.dropout, x, rate, key), np.where(kept, x * factor, 0), dtype)
        equal(call(kernels.dropout_backward, dout, rate, key), np.where(kept, dout * factor, 0), dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dropout_counts_elements_not_memory(kernels, layout):  # noqa: F811
    x = draw(np.random.default_rng(12), (4, 3, 5, 2), np.float32)
    equal(call(kernels.dropout, LAYOUTS[layout](x), 0.5, 77), kernels.dropout(x, 0.5, 77), np.float32)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_dropout_is_as_random_as_it_looks(kernels, rate):  # noqa: F811
    N, D = 40, 500
    ones = np.ones((N, D), np.float32)
    kept = kernels.dropout(ones, rate, 5) > 0
    others = {"next image": np.roll(kept, 1, axis=0), "next element": np.roll(kept, 1, axis=1),
              "next key": kernels.dropout(ones, rate, 6) > 0,
              "upper half of the key": kernels.dropout(ones, rate, 5 + 2**32) > 0}
    bound = 5 / math.sqrt(N * D)  # five deviations
    assert abs(kept.mean() - (1 - rate)) <= bound * math.sqrt(rate * (1 - rate))
    for name, other in others.items():
        assert abs(np.corrcoef(kept.ravel(), other.ravel())[0, 1]) <= bound, name
    assert (abs(kept.mean(axis=0) - (1 - rate)) <= 5 * math.sqrt(rate * (1 - rate) / N)).all()


def test_dropout_of_an_image_does_not_depend_on_the_batch(kernels):  # noqa: F811
    x = draw(np.random.default_rng(13), (9, 3, 4, 2), np.float32)
    equal(kernels.dropout(x[:2], 0.5, 3), kernels.dropout(x, 0.5, 3)[:2], np.float32)


# --- optimizers --------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("dtype", DTYPES)
def test_centered_rmsprop_of_a_constant_gradient(kernels, dtype):  # noqa: F811
    """The variance of the gradient is then 0; rounding must not make it negative, and its root NaN."""
    grad = np.linspace(-300, 300, 37).astype(dtype)
    param, v, average = np.zeros(37, dtype), np.zeros(37, dtype), np.zeros(37, dtype)
    for _ in range(60):
        kernels.rmsprop_update(param, grad, v, average, None, 1e-3, 0.5, 0.0, 1e-7)
    assert np.isfinite(param).all()
    assert (np.sign(param) == -np.sign(grad)).all()


# --- affine warp -------------------------------------------------------------------------------------------------

MODES = ["nearest", "constant", "reflect", "wrap"]


def scipy_warp(x, matrices, mode, cval):
    from scipy.ndimage import affine_transform
    out = np.empty(x.shape)
    for n, c in np.ndindex(x.shape[0], x.shape[3]):
        out[n, :, :, c] = affine_transform(x[n, :, :, c].astype(float), matrices[n, :, :2], matrices[n, :, 2], order=1,
                                           mode=mode, cval=cval)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reach", [0.1, 1, 10, 300])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("image", [(4, 7, 9, 2), (3, 6, 1, 3), (2, 1, 5, 1), (2, 2, 3, 1)], ids=str)
def test_affine_warp_is_scipys(kernels, image, mode, reach, dtype):  # noqa: F811
    rng = np.random.default_rng([*image, int(10 * reach)])
    x = draw(rng, image, dtype)
    matrices = (np.eye(2, 3) + reach * rng.standard_normal((image[0], 2, 3))).astype(dtype)
    out = call(kernels.affine_warp, x, matrices, mode, 0.5)
    assert out.dtype == dtype
    atol = 1e-5 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(out, scipy_warp(x, matrices, mode, 0.5), rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_affine_warp_by_whole_pixels_is_exact(kernels, mode, dtype):  # noqa: F811
    """Shifts, flips and transpositions: on the border, just outside, one period on, and far away."""
    x = np.random.default_rng(15).integers(-9, 10, (1, 5, 4, 2)).astype(dtype)
    linear = [[[1, 0], [0, 1]], [[-1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1], [2, 0]]]
    shifts = [(row, column) for row in (-11, -8, -5, -4, -1, 0, 1, 4, 5, 8, 23) for column in (-9, -3, 0, 2, 3, 6)]
    matrices = np.array([np.column_stack([a, shift]) for a in linear for shift in shifts], dtype)
    x = np.repeat(x, len(matrices), axis=0)
    equal(call(kernels.affine_warp, x, matrices, mode, 7.0), scipy_warp(x, matrices, mode, 7.0), dtype)


def test_affine_warp_by_default_repeats_the_edge(kernels):  # noqa: F811
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1)
    half_right = np.array([[[1, 0, 0], [0, 1, -1.5]]], np.float32)
    assert call(kernels.affine_warp, x, half_right)[0, :, :, 0].tolist() == [[0, 0, 0.5], [3, 3, 3.5]]
    zeros = call(kernels.affine_warp, x, half_right, fill_mode="constant")
    assert zeros[0, :, :, 0].tolist() == [[0, 0, 0.5], [0, 0, 3.5]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_affine_warp_reads_any_layout(kernels, layout):  # noqa: F811
    rng = np.random.default_rng(16)
    x, matrices = draw(rng, (3, 5, 6, 2), np.float32), draw(rng, (3, 2, 3), np.float32)
    views = LAYOUTS[layout](x), LAYOUTS[layout](matrices)
    equal(call(kernels.affine_warp, *views, "reflect"), kernels.affine_warp(x, matrices, "reflect"), np.float32)


# --- batches of a real size: in the fast set, several chunks on several threads -----------------------------------

def real_size(dtype) -> dict[str, tuple]:
    """Return kernel -> its arguments, at sizes that no loop in Python would finish."""
    rng = np.random.default_rng(17)
    shape = (131, 14, 13, 32)
    x, dout = draw(rng, shape, dtype, 3, 50), draw(rng, shape, dtype)
    gamma, beta, mean = (draw(rng, (32,), dtype) for _ in range(3))
    variance = x.astype(float).var(axis=(0, 1, 2))
    pooled = (131, 7, 7, 32)
    winner = rng.integers(-1, 6, pooled).astype(np.int32)
    winner[:, :, 6] = np.where(winner[:, :, 6] < 3, 0, 3)  # of the last window, only the first column is in the image
    rows, logits = draw(rng, (5003, 60), dtype), draw(rng, (5003, 10), dtype, 4)
    w, b, targets = draw(rng, (60, 10), dtype), draw(rng, (10,), dtype), targets_like(rng, 5003, 10, "smoothed", dtype)
    small = 1 / (1 + np.exp(-dout))
    return {
        "batch_norm": (x, gamma, beta, EPSILON), "batch_norm_inference": (x, gamma, beta, mean, variance, EPSILON),
        "batch_norm_backward": (dout, x, gamma, x.mean(axis=(0, 1, 2), dtype=float), variance, EPSILON),
        "batch_norm_inference_backward": (dout, x, gamma, mean, variance, EPSILON),
        "max_pool2d": (x, (2, 3), (2, 2), (0, 0, 0, 2)),
        "max_pool2d_backward": (dout[:, :7, :7], winner, shape, (2, 3), (2, 2), (0, 0, 0, 2)),
        "dense": (rows, w, b), "dense_backward": (logits, rows, w),
        "dropout": (x, 0.3, 2**64 - 3), "dropout_backward": (dout, 0.3, 2**64 - 3),
        "softmax_cross_entropy": (logits, targets), "softmax_cross_entropy_backward": (logits, targets, logits[:, 0]),
        "affine_warp": (x, np.eye(2, 3, dtype=dtype) + draw(rng, (131, 2, 3), dtype, 0.3), "reflect"),
        **{name: (dout,) for name in ("relu", "sigmoid", "tanh", "softmax")},
        **{f"{name}_backward": (dout, small) for name in ("relu", "sigmoid", "tanh", "softmax")},
    }


@pytest.mark.no_jit_excluded("millions of elements, which are beyond plain Python loops")
@pytest.mark.parametrize("dtype", DTYPES)
def test_fast_equals_reference_at_real_sizes(dtype):
    reference, fast = (importlib.import_module(f"minicnn.kernels.{name}") for name in SETS)
    for name, arguments in real_size(dtype).items():
        actual, expected = (result if isinstance(result, tuple) else (result,) for result in
                            (call(getattr(fast, name), *arguments), getattr(reference, name)(*arguments)))
        for one, other in zip(actual, expected, strict=True):
            if name.startswith(("max_pool2d", "dropout", "relu")):
                equal(one, other, other.dtype)
            else:
                close(one, other, other.dtype, ulps=8 if other.dtype == np.float32 else 300)  # sums of 24,000 values


@pytest.mark.no_jit_excluded("millions of elements, which are beyond plain Python loops")
@pytest.mark.parametrize("dtype", DTYPES)
def test_fast_optimizers_equal_reference_at_real_sizes(dtype):
    sets = [importlib.import_module(f"minicnn.kernels.{name}") for name in SETS]
    rng = np.random.default_rng(18)
    param, grad, first, second, third = (draw(rng, (3136, 61), dtype) for _ in range(5))
    results = []
    for kernel_set in sets:
        arrays = param.copy(), first.copy(), abs(second) + 9, third.copy()
        kernel_set.adam_update(arrays[0], grad, arrays[1], arrays[2], 0.01, 0.9, 0.99, 1e-7, 4)
        kernel_set.sgd_update(arrays[0], grad, arrays[3], 0.01, 0.9, True)
        kernel_set.rmsprop_update(arrays[0], grad, arrays[2], arrays[1], arrays[3], 0.01, 0.9, 0.5, 1e-7)
        results.append(arrays)
    for expected, actual in zip(*results, strict=True):
        close(actual, expected, dtype, ulps=8)

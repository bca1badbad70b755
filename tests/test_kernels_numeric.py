"""Kernels that round: how close to the definition, and what happens at the extremes. pytest makes warnings errors."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

import naive
from kernel_calls import DTYPES, LAYOUTS, call, close, draw, equal, kernels, targets_like  # noqa: F401  (a fixture)

# --- convolution with the algorithm the set chooses --------------------------------------------------------------

@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("image", "window", "F", "padding"), [
    ((2, 7, 5, 1), (5, 5), 6, (2, 2, 2, 2)), ((2, 5, 8, 2), (3, 3), 5, (1, 1, 1, 1)),
    ((1, 4, 5, 16), (3, 3), 16, (1, 1, 1, 1)), ((1, 7, 6, 8), (5, 5), 16, (0, 0, 0, 0)),
    ((2, 6, 5, 3), (3, 2), 4, (1, 1, 0, 1))])
def test_conv2d_auto(kernels, image, window, F, padding, dtype):  # noqa: F811
    rng = np.random.default_rng([*image, *window])
    x, w, b = (draw(rng, shape, dtype) for shape in (image, (*window, image[3], F), (F,)))
    right = naive.conv2d(*(array.astype(float) for array in (x, w, b)), (1, 1), padding)
    ulps = 120 if image[3] >= 4 else 20  # Winograd's transforms add and subtract larger numbers than come out
    close(call(kernels.conv2d, x, w, b, (1, 1), padding), right, dtype, ulps)
    dout = draw(rng, right.shape, dtype)
    dx, dw, db = call(kernels.conv2d_backward, dout, x, w, (1, 1), padding)
    x, w, dout = (array.astype(float) for array in (x, w, dout))
    close(dx, naive.conv2d_dx(dout, x.shape, w, (1, 1), padding), dtype, ulps)
    close(dw, naive.conv2d_dw(dout, x, w.shape, (1, 1), padding), dtype, ulps)
    close(db, naive.conv2d_db(dout), dtype, ulps)


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
@pytest.mark.parametrize("slope", [0.25, 0.0])
def test_leaky_relu(kernels, slope, dtype):  # noqa: F811
    x = np.array([np.nan, -2.0, -0.0, 0.0, 3.0] * 5, dtype)  # longer than a vector, and not a multiple of one
    out = call(kernels.leaky_relu, x, slope)
    np.testing.assert_array_equal(out, np.array([np.nan, -2 * slope, 0, 0, 3] * 5, dtype))
    dx = call(kernels.leaky_relu_backward, np.full(25, 4, dtype), out, slope)
    assert dx.reshape(5, 5)[:, 1:].tolist() == [[4 * slope] * 3 + [4]] * 5
    inside = x.copy()
    assert kernels.leaky_relu(inside, slope, out=inside) is inside
    np.testing.assert_array_equal(inside, out)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_leaky_relu_reads_any_layout(kernels, layout):  # noqa: F811
    x = draw(np.random.default_rng(8), (3, 5, 6), np.float32)
    out = kernels.leaky_relu(x, 0.3)
    equal(call(kernels.leaky_relu, LAYOUTS[layout](x), 0.3), out, np.float32)
    equal(call(kernels.leaky_relu_backward, LAYOUTS[layout](x), LAYOUTS[layout](out), 0.3), out, np.float32)


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

"""What rides inside a convolution (normalization, pooling, dropout, ReLU, sums) against reference kernels in a row."""

from __future__ import annotations

import importlib
import itertools
from typing import NamedTuple

import numba
import numpy as np
import pytest

import exact
from kernel_calls import DTYPES
from minicnn.kernels import reference
from minicnn.kernels.fast import fused, memory

conv2d = importlib.import_module("minicnn.kernels.fast.conv2d")

BOUND = {np.float32: 2e-5, np.float64: 1e-10}
NO_JIT = bool(numba.config.DISABLE_JIT)
EPSILON = 1e-3
HALVES = ((2, 2), (2, 2), (0, 0, 0, 0))
NORMS = ("none", "batch", "given")  # with the batch's own statistics, or with others that are constants


class Case(NamedTuple):
    """Two convolutions, and what stands between: ReLU, normalization, pooling, dropout, in this order."""

    relu: bool
    norm: str
    pool: bool
    drop: float
    algorithms: tuple[str, str]
    size: tuple[int, int, int] = (5, 7, 9)  # N, OH, OW of the first convolution
    channels: tuple[int, int, int] = (3, 20, 28)
    r: tuple[int, int] = (3, 5)
    whole: bool = False  # whole numbers, so that a window's largest is often there twice

    @property
    def shapes(self):
        """x, w1, b1, gamma, beta, w2, b2."""
        N, H, W = self.size
        C, F, G = self.channels
        return ((N, H, W, C), (self.r[0], self.r[0], C, F), (F,), (F,), (F,), (self.r[1], self.r[1], F, G), (G,))

    def padding(self, which):
        before = (self.r[which] - 1) // 2
        return before, self.r[which] - 1 - before, before, self.r[which] - 1 - before


def arrays_of(rng, case, dtype):
    """Return the arrays of ``shapes``, given mean and variance, dropout's key, and the upstream gradient.

    gamma has negative and zero entries: pooling then takes the smallest before normalization, or the first.
    """
    arrays = [rng.integers(-1, 2, shape) if case.whole else rng.standard_normal(shape) for shape in case.shapes]
    arrays[3] = rng.standard_normal(case.channels[1])
    arrays[3][::3] = -np.abs(arrays[3][::3]) - 0.1
    arrays[3][1::5] = 0
    F = case.channels[1]
    given = rng.standard_normal(F), 0.5 + np.abs(rng.standard_normal(F))
    N, H, W = case.size
    H, W = (H // 2, W // 2) if case.pool else (H, W)
    dout = rng.standard_normal((N, H, W, case.channels[2]))
    return [array.astype(dtype) for array in arrays], given, (case.drop, int(rng.integers(1 << 63))), dout.astype(dtype)


def in_a_row(case, arrays, given, drop, dout):
    """Return what the reference kernels, one after the other in float64, make of it: outputs and gradients by name."""
    x, w1, b1, gamma, beta, w2, b2 = (array.astype(np.float64) for array in arrays)
    stride, results = (1, 1), {}
    a = reference.conv2d(x, w1, b1, stride, case.padding(0))
    a = reference.relu(a) if case.relu else a
    mean, variance = given
    n = a
    if case.norm == "batch":
        n, mean, variance = reference.batch_norm(a, gamma, beta, EPSILON)
        results |= {"mean": mean, "variance": variance}
    elif case.norm == "given":
        n = reference.batch_norm_inference(a, gamma, beta, mean, variance, EPSILON)
    p, winner = reference.max_pool2d(n, *HALVES) if case.pool else (n, None)
    d = reference.dropout(p, *drop) if case.drop else p
    out = reference.conv2d(d, w2, b2, stride, case.padding(1))
    dd, dw2, db2 = reference.conv2d_backward(dout.astype(np.float64), d, w2, stride, case.padding(1))
    dp = reference.dropout_backward(dd, *drop) if case.drop else dd
    dn = reference.max_pool2d_backward(dp, winner, n.shape, *HALVES) if case.pool else dp
    if case.norm != "none":
        backward = reference.batch_norm_backward if case.norm == "batch" else reference.batch_norm_inference_backward
        dn, dgamma, dbeta = backward(dn, a, gamma, mean, variance, EPSILON)
        results |= {"dgamma": dgamma, "dbeta": dbeta}
    da = reference.relu_backward(dn, a) if case.relu else dn
    dx, dw1, db1 = reference.conv2d_backward(da, x, w1, stride, case.padding(0))
    # A normalization takes all of a bias off again: db1 is a sum that cancels, its error that of the summands.
    results["scale of db1"] = np.abs(da).sum(axis=(0, 1, 2))
    return results | {"a": a, "out": out, "dw2": dw2, "db2": db2, "dw1": dw1, "db1": db1, "dx": dx}


def together(case, arrays, given, drop, dout):
    """Return the same from the fast kernels, as a plan calls them."""
    x, w1, b1, gamma, beta, w2, b2 = arrays
    dtype, results, norm, slopes, largest = x.dtype, {}, None, None, None
    first = conv2d.geometry(x.shape, w1.shape, (1, 1), case.padding(0), case.algorithms[0])
    a, moments, _ = conv2d.convolve(first, fused.source_of(x), w1, b1, case.relu, measure=case.norm == "batch")
    assert (moments is None) == (case.norm != "batch")
    mean, variance = given if moments is None else moments
    if moments is not None:
        results |= {"mean": mean, "variance": variance}
    if case.norm != "none":
        norm = fused.normalization(gamma, beta, mean, variance, EPSILON, dtype)
    N, H, W, F = a.shape
    if case.pool:
        largest = exact.garbage(memory.empty((N, H // 2, W // 2, F), dtype))
    shape = (N, H, W, F) if largest is None else largest.shape
    second = conv2d.geometry(shape, w2.shape, (1, 1), case.padding(1), case.algorithms[1])
    drop = drop if case.drop else None
    out, _, _ = conv2d.convolve(second, fused.source_of(a, norm, largest, drop), w2, b2)
    again = fused.source_of(a if largest is None else largest, norm, None, drop)
    da, dw2, db2, sums = conv2d.convolve_backward(second, again, fused.gradient_of(dout), w2, True)
    if norm is not None:
        slopes, dgamma, dbeta = fused.normalization_gradient(
            sums, a.size // F, gamma, mean, variance, EPSILON, norm[0], frozen=case.norm == "given")
        results |= {"dgamma": dgamma, "dbeta": dbeta}
    gradient = fused.gradient_of(da, a, case.relu, slopes, largest)
    dx, dw1, db1, _ = conv2d.convolve_backward(first, fused.source_of(x), gradient, w1, True)
    return results | {"a": a, "out": out, "dw2": dw2, "db2": db2, "dw1": dw1, "db1": db1, "dx": dx}


def judge(rng, case, dtype):
    given = arrays_of(rng, case, dtype)
    before = [array.copy() for array in (*given[0], given[3])]
    expected, results = in_a_row(case, *given), [together(case, *given) for _ in range(2)]
    for array, copy in zip((*given[0], given[3]), before, strict=True):
        assert np.array_equal(array, copy)
    for name, actual in results[0].items():
        where = f"{case}: {name}"
        assert actual.tobytes() == results[1][name].tobytes(), where
        assert actual.dtype == (np.float64 if name in ("mean", "variance") else dtype), where
        scale = np.linalg.norm(expected.get(f"scale of {name}", expected[name]))
        error = np.linalg.norm(actual.astype(np.float64) - expected[name]) / (scale or 1)
        assert error <= BOUND[dtype], f"{where}: error {error:.1e}"
    assert results[0].keys() == expected.keys() - {"scale of db1"}


ALGORITHMS = [("direct", "winograd"), ("winograd", "direct"), ("winograd", "winograd"), ("direct", "direct")]
CASES = [Case(relu, norm, pool, drop, ALGORITHMS[turn % 4]) for turn, (relu, norm, pool, drop) in enumerate(
    itertools.product((False, True), NORMS, (False, True), (0.0, 0.3)))]
# Sizes that no vector, window or tile divides, and those that all do; one pixel; channels of whole vectors and of one.
ODD = [Case(True, "batch", True, 0.25, ALGORITHMS[turn % 3], size, channels, r)
       for turn, (size, channels, r) in enumerate([
           ((3, 4, 4), (16, 16, 16), (3, 3)), ((2, 9, 6), (1, 1, 1), (5, 3)), ((19, 2, 3), (2, 17, 15), (3, 3)),
           ((2, 13, 11), (4, 33, 5), (5, 5)), ((2, 8, 16), (16, 48, 32), (3, 5)), ((1, 3, 2), (15, 31, 1), (3, 5))])]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_all_that_stands_between_two_convolutions(norm, pool, dtype, rng, monkeypatch):
    exact.poison(monkeypatch)
    for case in CASES:
        if (case.norm, case.pool) == (norm, pool):
            judge(rng, case._replace(size=(2, 5, 3)) if NO_JIT else case, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("r", [3, 5])
@pytest.mark.parametrize("norm", NORMS)
def test_strips_that_lie_wholly_inside_the_image(norm, r, dtype, rng, monkeypatch):
    """They take another way in and out than those at its edges, if nothing is pooled or dropped."""
    exact.poison(monkeypatch)
    for drop, channels in ((0.0, (3, 20, 16)), (0.3, (3, 16, 5))):
        size = (2, 18, 3) if NO_JIT else (3, 22, 7)
        judge(rng, Case(True, norm, False, drop, ("direct", "winograd"), size, channels, (3, r)), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sizes_and_channels(dtype, rng, monkeypatch):
    exact.poison(monkeypatch)
    for case in ODD if not NO_JIT else ODD[1::3]:
        judge(rng, case, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_of_equals_in_a_window_the_first_gets_the_gradient(norm, relu, dtype, rng):
    """Whole numbers, which the direct convolution computes without rounding: equals are equal."""
    case = Case(relu, norm, True, 0.0, ("direct", "direct"), (3, 7, 6), (1, 20, 3), (3, 3), whole=True)
    arrays = arrays_of(rng, case, dtype)[0]
    a = reference.conv2d(arrays[0], arrays[1], arrays[2], (1, 1), case.padding(0))
    windows = a[:, :6].reshape(3, 3, 2, 3, 2, 20)
    twice = (windows == windows.max(axis=(2, 4), keepdims=True)).sum(axis=(2, 4)) > 1
    assert twice.mean() > 0.1
    judge(rng, case, dtype)


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_moments_of_large_numbers_close_to_each_other(algorithm, rng):
    """Mean 10,000, deviation 0.1: squares in float32 would have no digit of the variance left."""
    N, H, W = (6, 9, 11) if NO_JIT else (37, 29, 27)
    x, w = rng.standard_normal((N, H, W, 3)), rng.standard_normal((3, 3, 3, 20))
    w *= 0.1 / np.sqrt(27)
    b = 1e4 + rng.standard_normal(20)
    x, w, b = (array.astype(np.float32) for array in (x, w, b))
    g = conv2d.geometry(x.shape, w.shape, (1, 1), (0, 0, 0, 0), algorithm)
    out, (mean, variance), _ = conv2d.convolve(g, fused.source_of(x), w, b, measure=True)
    exactly = reference.conv2d(*(array.astype(np.float64) for array in (x, w, b)), (1, 1), (0, 0, 0, 0))
    np.testing.assert_allclose(mean, exactly.mean(axis=(0, 1, 2)), rtol=1e-7)
    np.testing.assert_allclose(variance, exactly.var(axis=(0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(variance, out.astype(np.float64).var(axis=(0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
@pytest.mark.parametrize("measure", [False, True])
def test_the_same_bits_for_every_number_of_threads(algorithm, measure, threads, rng):
    case = Case(True, "batch" if measure else "given", True, 0.3, (algorithm, algorithm),
                (2 if NO_JIT else 37, 6, 7), (3, 20, 17), (3, 3))
    given = arrays_of(rng, case, np.float32)
    results = set()
    for number in (1, 2, 3, 4):
        threads(number)
        results.add(b"".join(array.tobytes() for array in together(case, *given).values()))
    assert len(results) == 1


# --- without a convolution, and beside dense layers --------------------------------------------------------------

@pytest.mark.parametrize("dtype", DTYPES)
def test_read_and_its_way_back(dtype, rng, monkeypatch):
    """Normalized, pooled and dropped as an array of its own, where no convolution reads it."""
    exact.poison(monkeypatch)
    case = Case(False, "batch", True, 0.4, ("direct", "direct"), (4, 7, 5), (2, 20, 3))
    (_, _, _, gamma, beta, *_), _, drop, _ = arrays_of(rng, case, dtype)
    a = rng.standard_normal((4, 7, 5, 20)).astype(dtype)
    exactly = [array.astype(np.float64) for array in (a, gamma, beta)]
    n, mean, variance = reference.batch_norm(*exactly, EPSILON)
    norm = fused.normalization(gamma, beta, mean, variance, EPSILON, a.dtype)
    largest = memory.empty((4, 3, 2, 20), a.dtype)
    call, out = fused.reading(fused.source_of(a, norm, largest, drop), largest.shape)
    call()
    pooled, winner = reference.max_pool2d(n, *HALVES)
    assert np.abs(out - reference.dropout(pooled, *drop)).max() <= BOUND[dtype]
    dout = rng.standard_normal(out.shape).astype(dtype)
    dx, sums = fused.read_backward(fused.source_of(largest, norm, None, drop), dout)
    dpooled = reference.dropout_backward(dout.astype(np.float64), *drop)
    assert np.abs(dx - dpooled).max() <= BOUND[dtype]
    right = reference.batch_norm_backward(reference.max_pool2d_backward(dpooled, winner, n.shape, *HALVES),
                                          exactly[0], exactly[1], mean, variance, EPSILON)
    _, *gradients = fused.normalization_gradient(sums, a.size // 20, gamma, mean, variance, EPSILON, norm[0], False)
    for actual, expected in zip(gradients, right[1:], strict=True):
        assert np.abs(actual - expected).max() <= 10 * BOUND[dtype]


@pytest.mark.parametrize("K", [1, 3, 17])
def test_sums_over_a_large_batch_of_vectors_keep_their_digits(K):
    """The sum of many equal numbers, the worst for a sum in float32: that of a whole chunk would be off by 2e-4."""
    N = 60_000 if not NO_JIT else 3_000
    dout = np.full((N, K), 0.1, np.float32)
    _, db = fused.dense_gradient(fused.gradient_of(dout), (N, K))
    np.testing.assert_allclose(db, np.full(K, N * np.float64(np.float32(0.1))), rtol=2e-6)
    x = np.full((N, 1), 0.1, np.float32)
    x[0] = 0  # so that every difference from the first is the same
    _, (mean, variance) = fused.dense(x, np.ones((1, K), np.float32), None, False, True)
    np.testing.assert_allclose(mean, np.full(K, x.mean(dtype=np.float64)), rtol=1e-6)
    np.testing.assert_allclose(variance, np.full(K, x.var(dtype=np.float64)), rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("relu", "normalized"), [(False, True), (True, False), (True, True)])
def test_dense_with_sums_and_its_gradient(relu, normalized, dtype, rng, monkeypatch):
    exact.poison(monkeypatch)
    N, K = 37, 20
    x, w, b, gamma = (rng.standard_normal(shape).astype(dtype) for shape in ((N, 11), (11, K), (K,), (K,)))
    b[0] = -100  # never above zero: a channel without variance if there is a ReLU
    exactly = [array.astype(np.float64) for array in (x, w, b, gamma)]
    right = reference.dense(*exactly[:3])
    right = reference.relu(right) if relu else right
    out, moments = fused.dense(x, w, b, relu, measure=True)
    assert np.linalg.norm(out - right) <= BOUND[dtype] * np.linalg.norm(right)
    np.testing.assert_allclose(moments[0], right.mean(axis=0), rtol=1e-5, atol=BOUND[dtype])
    np.testing.assert_allclose(moments[1], right.var(axis=0), rtol=1e-5, atol=BOUND[dtype])
    assert fused.dense(x, w, b, relu, measure=False)[1] is None
    dout, slopes = rng.standard_normal((N, K)).astype(dtype), None
    expected = dout.astype(np.float64)
    if normalized:
        mean, variance = right.mean(axis=0), right.var(axis=0)
        near = fused.normalization(gamma, b, mean, variance, EPSILON, out.dtype)[0]
        sums = np.stack([expected.sum(axis=0), (expected * (right - near)).sum(axis=0)])
        slopes = fused.normalization_gradient(sums, N, gamma, mean, variance, EPSILON, near, frozen=False)[0]
        expected = reference.batch_norm_backward(expected, right, exactly[3], mean, variance, EPSILON)[0]
    expected = reference.relu_backward(expected, right) if relu else expected
    dz, db = fused.dense_gradient(fused.gradient_of(dout, out, relu, slopes), out.shape)
    assert np.linalg.norm(dz - expected) <= BOUND[dtype] * np.linalg.norm(expected)
    assert np.linalg.norm(db - expected.sum(axis=0)) <= BOUND[dtype] * np.linalg.norm(expected)

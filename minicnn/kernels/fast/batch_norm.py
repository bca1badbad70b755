"""See reference. The trick: float64 sums of a chunk while it is in the cache, merged by Chan's formula.

Sources: Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979. The
mean is subtracted in two parts: rounded to the dtype of x, which is exact for values near it (Sterbenz, 1974), and the
remainder.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.checks import check_fit, check_not_empty
from minicnn.kernels.fast.compile import FASTMATH_ORDERED, jit
from minicnn.kernels.fast.memory import contiguous, empty
from minicnn.kernels.fast.parallel import ELEMENTWISE_CHUNK, run
from minicnn.kernels.fast.sums import sum_rows

MAX_CHUNKS = 64

Gradients = tuple[np.ndarray, np.ndarray, np.ndarray]


def batch_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float,
               ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See reference."""
    check_fit("batch_norm", "x (..., C), gamma (C), beta (C)", x, gamma, beta)
    check_not_empty("batch_norm", x)
    rows = _rows(x)
    bounds = _bounds(*rows.shape)
    means, squares = (np.empty((len(bounds), rows.shape[1])) for _ in range(2))
    run(lambda chunk: _moments(rows, *bounds[chunk], means[chunk], squares[chunk]), len(bounds))
    mean, variance = _merge([stop - start for start, stop in bounds], means, squares)
    return _normalized(x, gamma, beta, mean, variance, epsilon), mean, variance


def batch_norm_backward(dout: np.ndarray, x: np.ndarray, gamma: np.ndarray, mean: np.ndarray, variance: np.ndarray,
                        epsilon: float) -> Gradients:
    """See reference."""
    check_fit("batch_norm_backward", "dout (..., C), x (..., C), gamma (C), mean (C), variance (C)",
              dout, x, gamma, mean, variance)
    check_not_empty("batch_norm_backward", x)
    factor, dgamma, dbeta = _parameter_gradients(dout, x, gamma, mean, variance, epsilon)
    M = x.size // x.shape[-1]
    inverse_deviation = _inverse_deviation(variance, epsilon)
    # dx = factor * dout + slope * (x - mean) + offset
    slope = -factor * inverse_deviation * dgamma / M
    dx = _affine_pair(dout, x, factor, slope, -factor * dbeta / M, mean)
    return dx, dgamma.astype(x.dtype), dbeta.astype(x.dtype)


def batch_norm_inference(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray,
                         epsilon: float) -> np.ndarray:
    """See reference."""
    check_fit("batch_norm_inference", "x (..., C), gamma (C), beta (C), mean (C), variance (C)",
              x, gamma, beta, mean, variance)
    return _normalized(x, gamma, beta, mean, variance, epsilon)


def batch_norm_inference_backward(dout: np.ndarray, x: np.ndarray, gamma: np.ndarray, mean: np.ndarray,
                                  variance: np.ndarray, epsilon: float) -> Gradients:
    """See reference."""
    check_fit("batch_norm_inference_backward", "dout (..., C), x (..., C), gamma (C), mean (C), variance (C)",
              dout, x, gamma, mean, variance)
    factor, dgamma, dbeta = _parameter_gradients(dout, x, gamma, mean, variance, epsilon)
    none = np.zeros(x.shape[-1])
    dx = _normalized(dout, factor, none, none, none + 1, 0.0)
    return dx, dgamma.astype(x.dtype), dbeta.astype(x.dtype)


def _normalized(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray,
                epsilon: float) -> np.ndarray:
    """Return ``gamma * (x - mean) / sqrt(variance + epsilon) + beta``; the vectors are of any float dtype."""
    out, rows = empty(x.shape, x.dtype), _rows(x)
    result = out.reshape(rows.shape)
    scale = gamma.astype(np.float64) * _inverse_deviation(variance, epsilon)
    near, shift = _split_mean(mean, scale, beta, x.dtype)
    factor, bounds = scale.astype(x.dtype), _bounds(*rows.shape)
    run(lambda chunk: _scale_and_shift(rows, near, factor, shift, result, *bounds[chunk]), len(bounds))
    return out


def _parameter_gradients(dout: np.ndarray, x: np.ndarray, gamma: np.ndarray, mean: np.ndarray, variance: np.ndarray,
                         epsilon: float) -> Gradients:
    """Return gamma / deviation, dgamma and dbeta, (C,) float64."""
    drows, rows = _rows(dout), _rows(x)
    bounds = _bounds(*rows.shape)
    sums, products = (np.empty((len(bounds), rows.shape[1])) for _ in range(2))
    near = mean.astype(x.dtype)

    def task(chunk: int) -> None:
        sum_rows(drows, *bounds[chunk], sums[chunk])
        _sum_products(drows, rows, near, *bounds[chunk], products[chunk])

    run(task, len(bounds))
    inverse_deviation = _inverse_deviation(variance, epsilon)
    dbeta, product = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for chunk in range(len(bounds)):
        dbeta += sums[chunk]
        product += products[chunk]
    dgamma = (product - dbeta * (mean.astype(np.float64) - near)) * inverse_deviation
    return gamma.astype(np.float64) * inverse_deviation, dgamma, dbeta


def _affine_pair(dout: np.ndarray, x: np.ndarray, factor: np.ndarray, slope: np.ndarray, offset: np.ndarray,
                 mean: np.ndarray) -> np.ndarray:
    """Return ``factor * dout + slope * (x - mean) + offset``; the vectors are (C,) float64."""
    dx, drows, rows = empty(x.shape, x.dtype), _rows(dout), _rows(x)
    result = dx.reshape(rows.shape)
    near, shift = _split_mean(mean, slope, offset, x.dtype)
    factor, slope, bounds = factor.astype(x.dtype), slope.astype(x.dtype), _bounds(*rows.shape)
    run(lambda chunk: _combine(drows, rows, factor, near, slope, shift, result, *bounds[chunk]), len(bounds))
    return dx


def _split_mean(mean: np.ndarray, scale: np.ndarray, offset: np.ndarray, dtype: np.dtype,
                ) -> tuple[np.ndarray, np.ndarray]:
    """Return near and shift such that ``scale * (x - mean) + offset = scale * (x - near) + shift``."""
    near = mean.astype(dtype)
    return near, (offset + scale * (near - mean.astype(np.float64))).astype(dtype)


def _merge(counts: list[int], means: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge the chunks' means and sums of centred squares, chunk after chunk."""
    count, mean, square = counts[0], means[0].copy(), squares[0].copy()
    for more, other, other_square in zip(counts[1:], means[1:], squares[1:]):
        total, delta = count + more, other - mean
        mean += delta * (more / total)
        square += other_square + delta * delta * (count * more / total)
        count = total
    return mean, square / count


def _inverse_deviation(variance: np.ndarray, epsilon: float) -> np.ndarray:
    spread = variance.astype(np.float64) + epsilon
    return np.sqrt(np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0))


def _rows(x: np.ndarray) -> np.ndarray:
    return contiguous(x).reshape(-1, x.shape[-1])  # (M, C)


def _bounds(M: int, C: int) -> list[tuple[int, int]]:
    """Cut M rows into chunks that fit the cache, of a number that depends on the size only."""
    chunks = max(1, min(MAX_CHUNKS, M * C // ELEMENTWISE_CHUNK))
    return [(M * chunk // chunks, M * (chunk + 1) // chunks) for chunk in range(chunks)]


@jit(fastmath=FASTMATH_ORDERED)
def _moments(rows, start, stop, mean, square):
    """mean, square (C,) float64 = mean and sum of centred squares of rows[start:stop] (M, C)."""
    C = rows.shape[1]
    first = rows[start]  # subtracted from the others, so that the sum is of small numbers
    square[:] = 0
    fours = start + (stop - start) // 4 * 4
    for m in range(start, fours, 4):
        a, b, d, e = rows[m], rows[m + 1], rows[m + 2], rows[m + 3]
        for c in range(C):
            square[c] += (((np.float64(a[c]) - first[c]) + (np.float64(b[c]) - first[c]))
                          + ((np.float64(d[c]) - first[c]) + (np.float64(e[c]) - first[c])))
    for m in range(fours, stop):
        for c in range(C):
            square[c] += np.float64(rows[m, c]) - first[c]
    for c in range(C):
        mean[c] = first[c] + square[c] / (stop - start)
        square[c] = 0
    for m in range(start, fours, 4):
        a, b, d, e = rows[m], rows[m + 1], rows[m + 2], rows[m + 3]
        for c in range(C):
            square[c] += (((a[c] - mean[c]) ** 2 + (b[c] - mean[c]) ** 2)
                          + ((d[c] - mean[c]) ** 2 + (e[c] - mean[c]) ** 2))
    for m in range(fours, stop):
        for c in range(C):
            square[c] += (rows[m, c] - mean[c]) ** 2


@jit(fastmath=FASTMATH_ORDERED)
def _scale_and_shift(rows, near, factor, shift, out, start, stop):
    for m in range(start, stop):
        for c in range(rows.shape[1]):
            out[m, c] = (rows[m, c] - near[c]) * factor[c] + shift[c]


@jit(fastmath=FASTMATH_ORDERED)
def _combine(drows, rows, factor, near, slope, shift, out, start, stop):
    for m in range(start, stop):
        for c in range(rows.shape[1]):
            out[m, c] = drows[m, c] * factor[c] + ((rows[m, c] - near[c]) * slope[c] + shift[c])


@jit(fastmath=FASTMATH_ORDERED)
def _sum_products(drows, rows, near, start, stop, total):
    """total (C,) float64 = sum over rows start..stop of drows * (rows - near)."""
    C = rows.shape[1]
    for c in range(C):
        total[c] = 0
    fours = start + (stop - start) // 4 * 4
    for m in range(start, fours, 4):
        da, db, dd, de = drows[m], drows[m + 1], drows[m + 2], drows[m + 3]
        a, b, d, e = rows[m], rows[m + 1], rows[m + 2], rows[m + 3]
        for c in range(C):
            total[c] += ((np.float64(da[c]) * np.float64(a[c] - near[c])
                          + np.float64(db[c]) * np.float64(b[c] - near[c]))
                         + (np.float64(dd[c]) * np.float64(d[c] - near[c])
                            + np.float64(de[c]) * np.float64(e[c] - near[c])))
    for m in range(fours, stop):
        for c in range(C):
            total[c] += np.float64(drows[m, c]) * np.float64(rows[m, c] - near[c])

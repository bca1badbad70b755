"""What "right" means: every operation as its definition, in loops over indices. Slow and obvious.

Nothing here is shared with the library, not even the output-size formula. Integer arrays give exact integer answers.
Letters as in minicnn.kernels; gradients of sums are written as the sums they are, those of smooth functions follow
from the function itself by ``derivative``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]


# --- windows -----------------------------------------------------------------------------------------------------

def places(size: int, window: int, stride: int, before: int, after: int) -> int:
    """Count where a window fits, from the first place on, in steps of the stride."""
    count = 0
    while count * stride + window <= before + size + after:
        count += 1
    return count


def conv2d(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: Pair, padding: Padding) -> np.ndarray:
    """out[n, i, j, f] = b[f] + sum over p, q, c of x[n, i*SH + p - top, j*SW + q - left, c] * w[p, q, c, f]."""
    (N, H, W, C), (KH, KW, _, F) = x.shape, w.shape
    top, bottom, left, right = padding
    OH, OW = places(H, KH, stride[0], top, bottom), places(W, KW, stride[1], left, right)
    out = np.zeros((N, OH, OW, F), x.dtype)
    for n, i, j, p, q in np.ndindex(N, OH, OW, KH, KW):
        row, column = i * stride[0] + p - top, j * stride[1] + q - left
        if 0 <= row < H and 0 <= column < W:
            for c, f in np.ndindex(C, F):
                out[n, i, j, f] += x[n, row, column, c] * w[p, q, c, f]
    return out if b is None else out + b


def conv2d_dx(dout: np.ndarray, x_shape: tuple[int, ...], w: np.ndarray, stride: Pair, padding: Padding) -> np.ndarray:
    """dx[n, row, column, c] = sum of dout[n, i, j, f] * w[p, q, c, f] over the places that see the pixel through p, q.

    Entry (p, q) sees the pixel from place (i, j) if i*SH + p - top = row and j*SW + q - left = column.
    """
    (N, H, W, C), (KH, KW, _, F) = x_shape, w.shape
    _, OH, OW, _ = dout.shape
    dx = np.zeros(x_shape, dout.dtype)
    for n, row, column, p, q in np.ndindex(N, H, W, KH, KW):
        i, row_rest = divmod(row + padding[0] - p, stride[0])
        j, column_rest = divmod(column + padding[2] - q, stride[1])
        if row_rest == 0 and column_rest == 0 and 0 <= i < OH and 0 <= j < OW:
            for c, f in np.ndindex(C, F):
                dx[n, row, column, c] += dout[n, i, j, f] * w[p, q, c, f]
    return dx


def conv2d_dw(dout: np.ndarray, x: np.ndarray, w_shape: tuple[int, ...], stride: Pair, padding: Padding) -> np.ndarray:
    """dw[p, q, c, f] = sum over n, i, j of dout[n, i, j, f] * x[n, i*SH + p - top, j*SW + q - left, c]."""
    (N, H, W, C), (KH, KW, _, F) = x.shape, w_shape
    _, OH, OW, _ = dout.shape
    dw = np.zeros(w_shape, dout.dtype)
    for p, q, n, i, j in np.ndindex(KH, KW, N, OH, OW):
        row, column = i * stride[0] + p - padding[0], j * stride[1] + q - padding[2]
        if 0 <= row < H and 0 <= column < W:
            for c, f in np.ndindex(C, F):
                dw[p, q, c, f] += dout[n, i, j, f] * x[n, row, column, c]
    return dw


def conv2d_db(dout: np.ndarray) -> np.ndarray:
    """db[f] = sum over n, i, j of dout[n, i, j, f]."""
    db = np.zeros(dout.shape[-1], dout.dtype)
    for n, i, j, f in np.ndindex(dout.shape):
        db[f] += dout[n, i, j, f]
    return db


def max_pool2d(x: np.ndarray, pool: Pair, stride: Pair, padding: Padding) -> tuple[np.ndarray, np.ndarray]:
    """Look at the pixels of each window in row-major order and keep the first that none after it exceeds.

    ``out`` is float64. NaN beats every number. A window without pixels: -inf, winner -1.
    """
    N, H, W, C = x.shape
    (PH, PW), (top, bottom, left, right) = pool, padding
    OH, OW = places(H, PH, stride[0], top, bottom), places(W, PW, stride[1], left, right)
    out, winner = np.zeros((N, OH, OW, C)), np.zeros((N, OH, OW, C), np.int32)
    for n, i, j, c in np.ndindex(out.shape):
        best, where = -math.inf, -1
        for p, q in np.ndindex(PH, PW):
            row, column = i * stride[0] + p - top, j * stride[1] + q - left
            if 0 <= row < H and 0 <= column < W:
                value = float(x[n, row, column, c])
                if where == -1 or value > best or (math.isnan(value) and not math.isnan(best)):
                    best, where = value, p * PW + q
        out[n, i, j, c], winner[n, i, j, c] = best, where
    return out, winner


def max_pool2d_backward(dout: np.ndarray, winner: np.ndarray, x_shape: tuple[int, ...], pool: Pair, stride: Pair,
                        padding: Padding) -> np.ndarray:
    """dx[n, row, column, c] = sum of dout over the windows in which the pixel won."""
    dx = np.zeros(x_shape, dout.dtype)
    for n, i, j, c in np.ndindex(dout.shape):
        if winner[n, i, j, c] >= 0:
            p, q = divmod(int(winner[n, i, j, c]), pool[1])
            dx[n, i * stride[0] + p - padding[0], j * stride[1] + q - padding[2], c] += dout[n, i, j, c]
    return dx


def pixels_inside(size: Pair, window: Pair, stride: Pair, padding: Padding) -> np.ndarray:
    """Count, for each place (i, j) of a window, its pixels that are in the image."""
    (H, W), (top, bottom, left, right) = size, padding
    OH, OW = places(H, window[0], stride[0], top, bottom), places(W, window[1], stride[1], left, right)
    count = np.zeros((OH, OW), np.int64)
    for i, j, p, q in np.ndindex(OH, OW, window[0], window[1]):
        row, column = i * stride[0] + p - top, j * stride[1] + q - left
        if 0 <= row < H and 0 <= column < W:
            count[i, j] += 1
    return count


def avg_pool2d(x: np.ndarray, pool: Pair, stride: Pair, padding: Padding) -> np.ndarray:
    """out[n, i, j, c] = mean of the pixels of the window that are in the image, in float64; 0 if none is."""
    N, H, W, C = x.shape
    inside = pixels_inside((H, W), pool, stride, padding)
    out = np.zeros((N, inside.shape[0], inside.shape[1], C))
    for n, i, j, c in np.ndindex(out.shape):
        total = 0.0
        for p, q in np.ndindex(pool[0], pool[1]):
            row, column = i * stride[0] + p - padding[0], j * stride[1] + q - padding[2]
            if 0 <= row < H and 0 <= column < W:
                total += float(x[n, row, column, c])
        out[n, i, j, c] = total / max(inside[i, j], 1)
    return out


def avg_pool2d_backward(dout: np.ndarray, x_shape: tuple[int, ...], pool: Pair, stride: Pair,
                        padding: Padding) -> np.ndarray:
    """dx[n, row, column, c] = sum of dout / (pixels in the window) over the windows that the pixel is in."""
    N, H, W, C = x_shape
    inside = pixels_inside((H, W), pool, stride, padding)
    dx = np.zeros((N, H, W, C))
    for n, i, j, c in np.ndindex(dout.shape):
        for p, q in np.ndindex(pool[0], pool[1]):
            row, column = i * stride[0] + p - padding[0], j * stride[1] + q - padding[2]
            if 0 <= row < H and 0 <= column < W:
                dx[n, row, column, c] += dout[n, i, j, c] / inside[i, j]
    return dx


# --- dense -------------------------------------------------------------------------------------------------------

def dense(x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    """out[n, k] = b[k] + sum over d of x[n, d] * w[d, k]."""
    out = np.zeros((x.shape[0], w.shape[1]), x.dtype)
    for n, d, k in np.ndindex(*x.shape, w.shape[1]):
        out[n, k] += x[n, d] * w[d, k]
    return out if b is None else out + b


def dense_backward(dout: np.ndarray, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx[n, d] = sum over k of dout[n, k] * w[d, k]; dw[d, k] = sum over n of x[n, d] * dout[n, k]; db[k] of dout."""
    dx, dw, db = np.zeros(x.shape, x.dtype), np.zeros(w.shape, x.dtype), np.zeros(w.shape[1], x.dtype)
    for n, d, k in np.ndindex(*x.shape, w.shape[1]):
        dx[n, d] += dout[n, k] * w[d, k]
        dw[d, k] += x[n, d] * dout[n, k]
    for n, k in np.ndindex(dout.shape):
        db[k] += dout[n, k]
    return dx, dw, db


# --- smooth functions, and their gradients -----------------------------------------------------------------------

def derivative(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray, dout: np.ndarray) -> np.ndarray:
    """Return d sum(dout * function(x)) / dx, entry by entry, exact to rounding.

    The complex step: for an analytic function, the imaginary part of f(x + ih) is h f'(x), without a difference of
    nearly equal numbers (Squire, Trapp: Using complex variables to estimate derivatives of real functions, 1998).
    """
    h, dx = 1e-200, np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        moved = x.astype(complex)
        moved[index] += 1j * h
        dx[index] = np.sum(dout.astype(float) * function(moved).imag) / h
    return dx


def batch_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float,
               ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """out = gamma * (x - mean) / sqrt(variance + epsilon) + beta; a channel's statistics are over all other axes."""
    C = x.shape[-1]
    out = np.zeros(x.shape, x.dtype)
    mean, variance = np.zeros(C, x.dtype), np.zeros(C, x.dtype)
    for c in range(C):
        values = [value for value in x[..., c].flat]
        mean[c] = sum(values) / len(values)
        variance[c] = sum((value - mean[c])**2 for value in values) / len(values)
        out[..., c] = gamma[c] * (x[..., c] - mean[c]) / np.sqrt(variance[c] + epsilon) + beta[c]
    return out, mean, variance


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    """out[..., k] = exp(x[..., k]) / sum over l of exp(x[..., l]): for moderate x."""
    out = np.zeros(x.shape, x.dtype)
    for row in np.ndindex(x.shape[:-1]):
        total = sum(np.exp(x[row]))
        out[row] = [np.exp(value) / total for value in x[row]]
    return out


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """loss[n] = -sum over k of targets[n, k] * log(softmax(logits)[n, k]): for moderate logits."""
    losses, probabilities = np.zeros(logits.shape[0], logits.dtype), softmax(logits)
    for n, k in np.ndindex(logits.shape):
        losses[n] -= targets[n, k] * np.log(probabilities[n, k])
    return losses


# --- dropout -----------------------------------------------------------------------------------------------------

def mix(x: int) -> int:
    """lowbias32 (Chris Wellons), modulo 2**32."""
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    return x ^ x >> 16


def dropout_bits(n: int, i: int, key: int) -> int:
    """Return the 32 random bits of element i of image n."""
    low, high = key % 2**32, key // 2**32
    a = mix((low + n * 0x9E3779B9) % 2**32)
    b = mix(high ^ mix(a))
    return mix(mix((i + a) % 2**32) ^ b)


def dropout_kept(shape: tuple[int, ...], rate: float, key: int) -> np.ndarray:
    """Return which elements stay, as booleans."""
    kept = np.zeros((shape[0], math.prod(shape[1:])), bool)
    for n, i in np.ndindex(kept.shape):
        kept[n, i] = dropout_bits(n, i, key) >= round(rate * 2**32)
    return kept.reshape(shape)


# --- optimizers, for one number ----------------------------------------------------------------------------------

def flush(slot: float) -> float:
    """Return 0 for what is too small to matter."""
    return 0.0 if abs(slot) < 1e-30 else slot


def adam(param: float, grad: float, m: float, v: float, learning_rate: float, beta_1: float, beta_2: float,
         epsilon: float, step: int) -> tuple[float, float, float]:
    """Return param, m and v after an Adam step with Keras' epsilon."""
    m = flush(beta_1 * m + (1 - beta_1) * grad)
    v = flush(beta_2 * v + (1 - beta_2) * grad**2)
    alpha = learning_rate * math.sqrt(1 - beta_2**step) / (1 - beta_1**step)
    return param - alpha * m / (math.sqrt(v) + epsilon), m, v


def sgd(param: float, grad: float, velocity: float, learning_rate: float, momentum: float, nesterov: bool,
        ) -> tuple[float, float]:
    """Return param and velocity after a step of gradient descent."""
    velocity = flush(momentum * velocity - learning_rate * grad)
    return param + (momentum * velocity - learning_rate * grad if nesterov else velocity), velocity


def rmsprop(param: float, grad: float, v: float, average: float | None, velocity: float, learning_rate: float,
            rho: float, momentum: float, epsilon: float) -> tuple[float, float, float | None, float]:
    """Return param, v, average and velocity after an RMSprop step; without an average it is not centered."""
    v = flush(rho * v + (1 - rho) * grad**2)
    average = None if average is None else flush(rho * average + (1 - rho) * grad)
    spread = max(v - (average or 0.0)**2, 0.0)
    velocity = flush(momentum * velocity + learning_rate * grad / math.sqrt(spread + epsilon))
    return param - velocity, v, average, velocity

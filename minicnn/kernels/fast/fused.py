"""What a plan's blocks need beside the convolutions of ``conv2d.py``: sources, gradients, sums, and dense layers.

``ends.py`` says what a ``Source`` and a ``Gradient`` are; here they are made from arrays.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from minicnn.kernels.fast import images
from minicnn.kernels.fast.compile import FASTMATH_ORDERED, inner, jit
from minicnn.kernels.fast.dense import multiply
from minicnn.kernels.fast.ends import Gradient, Source, Target
from minicnn.kernels.fast.memory import FRESH, Allocator, contiguous, empty, padded, zeros
from minicnn.kernels.fast.parallel import chunk_bounds, seats, share
from minicnn.kernels.fast.simd import LANES
from minicnn.kernels.fast.sums import add_partials
from minicnn.kernels.fast.vector_type import round_up

Norm = tuple[np.ndarray, np.ndarray, np.ndarray]  # near, scale, shift: (x - near) * scale + shift
Slopes = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # factor, near, slope, offset of a Gradient
CHUNKS = 16
CHUNK = 1 << 14  # numbers that are worth a chunk


class Sums:
    """Per-chunk sums over the channels, of chunks that depend on the batch alone.

    Attributes
    ----------
    bounds : (chunks + 1,) int64 array
        Where chunks of the batch begin, and the last one ends.
    totals : (chunks, 2 * room) float64 array
    rooms : (chunks, rows * room) array
        For a chunk to gather its sums in, zeros at first.
    """

    def __init__(self, bounds: np.ndarray, room: int, rows_: int, dtype: np.dtype) -> None:
        self.chunks, self.bounds = len(bounds) - 1, bounds
        self.totals = zeros((self.chunks, 2 * room), np.float64)
        self.rooms = zeros((self.chunks, rows_ * room), dtype)  # from convolutions, whole cache lines a row
        self._room = room

    def moments(self, pixels: int, C: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance (C,) of images of so many pixels, from sums of ``x - near`` and its square.

        The first row of each chunk's room is what was ``near``.
        """
        mean, variance = np.empty((2, C))
        _merge_moments(self.bounds, pixels, self.rooms, self.totals, mean, variance)
        return mean, variance

    def added(self) -> np.ndarray:
        """Return the totals of all chunks, (2, room)."""
        return self.totals.sum(axis=0).reshape(2, self._room)


@jit(fastmath=FASTMATH_ORDERED)
def _merge_moments(bounds, pixels, rooms, totals, mean, variance):
    """Merge the means and sums of centred squares of chunks, of images of so many pixels, chunk after chunk."""
    room = totals.shape[1] // 2
    for c in range(mean.size):
        count, centre, square = 0.0, 0.0, 0.0
        for chunk in range(bounds.size - 1):
            more, sum_ = float((bounds[chunk + 1] - bounds[chunk]) * pixels), totals[chunk, c]
            other = np.float64(rooms[chunk, c]) + sum_ / more
            other_square = max(totals[chunk, room + c] - sum_ * sum_ / more, 0.0)
            total, delta = count + more, other - centre
            centre += delta * (more / total)
            square += other_square + delta * delta * (count * more / total)
            count = total
        mean[c], variance[c] = centre, square / count


def normalization(gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float,
                  dtype: np.dtype) -> Norm:
    """Return (near, scale, shift) of a batch normalization."""
    near, scale, shift = np.empty((3, len(gamma)), dtype)
    _normalization(gamma, beta, mean.astype(np.float64), variance.astype(np.float64), epsilon, near, scale, shift)
    return near, scale, shift


@jit(fastmath=FASTMATH_ORDERED)
def _normalization(gamma, beta, mean, variance, epsilon, near, scale, shift):
    for c in range(mean.size):
        factor = np.float64(gamma[c]) * _inverse(variance[c], epsilon)
        near[c], scale[c] = mean[c], factor
        shift[c] = np.float64(beta[c]) + factor * (np.float64(near[c]) - mean[c])


@inner(fastmath=FASTMATH_ORDERED)
def _inverse(variance, epsilon):
    """1 / deviation; 0 for a constant channel."""
    return np.sqrt(1.0 / (variance + epsilon)) if variance + epsilon > 0 else 0.0


def normalization_gradient(sums: np.ndarray, count: int, gamma: np.ndarray, mean: np.ndarray, variance: np.ndarray,
                           epsilon: float, near: np.ndarray, frozen: bool,
                           ) -> tuple[Slopes, np.ndarray, np.ndarray]:
    """Return what the gradient of a normalized array needs, dgamma and dbeta, from the sums over its output's gradient.

    ``sums`` (2, C): of dout and of ``dout * (x - near)``; ``count`` values a channel. See batch_norm.py.
    """
    factor, slope, offset, dgamma, dbeta = np.empty((5, len(gamma)), near.dtype)
    _normalization_gradient(np.ascontiguousarray(sums), count, gamma, mean.astype(np.float64),
                            variance.astype(np.float64), epsilon, near, frozen, factor, slope, offset, dgamma, dbeta)
    return (factor, near, slope, offset), dgamma, dbeta


@jit(fastmath=FASTMATH_ORDERED)
def _normalization_gradient(sums, count, gamma, mean, variance, epsilon, near, frozen, factor, slope, offset, dgamma,
                            dbeta):
    for c in range(mean.size):
        inverse, shift = _inverse(variance[c], epsilon), np.float64(near[c]) - mean[c]
        scale, total = np.float64(gamma[c]) * inverse, sums[0, c]
        product = inverse * (sums[1, c] + shift * total)
        steep = 0.0 if frozen else -scale * inverse * product / count
        factor[c], slope[c], dgamma[c], dbeta[c] = scale, steep, product, total
        offset[c] = 0.0 if frozen else -scale * total / count + steep * shift


def source_of(x: np.ndarray, norm: Norm | None = None, largest: np.ndarray | None = None,
              drop: tuple[float, int] | None = None) -> Source:
    """Return the Source that reads x (N, H, W, C).

    Parameters
    ----------
    norm : (near, scale, shift), optional
    largest : (N, H // 2, W // 2, C) array, optional
        Pool 2x2, and put the winners there.
    drop : (rate, key), optional
    """
    x = contiguous(x)
    dtype, room = x.dtype, round_up(x.shape[-1])
    near, scale, shift = _neutral(room, dtype) if norm is None else (padded(vector, room, dtype) for vector in norm)
    low, high, threshold, keep = _no_mask(dtype) if drop is None else _mask(*drop, dtype)
    height, width = x.shape[1:3] if x.ndim == 4 else (1, 1)
    return Source(x.reshape(-1), height, width, norm is not None, near, scale, shift,
                  largest is not None, _nothing(dtype) if largest is None else largest.reshape(-1),
                  drop is not None, low, high, threshold, keep)


def _mask(rate: float, key: int, dtype: np.dtype) -> tuple[np.uint32, np.uint32, np.uint64, np.ndarray]:
    """Return low, high, threshold and keep of a Source."""
    return (np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32), np.uint64(round(rate * 2**32)),
            np.full(1, 1 / (1 - rate), dtype))


@functools.cache
def _no_mask(dtype: np.dtype) -> tuple[np.uint32, np.uint32, np.uint64, np.ndarray]:
    return _mask(0.0, 0, dtype)


@functools.cache
def _neutral(room: int, dtype: np.dtype) -> Norm:
    """Return what stands for no normalization; the scale is 1, for its sign says which pixel wins."""
    return np.zeros(room, dtype), np.ones(room, dtype), np.zeros(room, dtype)


def target_of(out: np.ndarray, b: np.ndarray | None = None, relu: bool = False, measure: bool = False,
              scale: np.ndarray | None = None, places: np.ndarray | None = None) -> Target:
    """Return the Target that is out (N, OH, OW, F); with ``scale`` (F) pooled, ``places`` like out if wanted."""
    dtype, room = out.dtype, round_up(out.shape[-1])
    return Target(out.reshape(-1), padded(b, room, dtype), relu, measure, scale is not None, padded(scale, room, dtype),
                  _nothing(dtype) if places is None else places.reshape(-1))


def gradient_of(dout: np.ndarray, out: np.ndarray | None = None, relu: bool = False, slopes: Slopes | None = None,
                largest: np.ndarray | None = None, places: np.ndarray | None = None) -> Gradient:
    """Return the Gradient of a result ``out`` from ``dout``; ``slopes`` if it was normalized, ``largest`` if pooled.

    With ``places``, which pooling at once has written, nothing else is needed.
    """
    dout = contiguous(dout)
    winners = largest if places is None else places
    dtype, room = dout.dtype, round_up(dout.shape[-1])
    factor, near, slope, offset = (_neutral(room, dtype)[0],) * 4 if slopes is None else (
        padded(vector, room, dtype) for vector in slopes)
    return Gradient(dout.reshape(-1), _nothing(dtype) if out is None else out.reshape(-1), relu,
                    slopes is not None, factor, near, slope, offset,
                    0 if winners is None else 1 if places is None else 2,
                    _nothing(dtype) if winners is None else winners.reshape(-1))


@functools.cache
def _nothing(dtype: np.dtype) -> np.ndarray:
    return np.empty(0, dtype)


def reading(source: Source, shape: tuple[int, ...], allocator: Allocator = FRESH,
            ) -> tuple[Callable[[], None], np.ndarray]:
    """Return a call that writes what a source gives to an array (N, H, W, C) or (N, C), and the array."""
    out = allocator.result(shape, source.x.dtype)
    H, W, C = _image(shape)
    bounds = _bounds(shape[0], out.size)
    chunks = len(bounds) - 1
    masks = allocator.work((seats(chunks), W * C + LANES), out.dtype)
    return functools.partial(share, images.read_images, chunks, bounds, source, H, W, C, out.reshape(-1), masks,
                             rooms=len(masks)), out


def read_backward(source: Source, dout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient of what ``reading`` reads, after dropout, and sums (2, C) as ``convolve_backward`` does."""
    dout = contiguous(dout)
    dx = empty(dout.shape, dout.dtype)
    H, W, C = _image(dout.shape)
    room = round_up(C)
    sums = Sums(_bounds(len(dout), dout.size), room, 2, dx.dtype)
    masks = empty((seats(sums.chunks), W * C + LANES), dx.dtype)
    share(images.input_gradient_images, sums.chunks, sums.bounds, dout.reshape(-1), H, W, C, source, masks,
          dx.reshape(-1), sums.rooms, room, sums.totals, rooms=len(masks))
    return dx, sums.added()[:, :C]


def dense(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, relu: bool, measure: bool,
          ) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """Return ``x @ w + b``, through ReLU if asked for, and with ``measure`` its mean and variance."""
    out = multiply(contiguous(x), contiguous(w), b, relu)
    if not measure:
        return out, None
    N, K = out.shape
    sums = Sums(_bounds(N, out.size), K, 3, out.dtype)
    share(images.measure_vectors, sums.chunks, sums.bounds, out.reshape(-1), K, sums.rooms, K, sums.totals)
    return out, sums.moments(1, K)


def dense_gradient(gradient: Gradient, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return dz (N, K) and db (K) from the Gradient of a dense layer's result."""
    z = empty(shape, gradient.dout.dtype)
    N, K = shape
    room, bounds = round_up(K), _bounds(N, z.size)
    chunks = len(bounds) - 1
    db, sums = zeros((chunks, room), np.float64), zeros((chunks, room), z.dtype)
    share(images.gradient_vectors, chunks, bounds, gradient, K, z.reshape(-1), db, sums)
    return z, add_partials(db, z.dtype)[:K]


def _bounds(N: int, size: int) -> np.ndarray:
    """Cut a batch of ``size`` numbers into chunks, of a number that depends on the sizes alone."""
    return chunk_bounds(N, max(1, min(CHUNKS, size // CHUNK)))


def _image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return H, W, C; a vector is an image of one pixel."""
    return (1, 1, math.prod(shape[1:])) if len(shape) == 2 else shape[1:]  # type: ignore[return-value]

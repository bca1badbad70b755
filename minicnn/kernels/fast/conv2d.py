"""See reference. Three algorithms: Winograd's, direct, im2col; ``choose`` says which, and why.

``convolve`` and ``convolve_backward`` do the same and what stands beside a convolution as well; see ``rows.py``.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minicnn.errors import ArgumentError, suggest
from minicnn.kernels.checks import check_fit
from minicnn.kernels.fast import direct, im2col, winograd
from minicnn.kernels.fast.ends import Gradient, Source
from minicnn.kernels.fast.fused import Sums, gradient_of, source_of, target_of
from minicnn.kernels.fast.memory import FRESH, Allocator, contiguous, empty, zeros
from minicnn.kernels.fast.parallel import chunk_bounds, seats, share
from minicnn.kernels.fast.sums import add_partials
from minicnn.kernels.geometry import Padding, Pair, output_size
from minicnn.kernels.remembered import Remembered

ALGORITHMS = ("auto", "winograd", "direct", "im2col")
WINOGRAD_CHANNELS = 4  # of the input, at least: they are filled up to 16, and direct can do with what there is
WINOGRAD_GAIN = 1.5  # its multiplications may be fewer by this factor before the transforms pay
CHUNKS = 16
FEWEST = 4  # into which a single image is cut
BACKWARD_CHUNKS = 8  # each has a kernel gradient of its own, and they must be added
CHUNK_PIXELS = 256  # of the output, at least, are worth that
PARTIAL_ENTRIES = 1 << 22  # of all chunks' kernel gradients together

Moments = tuple[np.ndarray, np.ndarray]


class Geometry(NamedTuple):
    """A convolution's shapes, and how it is to be computed."""

    x_shape: tuple[int, ...]  # (N, H, W, C)
    w_shape: tuple[int, ...]  # (KH, KW, C, F)
    stride: Pair
    padding: Padding
    algorithm: str

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(N, OH, OW, F)."""
        N, H, W, _ = self.x_shape
        KH, KW, _, F = self.w_shape
        return (N, *output_size((H, W), (KH, KW), self.stride, self.padding), F)


def conv2d(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: Pair, padding: Padding,
           algorithm: str = "auto") -> np.ndarray:
    """See reference."""
    check_fit("conv2d", "x (N, H, W, C), w (KH, KW, C, F), b (F)", x, w, b)
    g = geometry(x.shape, w.shape, stride, padding, algorithm)
    if g.algorithm == "im2col":
        return im2col.conv2d(x, w, b, g.stride, g.padding)
    return convolve(g, source_of(x), w, b)[0]


def conv2d_backward(dout: np.ndarray, x: np.ndarray, w: np.ndarray, stride: Pair, padding: Padding,
                    algorithm: str = "auto", need_dx: bool = True,
                    ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """See reference."""
    OH, OW = output_size(x.shape[1:3], w.shape[:2], stride, padding)
    check_fit("conv2d_backward", "dout (N, OH, OW, F), x (N, H, W, C), w (KH, KW, C, F)", dout, x, w, OH=OH, OW=OW)
    g = geometry(x.shape, w.shape, stride, padding, algorithm)
    if g.algorithm == "im2col":
        return im2col.conv2d_backward(dout, x, w, g.stride, g.padding, need_dx)
    return convolve_backward(g, source_of(x), gradient_of(dout), w, need_dx)[:3]


def choose(x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: Pair, padding: Padding) -> str:
    """Return the algorithm of ``auto``: the batch size never matters, so that neither do the bits.

    Winograd's, for square kernels of 3 or 5 at stride 1, if it has fewer multiplications by ``WINOGRAD_GAIN`` (small
    images do not fill its tiles) and channels enough; otherwise direct. The measurements are in docs/speed.md.
    """
    KH, KW, C, _ = w_shape
    if KH != KW or KH not in (3, 5) or tuple(stride) != (1, 1) or C < WINOGRAD_CHANNELS:
        return "direct"
    OH, OW = output_size((x_shape[1], x_shape[2]), (KH, KW), stride, padding)
    tiles = -(-OH // 4) * -(-OW // 4)
    return "winograd" if WINOGRAD_GAIN * tiles * (KH + 3) ** 2 <= OH * OW * KH * KW else "direct"


def geometry(x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: Pair, padding: Padding, algorithm: str,
             ) -> Geometry:
    """Return the shapes, with ``auto`` replaced by what it chooses.

    Raises
    ------
    ArgumentError
        If there is no such algorithm, or it cannot do this convolution; or if strides or padding are no whole numbers.
    """
    try:  # numbers of one type: what is kept for these sizes serves all that compare equal
        (SH, SW), (top, bottom, left, right) = ([int(operator.index(number)) for number in given]
                                                for given in (stride, padding))
    except (TypeError, ValueError):
        raise ArgumentError(f"conv2d got stride={stride!r} and padding={padding!r}; expected whole numbers, (rows, "
                            "columns) and (top, bottom, left, right).") from None
    stride, padding = (SH, SW), (top, bottom, left, right)
    if algorithm not in ALGORITHMS:
        raise ArgumentError(f"conv2d got algorithm={algorithm!r}, which the fast kernels do not have. "
                            f"{suggest(algorithm, ALGORITHMS)}")
    if algorithm == "winograd" and (w_shape[0] != w_shape[1] or w_shape[0] not in (3, 5) or tuple(stride) != (1, 1)):
        raise ArgumentError(f"conv2d got algorithm='winograd' for a kernel of {w_shape[0]}x{w_shape[1]} and strides "
                            f"{tuple(stride)}; it can do 3x3 and 5x5 with strides (1, 1). Use 'auto'.")
    if algorithm == "auto":
        algorithm = choose(x_shape, w_shape, stride, padding)
    return Geometry(tuple(x_shape), tuple(w_shape), stride, padding, algorithm)


class Convolution(NamedTuple):
    """A convolution whose arrays are there: ``call`` computes it, each time anew from what the source then holds."""

    call: Callable[[], None]
    out: np.ndarray            # (N, OH, OW, F), or (N, OH // 2, OW // 2, F)
    places: np.ndarray | None  # like out: who won, see ``ends.Target``
    sums: Sums | None          # for mean and variance
    weights: np.ndarray        # what was made of the kernel

    def moments(self) -> Moments | None:
        """Return mean and variance (F) of out in float64, once it is computed, if they are wanted."""
        return None if self.sums is None else self.sums.moments(math.prod(self.out.shape[1:3]), self.out.shape[3])


def convolve(g: Geometry, source: Source, w: np.ndarray, b: np.ndarray | None, relu: bool = False,
             measure: bool = False, pool: np.ndarray | None = None, training: bool = True,
             ) -> tuple[np.ndarray, Moments | None, np.ndarray | None]:
    """Return out, moments and places of what ``convolution`` arranges."""
    arranged = convolution(g, source, w, b, relu, measure, pool, training)
    arranged.call()
    return arranged.out, arranged.moments(), arranged.places


def convolution(g: Geometry, source: Source, w: np.ndarray, b: np.ndarray | None, relu: bool, measure: bool,
                pool: np.ndarray | None, training: bool, remembered: Remembered | None = None,
                allocator: Allocator = FRESH) -> Convolution:
    """Arrange the convolution of what ``source`` gives, plus bias, through ReLU if asked for.

    Parameters
    ----------
    measure : bool
        Whether mean and variance of out are wanted.
    pool : (F,) array, optional
        Pool out in 2x2 windows: the largest wins, but where this is negative the smallest.
    training : bool
        Whether backward will want to know who won.
    remembered : Remembered, optional
        What was made of w last time serves again if w has not changed.
    """
    check_fit("conv2d", "x (...), w (KH, KW, C, F), b (F)", source.x, w, b, C=g.x_shape[3])
    kernel, p, (N, OH, OW, F) = _algorithm(g)
    dtype = w.dtype
    weights = _weights(kernel, p, w) if remembered is None else remembered.get(
        g.algorithm, (w,), lambda: _weights(kernel, p, w.copy()))  # what is kept must not change with w
    out = allocator.result((N, OH, OW, F) if pool is None else (N, OH // 2, OW // 2, F), dtype)
    places = None if pool is None or not training else empty(out.shape, dtype)
    bounds = _parts(N, kernel.units(p), measure)
    sums = Sums(chunk_bounds(N, CHUNKS), p.FP, 3, dtype) if measure else _no_sums(p.FP, dtype)
    work = allocator.work((seats(len(bounds) - 1), kernel.workspace_size(p)), dtype)
    call = functools.partial(share, kernel.forward, len(bounds) - 1, bounds, p, source, weights,
                             target_of(out, b, relu, measure, pool, places), work, sums.rooms, sums.totals,
                             rooms=len(work))
    return Convolution(call, out, places, sums if measure else None, weights)


def convolve_backward(g: Geometry, source: Source, gradient: Gradient, w: np.ndarray, need_dx: bool,
                      ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray, np.ndarray]:
    """Return dx, dw, db, and (2, C) float64 the sums of dx and ``dx * (x - near)`` over all pixels."""
    kernel, p, (N, OH, OW, F) = _algorithm(g)
    C, dtype = g.w_shape[2], w.dtype
    weights = kernel.turned_kernel(p, contiguous(w)).reshape(-1)
    pixels = N * OH * OW
    most = max(2, min(BACKWARD_CHUNKS, PARTIAL_ENTRIES // max(1, weights.size), pixels // CHUNK_PIXELS))
    sums = Sums(chunk_bounds(N, most), p.CP, 2 + -(-p.FP // p.CP), dtype)
    dw = empty((sums.chunks, kernel.gradient_size(p)), dtype)
    db = zeros((sums.chunks, p.FP), np.float64)
    dx = empty(g.x_shape, dtype) if need_dx else None
    work = empty((seats(sums.chunks), kernel.workspace_size(p)), dtype)
    flat = empty(0, dtype) if dx is None else dx.reshape(-1)
    share(kernel.backward, sums.chunks, sums.bounds, p, source, gradient, weights, need_dx, dw, db, flat,
          work, sums.rooms, sums.totals, rooms=len(work))
    total = kernel.kernel_gradient(p, add_partials(dw, dtype), g.w_shape)
    return dx, contiguous(total), add_partials(db, dtype)[:F], sums.added()[:, :C]


@functools.lru_cache(1024)
def _algorithm(g: Geometry):
    """Return the module of the algorithm, its sizes, and the shape of the result."""
    kernel, shape = winograd if g.algorithm == "winograd" else direct, g.out_shape
    return kernel, kernel.plan(g.x_shape, g.w_shape, shape[1:3], g.stride, g.padding), shape


@functools.lru_cache(1024)
def _parts(N: int, units: int, measure: bool) -> np.ndarray:
    """Return where the chunks of a batch begin, counted in an image's parts; of few images each may be cut."""
    return chunk_bounds(N, CHUNKS) * units if measure or N >= CHUNKS else chunk_bounds(N * units, max(FEWEST, N))


@functools.cache
def _no_sums(room: int, dtype: np.dtype) -> Sums:
    """Return what stands for sums that are not taken, and is never written to."""
    return Sums(chunk_bounds(1), room, 3, dtype)


def _weights(kernel, p, w: np.ndarray) -> np.ndarray:
    return kernel.kernel(p, contiguous(w)).reshape(-1)

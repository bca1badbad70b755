"""What happens to an activation on its way into a convolution and out of it: the rows of one image at a time.

A layer by itself reads a whole array from memory and writes a whole array back. What stands between two convolutions
(bias, ReLU, batch normalization, pooling, dropout) does little with each number, so that it would mostly wait for
memory. Here it is done to rows that are in the cache anyway:

- ``read_row`` takes a row of what the convolution before has written, normalizes it, pools it, drops from it;
- ``write_rows`` adds the bias, cuts off below zero, pools if nothing needs what is not pooled, and gathers the sums for
  the batch normalization that comes next;
- ``gradient_rows`` and ``write_input_gradient`` do the same on the way back.

Everything is optional, see ``Source``, ``Target`` and ``Gradient`` in ``ends.py``. Arrays are flat; ``near``,
``scale``, ... have one number a channel and zeros up to a multiple of 16. Batch normalization is ``(x - near) * scale +
shift`` with ``near`` the mean rounded to the dtype: the difference is then exact where it matters, near the mean.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.fast.compile import FASTMATH_ORDERED, ZERO, inner
from minicnn.kernels.fast.dropout import _mix
from minicnn.kernels.fast.simd import (
    LANES,
    broadcast,
    fma,
    load,
    load_first,
    maximum,
    minimum,
    select,
    store,
    store_first,
)


@inner(fastmath=FASTMATH_ORDERED)
def read_row(source, H, W, C, n, i, mask, target, start, pitch):
    """Row i of image n of the input: pixel j goes to ``target[start + j * pitch]``, with zeros up to ``pitch``."""
    if pitch == C and not (source.norm or source.pool or source.drop):
        p = (n * H + i) * W * C
        copy(source.x, p, target, start, W * C)
        return
    if source.drop:
        draw_row(source, n, i * W * C, W * C, mask)
    for c in range(0, C, LANES):
        if C - c >= LANES:
            _read_channels(source, H, W, C, n, i, c, mask, target, start, pitch, None, None)
        else:
            _read_channels(source, H, W, C, n, i, c, mask, target, start, pitch, C - c, pitch - c)


@inner(fastmath=FASTMATH_ORDERED)
def _read_channels(source, H, W, C, n, i, c, mask, target, start, pitch, count, room):
    """Channels c ... c + 15 of a row, or as many as ``count``; see ``load_first``."""
    near, scale, shift = load(source.near, c), load(source.scale, c), load(source.shift, c)
    zero = broadcast(near, 0)
    line = source.width * C
    for j in range(W):
        if source.pool:
            p = ((n * source.height + 2 * i) * source.width + 2 * j) * C + c
            v = winner(load_first(source.x, p, count), load_first(source.x, p + C, count),
                       load_first(source.x, p + line, count), load_first(source.x, p + line + C, count), scale, zero)
            store_first(source.largest, ((n * H + i) * W + j) * C + c, v, count)
        else:
            v = load_first(source.x, ((n * H + i) * W + j) * C + c, count)
        if source.norm:
            v = fma(v - near, scale, shift)
        if source.drop:
            v = v * load_first(mask, j * C + c, count)
        store_first(target, start + j * pitch + c, v, room)


@inner(inline="always")
def winner(a, b, d, e, scale, zero):
    """Return what wins once normalized: the largest, but the smallest if the scale is negative; of equals the first.

    NaN wins over all; ``maximum`` and ``minimum`` by themselves keep it only if it is ``a``.
    """
    most = maximum(maximum(a, b), maximum(d, e))
    least = minimum(minimum(a, b), minimum(d, e))
    best = select(scale > zero, most, select(zero > scale, least, a))
    return select(b == b, select(d == d, select(e == e, best, e), d), b)


@inner
def draw_row(source, n, start, count, mask):
    """mask[0:count] = 0 or 1 / (1 - rate), for the elements of image n from ``start`` on; see dropout.py."""
    a = _mix(np.uint32(np.uint64(source.low) + np.uint64(n) * np.uint64(0x9E3779B9)))
    b = _mix(np.uint32(source.high ^ _mix(a)))
    keep, zero, first = source.keep[0], source.keep[0] * 0, np.uint32(np.uint64(a) + np.uint64(start))
    for k in range(count):
        bits = _mix(np.uint32(_mix(np.uint32(first + np.uint32(k))) ^ b))
        mask[k] = keep if np.uint64(bits) >= source.threshold else zero


@inner(fastmath=FASTMATH_ORDERED)
def write_rows(target, result, rows, pitch, line, OH, OW, F, n, first, sums):
    """Rows first ... first + rows - 1 of image n to the target; in result pixels are ``pitch``, rows ``line`` apart.

    Where it pools, ``first`` is even. ``sums`` (3, pitch): where it measures, the second and third row gain the sums of
    ``out - near`` and its square, where ``near`` is the first row, a value near the mean.
    """
    for c in range(0, F, LANES):
        if target.pool:
            _write_windows(target, result, rows, pitch, line, OH, OW, F, n, first, c, F - c)
        elif F - c >= LANES:
            _write_channels(target, result, rows, pitch, line, OH, OW, F, n, first, c, sums, None)
        else:
            _write_channels(target, result, rows, pitch, line, OH, OW, F, n, first, c, sums, F - c)


@inner(fastmath=FASTMATH_ORDERED)
def _write_channels(target, result, rows, pitch, line, OH, OW, F, n, first, c, sums, count):
    """Channels c ... c + 15, or as many as ``count``; see ``load_first``."""
    b = load(target.bias, c)
    zero = broadcast(b, 0)
    near, s, q = zero, zero, zero
    if target.measure:
        near, s, q = load(sums, c), load(sums, pitch + c), load(sums, 2 * pitch + c)
    start = (n * OH + first) * OW * F + c
    for i in range(rows):
        for j in range(OW):
            v = load(result, i * line + j * pitch + c) + b
            if target.relu:
                v = maximum(v, zero)
            store_first(target.out, start + (i * OW + j) * F, v, count)
            if target.measure:
                d = v - near
                s, q = s + d, fma(d, d, q)
    if target.measure:
        store(sums, pitch + c, s)
        store(sums, 2 * pitch + c, q)


@inner(fastmath=FASTMATH_ORDERED)
def _write_windows(target, result, rows, pitch, line, OH, OW, F, n, first, c, count):
    """The same of 2x2 windows; an odd last row or column is in none."""
    PH, PW = OH // 2, OW // 2
    b, scale = load(target.bias, c), load(target.scale, c)
    zero = broadcast(b, 0)
    for i in range(rows // 2):
        for j in range(PW):
            at, p = 2 * (i * line + j * pitch) + c, ((n * PH + first // 2 + i) * PW + j) * F + c
            v, w = load(result, at) + b, load(result, at + pitch) + b
            y, z = load(result, at + line) + b, load(result, at + line + pitch) + b
            write_window(target, p, v, w, y, z, scale, zero, count)


@inner
def write_window(target, at, v, w, y, z, scale, zero, count):
    """A window's winner, and which it is if that is wanted: v and w in the row above, y and z below."""
    best = winner(v, w, y, z, scale, zero)
    if target.places.size:
        store_first(target.places, at, _place(v, w, y, z, best, zero, target.relu), count)
    store_first(target.out, at, maximum(best, zero) if target.relu else best, count)


@inner(inline="always")
def _place(v, w, y, z, best, zero, relu):
    """Return which is the first that equals the best, 0 to 3; -1 if none does, or if the best is cut off."""
    none = broadcast(zero, -1)
    place = select(y == best, broadcast(zero, 2), select(z == best, broadcast(zero, 3), none))
    place = select(v == best, zero, select(w == best, broadcast(zero, 1), place))
    return select(best > zero, place, none) if relu else place


@inner(fastmath=FASTMATH_ORDERED)
def gradient_rows(gradient, OH, OW, F, n, first, z, pitch, line, row_sums, db):
    """Rows first ... first + 3 of dz of image n to z (4 rows). Rows below OH are zero.

    ``db`` (pitch) float64 gains their sum, by way of ``row_sums``: in float32 the last of many pixels would count for
    little, and what is left when they cancel for nothing.
    """
    for i in range(max(0, OH - first), 4):
        clear(z, i * line, OW * pitch)
    step = 2 if gradient.pool else 1
    for i in range(0, min(4, OH - first), step):
        gradient_row(gradient, OH, OW, F, n, first + i, z, i * line, pitch, line, row_sums)
        fold(row_sums, ZERO, pitch, db)


@inner
def gradient_row(gradient, OH, OW, F, n, i, z, start, pitch, line, db):
    """Row i of dz of image n to z, or rows i and i + 1, ``line`` numbers apart, if it was pooled."""
    if not gradient.pool:
        gradient_pixels(gradient, (n * OH + i) * OW, OW, F, z, start, pitch, db)
        return
    for c in range(0, F, LANES):
        if F - c >= LANES:
            _windows(gradient, OH, OW, F, n, i, c, z, start, pitch, line, db, None, None)
        else:
            _windows(gradient, OH, OW, F, n, i, c, z, start, pitch, line, db, F - c, pitch - c)


@inner(inline="always")
def gradient_pixels(gradient, first, pixels, F, z, start, pitch, db):
    """dz of so many pixels, counted through all images from the ``first`` on, to z."""
    for c in range(0, F, LANES):
        if F - c >= LANES:
            _pixels(gradient, first, pixels, F, c, z, start, pitch, db, None, None)
        else:
            _pixels(gradient, first, pixels, F, c, z, start, pitch, db, F - c, pitch - c)


@inner(fastmath=FASTMATH_ORDERED)
def _pixels(gradient, first, pixels, F, c, z, start, pitch, db, count, room):
    """Channels c ... c + 15 of them, or as many as ``count``."""
    factor, near, slope, offset = (load(gradient.factor, c), load(gradient.near, c), load(gradient.slope, c),
                                   load(gradient.offset, c))
    s = load(db, c)
    zero = broadcast(s, 0)
    for j in range(pixels):
        p = (first + j) * F + c
        d = load_first(gradient.dout, p, count)
        if gradient.norm or gradient.relu:
            v = load_first(gradient.out, p, count)
            if gradient.norm:
                d = fma(d, factor, fma(v - near, slope, offset))
            if gradient.relu:
                d = select(v > zero, d, zero)
        store_first(z, start + j * pitch + c, d, room)
        s = s + d
    store(db, c, s)


@inner(fastmath=FASTMATH_ORDERED)
def _windows(gradient, OH, OW, F, n, i, c, z, start, pitch, line, db, count, room):
    """The same of two rows. A window's gradient goes to the first of its pixels that equals its winner.

    Which one that is may be known from ``write_rows``.
    """
    PH, PW = OH // 2, OW // 2
    factor, near, slope, offset = (load(gradient.factor, c), load(gradient.near, c), load(gradient.slope, c),
                                   load(gradient.offset, c))
    s = load(db, c)
    zero = broadcast(s, 0)
    for j in range(0, OW, 2):
        whole = i // 2 < PH and j // 2 < PW
        d, m = zero, zero
        if whole:
            p = ((n * PH + i // 2) * PW + j // 2) * F + c
            d, m = load_first(gradient.dout, p, count), load_first(gradient.winners, p, count)
            if gradient.norm:
                d = d * factor
        for k in range(4):
            r, q = i + k // 2, j + k % 2
            if r < OH and q < OW:
                e = zero
                if gradient.pool == 2:
                    e = select(m == broadcast(zero, k), d, zero)
                else:
                    v = load_first(gradient.out, ((n * OH + r) * OW + q) * F + c, count)
                    if whole:
                        e = select(v == m, d, zero)
                        d = select(v == m, zero, d)
                    if gradient.norm:
                        e = e + fma(v - near, slope, offset)
                    if gradient.relu:
                        e = select(v > zero, e, zero)
                store_first(z, start + (r - i) * line + q * pitch + c, e, room)
                s = s + e
    store(db, c, s)


@inner(fastmath=FASTMATH_ORDERED)
def write_input_gradient(finished, start, line, pitch, H, W, C, n, first, last, source, mask, dx, sums, room):
    """Rows first ... last - 1 of image n of dx, from ``finished[start ...]``, whose pixels are ``pitch`` apart.

    What was dropped has no gradient. ``sums`` (2, room): if the input was normalized, gains the sums of dx and of
    ``dx * (x - near)``.
    """
    for i in range(first, last):
        if source.drop:
            draw_row(source, n, i * W * C, W * C, mask)
        for c in range(0, C, LANES):
            p, f = ((n * H + i) * W * C) + c, start + (i - first) * line + c
            if C - c >= LANES:
                _write_gradient_channels(finished, f, pitch, W, C, c, source, mask, dx, p, sums, room, None)
            else:
                _write_gradient_channels(finished, f, pitch, W, C, c, source, mask, dx, p, sums, room, C - c)


@inner(fastmath=FASTMATH_ORDERED)
def _write_gradient_channels(finished, f, pitch, W, C, c, source, mask, dx, p, sums, room, count):
    near, s, q = load(source.near, c), load(sums, c), load(sums, room + c)
    for j in range(W):
        d = load_first(finished, f + j * pitch, count)
        if source.drop:
            d = d * load_first(mask, j * C + c, count)
        store_first(dx, p + j * C, d, count)
        if source.norm:
            s, q = s + d, fma(d, load_first(source.x, p + j * C, count) - near, q)
    store(sums, c, s)
    store(sums, room + c, q)


@inner(inline="always")
def begin_sums(result, start, F, bias, relu, sums):
    """sums[f] = the first pixel, from result[start ...], as it will be written: near enough to the mean."""
    for f in range(F):
        first = result[start + f] + bias[f]
        sums[f] = first if first > 0 or not relu else result.dtype.type(0)


@inner
def fold(sums, start, count, totals):
    """Add sums[start : start + count] to totals (count,) float64, and begin anew."""
    for k in range(count):
        totals[k] += np.float64(sums[start + k])
        sums[start + k] = 0


@inner
def clear(array, start, count):
    """array[start : start + count] = 0; NumPy's slices would take seconds to compile."""
    zero = broadcast(array, 0)
    whole = start + count // LANES * LANES
    for k in range(start, whole, LANES):
        store(array, k, zero)
    for k in range(whole, start + count):
        array[k] = 0


@inner
def copy(source, s, target, t, count):
    """target[t : t + count] = source[s : s + count]; they may be parts of one array, if the target is the lower one."""
    whole = count // LANES * LANES
    for k in range(0, whole, LANES):
        store(target, t + k, load(source, s + k))
    for k in range(whole, count):
        target[t + k] = source[s + k]

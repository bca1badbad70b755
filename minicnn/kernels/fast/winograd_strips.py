"""The ends of Winograd's convolution: a strip of the input on its way in, a strip of its gradient on its way out.

A strip is a row of tiles, alpha rows of pixels, of which the last alpha - 4 are the first of the strip below. What
stands beside a convolution is done by ``rows.py`` a row at a time, into a room between the image and the transformed
columns. Most strips need little of it, and no room: those wholly inside the image, without pooling and dropout. They
are taken pixel by pixel from memory through everything to where they go.
"""

from __future__ import annotations

from minicnn.kernels.fast.compile import FASTMATH_ORDERED, ONE, ZERO, inner
from minicnn.kernels.fast.rows import clear, copy, fold, read_row, write_input_gradient
from minicnn.kernels.fast.simd import LANES, fma, load, load_first, store, store_first
from minicnn.kernels.fast.winograd_transforms import (
    OUTPUTS,
    add_input_gradient,
    input_6,
    input_6_transposed,
    input_8,
    input_8_transposed,
    transform_input,
)


@inner(inline="always")
def read_strips(p, source, s0, count, first_of_all, image, line, mask, columns):
    """Read strips s0 ... s0 + count - 1 of all images, and transform them along the columns.

    ``first_of_all`` is the first strip that this thread reads of those that follow each other.
    """
    twice = not (source.pool or source.drop)  # may a row that two strips have be read for each of them?
    for g in range(count):
        n, strip, at = (s0 + g) // p.strips, (s0 + g) % p.strips, g * p.alpha * line
        first = OUTPUTS * strip - p.top  # row of the image
        if twice and first >= 0 and first + p.alpha <= p.H:
            _read_inside(p, source, n, first, columns, at, line)
        else:
            _read_rows(p, source, n, strip, twice or s0 + g == first_of_all, image, line, mask)
            transform_input(p.alpha, image, OUTPUTS * strip * line, line, ZERO, columns, at, line, ZERO, ONE,
                            line - LANES)


@inner(inline="always")
def _read_rows(p, source, n, strip, all_of_it, image, line, mask):
    """Put those rows of the input, with zeros around it, into ``image`` that the strips above have not put there."""
    end = OUTPUTS * strip + p.alpha - p.top
    first = max(0, end - (p.alpha if strip == 0 or all_of_it else OUTPUTS))
    for i in range(first, min(p.H, end)):
        read_row(source, p.H, p.W, p.C, n, i, mask, image, (i + p.top) * line + p.left * p.CP, p.CP)


@inner(inline="always")
def _read_inside(p, source, n, first, columns, start, line):
    """Rows first ... first + alpha - 1 of the input, transformed, to ``columns[start ...]``; beside them are zeros."""
    beside = (p.left + p.W) * p.CP
    for k in range(p.alpha):
        clear(columns, start + k * line, p.left * p.CP)
        clear(columns, start + k * line + beside, line - LANES - beside)
    for c in range(0, p.C, LANES):
        if p.C - c >= LANES:
            _read_columns(p, source, n, first, c, columns, start, line, None)
        else:
            _read_columns(p, source, n, first, c, columns, start, line, p.C - c)


@inner(fastmath=FASTMATH_ORDERED)
def _read_columns(p, source, n, first, c, columns, start, line, count):
    """Channels c ... c + 15 of them, or as many as ``count``; see ``load_first``."""
    near, scale, shift = load(source.near, c), load(source.scale, c), load(source.shift, c)
    row, begin, target = p.W * p.C, (n * p.H + first) * p.W * p.C + c, start + p.left * p.CP + c
    for j in range(p.W):
        a, b = begin + j * p.C, target + j * p.CP
        d0, d1 = load_first(source.x, a, count), load_first(source.x, a + row, count)
        d2, d3 = load_first(source.x, a + 2 * row, count), load_first(source.x, a + 3 * row, count)
        d4, d5 = load_first(source.x, a + 4 * row, count), load_first(source.x, a + 5 * row, count)
        if source.norm:
            d0, d1, d2 = fma(d0 - near, scale, shift), fma(d1 - near, scale, shift), fma(d2 - near, scale, shift)
            d3, d4, d5 = fma(d3 - near, scale, shift), fma(d4 - near, scale, shift), fma(d5 - near, scale, shift)
        if p.alpha == 8:
            d6, d7 = load_first(source.x, a + 6 * row, count), load_first(source.x, a + 7 * row, count)
            if source.norm:
                d6, d7 = fma(d6 - near, scale, shift), fma(d7 - near, scale, shift)
            d0, d1, d2, d3, d4, d5, d6, d7 = input_8(d0, d1, d2, d3, d4, d5, d6, d7)
            store(columns, b + 6 * line, d6)
            store(columns, b + 7 * line, d7)
        else:
            d0, d1, d2, d3, d4, d5 = input_6(d0, d1, d2, d3, d4, d5)
        store(columns, b, d0)
        store(columns, b + line, d1)
        store(columns, b + 2 * line, d2)
        store(columns, b + 3 * line, d3)
        store(columns, b + 4 * line, d4)
        store(columns, b + 5 * line, d5)


@inner
def finish_strip(p, columns, start, s, finished, line, source, mask, dx, sums, totals):
    """Transform strip s of all images back along the columns, and write the rows to which no later strip adds.

    The first alpha - 4 rows of ``finished`` have what the strip above adds to this one, and then what this one adds to
    the strip below.
    """
    n, strip = s // p.strips, s % p.strips
    first, carry = OUTPUTS * strip - p.top, (p.alpha - OUTPUTS) * line
    if strip == 0:
        clear(finished, ZERO, carry)
    if first >= 0 and first + OUTPUTS <= p.H and strip < p.strips - 1 and not source.drop:
        for c in range(0, p.C, LANES):
            if p.C - c >= LANES:
                _finish_columns(p, columns, start, line, finished, n, first, c, source, dx, sums, None)
            else:
                _finish_columns(p, columns, start, line, finished, n, first, c, source, dx, sums, p.C - c)
    else:
        add_input_gradient(p.alpha, columns, start, line, ZERO, finished, ZERO, line, ZERO, ONE, line - LANES)
        last, begin = first + (p.alpha if strip == p.strips - 1 else OUTPUTS), max(0, first)
        write_input_gradient(finished, (begin - first) * line + p.left * p.CP, line, p.CP, p.H, p.W, p.C, n, begin,
                             min(p.H, last), source, mask, dx, sums, p.CP)
        copy(finished, OUTPUTS * line, finished, ZERO, carry)
    fold(sums, ZERO, 2 * p.CP, totals)


@inner(fastmath=FASTMATH_ORDERED)
def _finish_columns(p, columns, start, line, finished, n, first, c, source, dx, sums, count):
    """Channels c ... c + 15 of rows first ... first + 3, or as many as ``count``."""
    near, s, q = load(source.near, c), load(sums, c), load(sums, p.CP + c)
    row, begin, place = p.W * p.C, (n * p.H + first) * p.W * p.C + c, p.left * p.CP + c
    for j in range(p.W):
        at, k = begin + j * p.C, place + j * p.CP
        a = start + k
        if p.alpha == 8:
            d0, d1, d2, d3, d4, d5, d6, d7 = input_8_transposed(
                load(columns, a), load(columns, a + line), load(columns, a + 2 * line), load(columns, a + 3 * line),
                load(columns, a + 4 * line), load(columns, a + 5 * line), load(columns, a + 6 * line),
                load(columns, a + 7 * line))
            d2, d3 = d2 + load(finished, k + 2 * line), d3 + load(finished, k + 3 * line)
            store(finished, k + 2 * line, d6)
            store(finished, k + 3 * line, d7)
        else:
            d0, d1, d2, d3, d4, d5 = input_6_transposed(
                load(columns, a), load(columns, a + line), load(columns, a + 2 * line), load(columns, a + 3 * line),
                load(columns, a + 4 * line), load(columns, a + 5 * line))
        d0, d1 = d0 + load(finished, k), d1 + load(finished, k + line)
        store(finished, k, d4)
        store(finished, k + line, d5)
        store_first(dx, at, d0, count)
        store_first(dx, at + row, d1, count)
        store_first(dx, at + 2 * row, d2, count)
        store_first(dx, at + 3 * row, d3, count)
        if source.norm:
            s = s + ((d0 + d1) + (d2 + d3))
            q = q + (fma(d0, load_first(source.x, at, count) - near,
                         d1 * (load_first(source.x, at + row, count) - near))
                     + fma(d2, load_first(source.x, at + 2 * row, count) - near,
                           d3 * (load_first(source.x, at + 3 * row, count) - near)))
    store(sums, c, s)
    store(sums, p.CP + c, q)

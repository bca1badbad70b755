"""The ends of Winograd's convolution: a strip of the input in, a strip of the result or of the input's gradient out.

A strip is a row of tiles: 4 rows of the result, alpha rows of the input, of which the last alpha - 4 are the first of
the strip below. What stands beside a convolution is done by ``rows.py`` a row at a time, in a room between memory and
the transformed columns. Most strips need no room: those wholly inside the image, their input neither pooled nor
dropped. Pixel by pixel, they are taken from memory through everything to where they go.
"""

from __future__ import annotations

from minicnn.kernels.fast.compile import FASTMATH_ORDERED, ONE, ZERO, inner
from minicnn.kernels.fast.rows import (
    begin_sums,
    clear,
    copy,
    fold,
    read_row,
    write_input_gradient,
    write_rows,
    write_window,
)
from minicnn.kernels.fast.simd import LANES, broadcast, fma, load, load_first, maximum, store, store_first
from minicnn.kernels.fast.winograd_transforms import (
    OUTPUTS,
    add_input_gradient,
    input_6,
    input_6_transposed,
    input_8,
    input_8_transposed,
    load_rows,
    output_6,
    output_8,
    transform_input,
    transform_output,
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
def write_strip(p, columns, start, line, result, target, s, begins, sums, totals):
    """Transform strip s of all images, ``columns[start ...]``, along the columns, and write it to the target.

    ``begins``: whether it is the first of those whose sums ``sums`` gathers, if the target measures.
    """
    n, i = s // p.strips, s % p.strips * OUTPUTS
    if i + OUTPUTS <= p.OH:
        for c in range(0, p.F, LANES):
            if target.pool:
                _write_windows(p, columns, start, line, target, n, i, c, p.F - c)
            elif p.F - c >= LANES:
                _write_columns(p, columns, start, line, target, n, i, c, begins, sums, None)
            else:
                _write_columns(p, columns, start, line, target, n, i, c, begins, sums, p.F - c)
    else:
        transform_output(p.alpha, columns, start, line, ZERO, result, ZERO, line, ZERO, ONE, line - LANES)
        if target.measure and begins:
            begin_sums(result, ZERO, p.F, target.bias, target.relu, sums)
        write_rows(target, result, p.OH - i, p.FP, line, p.OH, p.OW, p.F, n, i, sums)
    if target.measure:
        fold(sums, p.FP, 2 * p.FP, totals)


@inner(fastmath=FASTMATH_ORDERED)
def _write_columns(p, columns, start, line, target, n, i, c, begins, sums, count):
    """Channels c ... c + 15 of rows i ... i + 3, or as many as ``count``; see ``rows.write_rows``."""
    b, row, begin = load(target.bias, c), p.OW * p.F, (n * p.OH + i) * p.OW * p.F + c
    zero = broadcast(b, 0)
    near, s, q = zero, zero, zero
    if target.measure and not begins:
        near, s, q = load(sums, c), load(sums, p.FP + c), load(sums, 2 * p.FP + c)
    for j in range(p.OW):
        a, at = start + j * p.FP + c, begin + j * p.F
        if p.alpha == 8:
            y0, y1, y2, y3 = output_8(*load_rows(8, columns, a, line))
        else:
            y0, y1, y2, y3 = output_6(*load_rows(6, columns, a, line))
        y0, y1, y2, y3 = y0 + b, y1 + b, y2 + b, y3 + b
        if target.relu:
            y0, y1, y2, y3 = maximum(y0, zero), maximum(y1, zero), maximum(y2, zero), maximum(y3, zero)
        store_first(target.out, at, y0, count)
        store_first(target.out, at + row, y1, count)
        store_first(target.out, at + 2 * row, y2, count)
        store_first(target.out, at + 3 * row, y3, count)
        if target.measure:
            if begins and j == 0:
                near = y0  # near enough to the mean
            d0, d1, d2, d3 = y0 - near, y1 - near, y2 - near, y3 - near
            s = s + ((d0 + d1) + (d2 + d3))
            q = q + (fma(d0, d0, d1 * d1) + fma(d2, d2, d3 * d3))
    if target.measure:
        store(sums, c, near)
        store(sums, p.FP + c, s)
        store(sums, 2 * p.FP + c, q)


@inner(fastmath=FASTMATH_ORDERED)
def _write_windows(p, columns, start, line, target, n, i, c, count):
    """The same of 2x2 windows; an odd last column is in none."""
    b, scale, PW = load(target.bias, c), load(target.scale, c), p.OW // 2
    zero, begin = broadcast(b, 0), (n * (p.OH // 2) + i // 2) * PW * p.F + c
    for j in range(PW):
        a, at = start + 2 * j * p.FP + c, begin + j * p.F
        e = a + p.FP
        if p.alpha == 8:
            y0, y1, y2, y3 = output_8(*load_rows(8, columns, a, line))
            z0, z1, z2, z3 = output_8(*load_rows(8, columns, e, line))
        else:
            y0, y1, y2, y3 = output_6(*load_rows(6, columns, a, line))
            z0, z1, z2, z3 = output_6(*load_rows(6, columns, e, line))
        write_window(target, at, y0 + b, z0 + b, y1 + b, z1 + b, scale, zero, count)
        write_window(target, at + PW * p.F, y2 + b, z2 + b, y3 + b, z3 + b, scale, zero, count)


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
            d0, d1, d2, d3, d4, d5, d6, d7 = input_8_transposed(*load_rows(8, columns, a, line))
            d2, d3 = d2 + load(finished, k + 2 * line), d3 + load(finished, k + 3 * line)
            store(finished, k + 2 * line, d6)
            store(finished, k + 3 * line, d7)
        else:
            d0, d1, d2, d3, d4, d5 = input_6_transposed(*load_rows(6, columns, a, line))
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

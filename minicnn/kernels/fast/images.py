"""Sources and gradients as whole arrays: what ``rows.py`` does a row at a time, for layers that are no convolution."""

from __future__ import annotations

from minicnn.kernels.fast.borrowed import borrowed
from minicnn.kernels.fast.compile import FASTMATH_ORDERED, ZERO, jit
from minicnn.kernels.fast.counter import take
from minicnn.kernels.fast.crew import dismiss, invite
from minicnn.kernels.fast.rows import fold, gradient_pixels, read_row, write_input_gradient

FOLDED = 64  # vectors whose sum is kept in their own dtype, before it is added to float64


@jit
def read_images(seat, crew, counter, bounds, source, H, W, C, out, masks):
    """The images of each chunk of the input as a whole: out (N, H, W, C), flat; chunks as in winograd.forward."""
    invite(seat, crew)
    source, mask, out = borrowed((source, masks[seat], out))
    chunk = take(counter, seat)
    while chunk < bounds.size - 1:
        for n in range(bounds[chunk], bounds[chunk + 1]):
            for i in range(H):
                read_row(source, H, W, C, n, i, mask, out, (n * H + i) * W * C, C)
        chunk = take(counter, seat)
    dismiss(seat, crew)


@jit
def input_gradient_images(seat, crew, counter, bounds, dout, H, W, C, source, masks, dx, all_sums, room, all_totals):
    """The way back through ``read_images``: dx from dout, both (N, H, W, C), flat; sums as ``write_input_gradient``."""
    invite(seat, crew)
    dout, source, mask, dx, all_sums, all_totals = borrowed((dout, source, masks[seat], dx, all_sums, all_totals))
    chunk = take(counter, seat)
    while chunk < bounds.size - 1:
        sums, totals = all_sums[chunk], all_totals[chunk]
        for n in range(bounds[chunk], bounds[chunk + 1]):
            write_input_gradient(dout, n * H * W * C, W * C, C, H, W, C, n, ZERO, H, source, mask, dx, sums, room)
            fold(sums, ZERO, 2 * room, totals)
        chunk = take(counter, seat)
    dismiss(seat, crew)


@jit
def gradient_vectors(seat, crew, counter, bounds, gradient, K, z, all_db, all_sums):
    """dz (N, K) of the vectors of each chunk, flat; its db (K) gains their sum."""
    invite(seat, crew)
    gradient, z, all_db, all_sums = borrowed((gradient, z, all_db, all_sums))
    chunk = take(counter, seat)
    while chunk < bounds.size - 1:
        db, sums = all_db[chunk], all_sums[chunk]
        for start in range(bounds[chunk], bounds[chunk + 1], FOLDED):
            gradient_pixels(gradient, start, min(FOLDED, bounds[chunk + 1] - start), K, z, start * K, K, sums)
            fold(sums, ZERO, db.size, db)
        chunk = take(counter, seat)
    dismiss(seat, crew)


@jit(fastmath=FASTMATH_ORDERED)
def measure_vectors(seat, crew, counter, bounds, z, K, all_sums, room, all_totals):
    """Sums over z (N, K), flat, that batch norm needs; chunks and sums as in winograd.forward."""
    invite(seat, crew)
    chunk = take(counter, seat)
    while chunk < bounds.size - 1:
        sums, start = all_sums[chunk], bounds[chunk]
        for k in range(K):
            sums[k] = z[start * K + k]
        for n in range(start, bounds[chunk + 1]):
            for k in range(K):
                d = z[n * K + k] - sums[k]
                sums[room + k] += d
                sums[2 * room + k] += d * d
            if (n - start) % FOLDED == FOLDED - 1 or n == bounds[chunk + 1] - 1:
                fold(sums, room, 2 * room, all_totals[chunk])
        chunk = take(counter, seat)
    dismiss(seat, crew)

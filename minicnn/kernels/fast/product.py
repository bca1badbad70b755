"""The micro-kernel: a small matrix product whose result stays in registers until it is done.

A product of ``C (M, N) = A (M, K) @ B (K, N)`` reads each number of A and B many times. ``multiply_tiles`` keeps a tile
of C, up to 8 rows of 32 columns, in vector registers, and for each k reads one number of each of its rows of A and one
row of B of 32: 10 loads for 256 multiplications. ``product`` covers a matrix with such tiles. A single row of C, for
which B is read once and no more, is covered with tiles of 128 columns.

There may be several planes of A and of B. If C has planes too, each is a product of its own, as for the positions of
Winograd's tiles: see ``winograd.py``. If not, there is one sum over all: ``sum_p sum_k A_p[m, k] B_p[k, n]``. That is a
convolution, with the kernel's rows as planes, read from the image itself instead of a column matrix: see ``direct.py``.

Unlike BLAS it copies nothing into an order of its own, and its operands may be parts of larger arrays; so it suits
products too small for BLAS to be worth its preparations, such as those of ``winograd.py``.

References
----------
Goto, van de Geijn: Anatomy of high-performance matrix multiplication, ACM TOMS 34(3), 2008, section 4.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from minicnn.kernels.fast.compile import ONE, inner, jit
from minicnn.kernels.fast.shared import shared
from minicnn.kernels.fast.vector_type import LANES, is_flat, lowered, refuse_outside, splat, vector_of

ROWS = 8  # of the largest tile
COLUMNS = 2 * LANES
WIDE = 8 * LANES  # columns of a tile of one row


def _type_tile(rows: Any, vectors: Any, *rest: Any) -> Any:
    """rows and vectors are constants of the source: each pair is a piece of machine code of its own."""
    literal = isinstance(rows, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral)
    arrays, numbers = (rest[0], rest[5], rest[9]), (*rest[1:5], *rest[6:9], *rest[10:])
    fits = all(map(is_flat, arrays)) and len({array.dtype for array in arrays}) == 1
    whole = all(isinstance(number, (types.Integer, types.Boolean)) for number in numbers)
    return types.void if literal and fits and whole else None


class _Tile:
    """Writes the instructions for a tile; arguments of ``multiply_tiles`` are known by their place."""

    def __init__(self, context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> None:
        self.context, self.builder, self.sig, self.values = context, builder, sig, values
        self.rows, self.vectors = sig.args[0].literal_value, sig.args[1].literal_value
        self.bits = sig.args[2].dtype.bitwidth
        self.kind = vector_of(sig.args[2].dtype)
        self.cells = list(itertools.product(range(self.rows), range(self.vectors)))

    def number(self, at: int) -> ir.Value:
        return self.context.cast(self.builder, self.values[at], self.sig.args[at], types.intp)

    def pointer(self, at: int) -> ir.Value:
        """Address of the array's element whose index is the next argument."""
        return self.builder.gep(self.array(at).data, [self.number(at + 1)])

    def array(self, at: int) -> Any:
        return self.context.make_array(self.sig.args[at])(self.context, self.builder, self.values[at])

    def refuse_outside(self, at: int, width: int, *extents: tuple[ir.Value, ir.Value]) -> None:
        """Raise IndexError if the array's first or last element in use, ``width`` numbers wide, is outside it.

        ``extents`` are (count, step); where a count is 0 nothing is used.
        """
        build, one = self.builder, self.constant(1)
        first = self.number(at + 1)
        last = build.add(build.add(first, self.constant(width - 1)),
                         self.offset(*((build.sub(count, one), step) for count, step in extents)))
        used = functools.reduce(build.and_, (build.icmp_signed(">", count, self.constant(0)) for count, _ in extents))
        with build.if_then(used):
            refuse_outside(self.context, build, self.array(at), first, last)

    def offset(self, *products: tuple[ir.Value, ir.Value | int]) -> ir.Value:
        """Sum of products."""
        total = ir.Constant(ir.IntType(64), 0)
        for a, b in products:
            total = self.builder.add(total, self.builder.mul(a, self.constant(b) if isinstance(b, int) else b))
        return total

    @staticmethod
    def constant(value: int) -> ir.Constant:
        return ir.Constant(ir.IntType(64), value)

    def load(self, start: ir.Value, index: int) -> ir.Value:
        """Vector that begins at ``start`` plus a constant."""
        address = self.builder.gep(start, [self.constant(index)])
        value = self.builder.load(self.builder.bitcast(address, self.kind.as_pointer()))
        value.align = self.bits // 8
        return value

    def store(self, vector: ir.Value, start: ir.Value, index: int) -> None:
        address = self.builder.gep(start, [self.constant(index)])
        self.builder.store(vector, self.builder.bitcast(address, self.kind.as_pointer())).align = self.bits // 8

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(self.kind, [self.kind] * 3), f"llvm.fmuladd.v{LANES}f{self.bits}")
        return self.builder.call(function, [a, b, c])


def _emit_tile(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    tile = _Tile(context, builder, sig, values)
    a, a_row, a_step, a_plane = tile.pointer(2), tile.number(4), tile.number(5), tile.number(6)
    b, b_row, b_plane = tile.pointer(7), tile.number(9), tile.number(10)
    c, c_row, c_plane = tile.pointer(11), tile.number(13), tile.number(14)
    depth, planes = tile.number(15), tile.number(16)
    add = context.cast(builder, values[17], sig.args[17], types.boolean)
    one, apart = tile.constant(1), builder.icmp_signed("!=", c_plane, tile.constant(0))
    results, summed = builder.select(apart, planes, one), builder.select(apart, one, planes)
    if context.enable_boundscheck:
        rows = builder.mul(tile.number(18), tile.constant(tile.rows))
        tile.refuse_outside(2, 1, (rows, a_row), (depth, a_step), (planes, a_plane))
        tile.refuse_outside(7, LANES * tile.vectors, (rows, tile.constant(0)), (depth, b_row), (planes, b_plane))
        tile.refuse_outside(11, LANES * tile.vectors, (rows, c_row), (results, c_plane))
    zero = ir.Constant(tile.kind, None)
    sums = {cell: cgutils.alloca_once_value(builder, zero) for cell in tile.cells}  # LLVM makes registers of them
    a_rows, c_rows = ([builder.mul(row, tile.constant(r)) for r in range(tile.rows)] for row in (a_row, c_row))
    a_tile, c_tile = (builder.mul(row, tile.constant(tile.rows)) for row in (a_row, c_row))
    with (cgutils.for_range(builder, results) as result, cgutils.for_range(builder, tile.number(19)) as beside,
          cgutils.for_range(builder, tile.number(18)) as below):
        column = builder.mul(beside.index, tile.constant(LANES * tile.vectors))
        a_here = builder.gep(a, [tile.offset((result.index, a_plane), (below.index, a_tile))])
        b_here = builder.gep(b, [tile.offset((result.index, b_plane), (column, 1))])
        c_here = builder.gep(c, [tile.offset((result.index, c_plane), (below.index, c_tile), (column, 1))])
        rows_of_c = [builder.gep(c_here, [row]) for row in c_rows]
        for cell in tile.cells:
            builder.store(zero, sums[cell])
        with builder.if_then(add):
            for r, v in tile.cells:
                builder.store(tile.load(rows_of_c[r], LANES * v), sums[r, v])
        with cgutils.for_range(builder, summed) as plane, cgutils.for_range(builder, depth) as k:
            row_of_b = builder.gep(b_here, [tile.offset((plane.index, b_plane), (k.index, b_row))])
            column = builder.gep(a_here, [tile.offset((plane.index, a_plane), (k.index, a_step))])
            factors = [tile.load(row_of_b, LANES * v) for v in range(tile.vectors)]
            for r in range(tile.rows):
                factor = splat(builder, builder.load(builder.gep(column, [a_rows[r]])))
                for v in range(tile.vectors):
                    builder.store(tile.multiply_add(factor, factors[v], builder.load(sums[r, v])), sums[r, v])
        for r, v in tile.cells:
            tile.store(builder.load(sums[r, v]), rows_of_c[r], LANES * v)
    return context.get_dummy_value()


@lowered(_type_tile, _emit_tile)
def multiply_tiles(rows, vectors, a, a_start, a_row, a_step, a_plane, b, b_start, b_row, b_plane, c, c_start, c_row,
                   c_plane, depth, planes, add, below, beside):
    """Compute tiles of C, (rows, 16 * vectors), ``below`` and ``beside`` each other, or add the product to them.

    ``A_p[r, k] = a[a_start + r * a_row + k * a_step + p * a_plane]``, ``B_p[k, n] = b[b_start + k * b_row + p * b_plane
    + n]`` and ``C_p[r, n] = c[c_start + r * c_row + p * c_plane + n]``, for k below ``depth`` and p below ``planes``.
    """
    for p, beside_, r in itertools.product(range(planes), range(beside), range(rows * below)):
        n = beside_ * LANES * vectors
        target = c[c_start + r * c_row + p * c_plane + n:][:LANES * vectors]
        if not add and (p == 0 or c_plane):
            target[:] = 0
        for k in range(depth):
            target += (a[a_start + r * a_row + k * a_step + p * a_plane]
                       * b[b_start + k * b_row + p * b_plane + n:][:LANES * vectors])


def _arguments(dtype: Any) -> tuple[Any, ...]:
    """The types of product's arguments."""
    array, number = types.Array(dtype, 1, "C"), types.int64
    return (array, *[number] * 4, array, *[number] * 3, array, *[number] * 8)


@shared(_arguments)
@jit
def product(a, a_start, a_row, a_step, a_plane, b, b_start, b_row, b_plane, c, c_start, c_row, c_plane, M, N, K, planes,
            add):
    """C_p (M, N) = A_p (M, K) @ B_p (K, N) for each plane p, or C_p += if ``add``; N a multiple of 16.

    Where ``c_plane``, the numbers from one plane of C to the next, is 0, C is the sum over the planes.
    """
    tiles = max(1, -(-M // ROWS))
    few, longer = M // tiles, M % tiles  # as even as can be: 14 rows are two tiles of 7, not of 8 and 6
    done = longer * (few + 1)
    pairs = N // COLUMNS
    if longer:
        _tiles(few + 1, longer, pairs, a, a_start, a_row, a_step, a_plane, b, b_start, b_row, b_plane,
               c, c_start, c_row, c_plane, K, planes, add)
    _tiles(few, tiles - longer, pairs, a, a_start + done * a_row, a_row, a_step, a_plane, b, b_start, b_row, b_plane,
           c, c_start + done * c_row, c_row, c_plane, K, planes, add)
    if N % COLUMNS:  # half as many sums are in registers, so no fewer than eight rows will do
        n = pairs * COLUMNS
        eights, fours, ones = M // 8, M % 8 // 4, M % 4
        multiply_tiles(8, 1, a, a_start, a_row, a_step, a_plane, b, b_start + n, b_row, b_plane,
                       c, c_start + n, c_row, c_plane, K, planes, add, eights, ONE)
        m = 8 * eights
        multiply_tiles(4, 1, a, a_start + m * a_row, a_row, a_step, a_plane, b, b_start + n, b_row, b_plane,
                       c, c_start + n + m * c_row, c_row, c_plane, K, planes, add, fours, ONE)
        m += 4 * fours
        multiply_tiles(1, 1, a, a_start + m * a_row, a_row, a_step, a_plane, b, b_start + n, b_row, b_plane,
                       c, c_start + n + m * c_row, c_row, c_plane, K, planes, add, ones, ONE)


@inner
def _tiles(rows, tiles, pairs, a, a0, a_row, a_step, a_plane, b, b0, b_row, b_plane, c, c0, c_row, c_plane, K,
           planes, add):
    """Choose the machine code for tiles of ``rows`` rows; those too rare to have their own are done row by row."""
    if rows == tiles == 1 and pairs >= WIDE // COLUMNS:  # a vector: several cache lines of each row of B at a time
        wide = pairs // (WIDE // COLUMNS)
        multiply_tiles(1, 8, a, a0, a_row, a_step, a_plane, b, b0, b_row, b_plane, c, c0, c_row, c_plane, K,
                       planes, add, ONE, wide)
        b0, c0, pairs = b0 + wide * WIDE, c0 + wide * WIDE, pairs % (WIDE // COLUMNS)
    if pairs:
        if rows == 8:
            multiply_tiles(8, 2, a, a0, a_row, a_step, a_plane, b, b0, b_row, b_plane, c, c0, c_row, c_plane, K,
                           planes, add, tiles, pairs)
        elif rows == 7:
            multiply_tiles(7, 2, a, a0, a_row, a_step, a_plane, b, b0, b_row, b_plane, c, c0, c_row, c_plane, K,
                           planes, add, tiles, pairs)
        elif rows == 6:
            multiply_tiles(6, 2, a, a0, a_row, a_step, a_plane, b, b0, b_row, b_plane, c, c0, c_row, c_plane, K,
                           planes, add, tiles, pairs)
        elif rows == 5:
            multiply_tiles(5, 2, a, a0, a_row, a_step, a_plane, b, b0, b_row, b_plane, c, c0, c_row, c_plane, K,
                           planes, add, tiles, pairs)
        elif rows == 4:
            multiply_tiles(4, 2, a, a0, a_row, a_step, a_plane, b, b0, b_row, b_plane, c, c0, c_row, c_plane, K,
                           planes, add, tiles, pairs)
        else:
            multiply_tiles(1, 2, a, a0, a_row, a_step, a_plane, b, b0, b_row, b_plane, c, c0, c_row, c_plane, K,
                           planes, add, rows * tiles, pairs)


"""Sixteen numbers at once: a vector type for compiled kernels.

A processor adds sixteen numbers as fast as one, if the compiler can see that they lie side by side and depend on
nothing else. A loop over an array often hides that; these vectors say it. In compiled code a vector is a value like a
float: it stands in a register, is added and multiplied, and goes back to memory::

    @jit
    def scale_and_shift(x, scale, shift, out):              # all (M,), M a multiple of 16
        s, t = simd.broadcast(x, scale), simd.broadcast(x, shift)
        for i in range(0, x.size, simd.LANES):
            simd.store(out, i, simd.load(x, i) * s + t)

Arrays are one-dimensional and C-contiguous, of float32 or float64; a vector has the array's dtype. The numbers of a
vector are called its lanes. ``+ - * /`` work between two vectors and between a vector and a number, a literal or one of
the vector's dtype; ``> ==`` give a mask for ``select``. What does not fit (vectors of two dtypes, an array of two
dimensions) is refused when the kernel is compiled. An array whose size is no multiple of 16 ends with ``load_first``
and ``store_first``.

Each function below is its own definition: a plain Python function on NumPy arrays of sixteen. This is what runs under
``NUMBA_DISABLE_JIT=1``, so that a kernel can be stepped through in a debugger. Compiled code does not call it:
``lowered`` (see ``vector_type.py``) tells Numba the instruction that stands for it. LLVM knows these instructions for
every processor and cuts a vector into as many registers as it needs: of float32 one with AVX-512, two with AVX2, four
with SSE or NEON, of float64 twice as many. Both ways give the same bits, except where the compiler may round
``a * b + c`` once instead of twice (``fma``; with fastmath's "contract", ``*`` and ``+`` too). With "arcp" and
"reassoc" it makes an estimate of ``x / sqrt(y)`` and refines it, which gives NaN where y is infinite.

There is no check that ``i .. i + 15`` lies inside the array, unless ``NUMBA_BOUNDSCHECK=1``: as in C, reading beyond is
a mistake of the caller.

References
----------
LLVM Language Reference Manual, "Vector Type" and "llvm.fmuladd", llvm.org/docs/LangRef.html.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from minicnn.kernels.fast.vector_type import (
    INT32,
    LANES,
    Typer,
    Vector,
    address_of,
    is_flat,
    lowered,
    mask,
    splat,
    vector_of,
)

# --- memory ------------------------------------------------------------------------------------------------------

def _type_load(array: Any, index: Any) -> Any:
    return Vector(array.dtype) if is_flat(array) and isinstance(index, types.Integer) else None


def _emit_load(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    index = context.cast(builder, values[1], sig.args[1], types.intp)
    address = address_of(context, builder, sig.args[0], values[0], index, LANES)
    value = builder.load(builder.bitcast(address, vector_of(sig.args[0].dtype).as_pointer()))
    value.align = sig.args[0].dtype.bitwidth // 8  # of a number, not of a vector: any index will do
    return value


@lowered(_type_load, _emit_load)
def load(array, index):
    """Return the vector ``array[index], ..., array[index + 15]``."""
    return array[index:index + LANES].copy()


def _type_store(array: Any, index: Any, vector: Any) -> Any:
    fits = is_flat(array) and isinstance(index, types.Integer) and vector == Vector(array.dtype)
    return types.void if fits else None


def _emit_store(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    index = context.cast(builder, values[1], sig.args[1], types.intp)
    address = address_of(context, builder, sig.args[0], values[0], index, LANES)
    store_ = builder.store(values[2], builder.bitcast(address, values[2].type.as_pointer()))
    store_.align = sig.args[0].dtype.bitwidth // 8
    return context.get_dummy_value()


@lowered(_type_store, _emit_store)
def store(array, index, vector):
    """Write a vector to ``array[index], ..., array[index + 15]``."""
    array[index:index + LANES] = vector


def _type_load_first(array: Any, index: Any, count: Any) -> Any:
    return _type_load(array, index) if isinstance(count, (types.Integer, types.misc.NoneType)) else None


def _first_lanes(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> tuple[ir.Value, ir.Value, str]:
    """Return the address of ``array[index]``, a mask of the first lanes, and LLVM's name for such a vector in memory.

    Array, index and count are the first, second and last argument.
    """
    index = context.cast(builder, values[1], sig.args[1], types.intp)
    count = context.cast(builder, values[-1], sig.args[-1], types.intp)
    if context.enable_boundscheck:
        some = builder.icmp_signed(">", count, ir.Constant(count.type, 0))
        sixteen = ir.Constant(count.type, LANES)
        lanes = builder.select(builder.icmp_signed("<", count, sixteen), count, sixteen)
        with builder.if_then(some):
            for place in (index, builder.sub(builder.add(index, lanes), ir.Constant(count.type, 1))):
                address_of(context, builder, sig.args[0], values[0], place, 1)
    array = context.make_array(sig.args[0])(context, builder, values[0])
    kind = vector_of(sig.args[0].dtype)
    numbers = ir.Constant(ir.VectorType(count.type, LANES), list(range(LANES)))
    chosen = builder.icmp_signed("<", numbers, splat(builder, count))
    address = builder.bitcast(builder.gep(array.data, [index]), kind.as_pointer())
    return address, chosen, f"v{LANES}f{sig.args[0].dtype.bitwidth}.p0"


def _emit_load_first(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    if sig.args[2] == types.none:
        return _emit_load(context, builder, signature(sig.return_type, *sig.args[:2]), values[:2])
    address, chosen, name = _first_lanes(context, builder, sig, values)
    kind = vector_of(sig.args[0].dtype)
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [address.type, INT32, chosen.type, kind]), f"llvm.masked.load.{name}")
    alignment = ir.Constant(INT32, sig.args[0].dtype.bitwidth // 8)
    return builder.call(function, [address, alignment, chosen, ir.Constant(kind, None)])


@lowered(_type_load_first, _emit_load_first)
def load_first(array, index, count):
    """Return the vector of ``array[index], ...`` with ``count`` numbers, at most 16, and zeros after them.

    None stands for all, known when compiling: a function that gets its count as an argument is compiled once for None,
    without a branch, and once for a number.
    """
    vector = np.zeros(LANES, array.dtype)
    count = LANES if count is None else min(count, LANES)
    vector[:count] = array[index:index + count]
    return vector


def _type_store_first(array: Any, index: Any, vector: Any, count: Any) -> Any:
    return _type_store(array, index, vector) if isinstance(count, (types.Integer, types.misc.NoneType)) else None


def _emit_store_first(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    if sig.args[3] == types.none:
        return _emit_store(context, builder, sig, values)
    address, chosen, name = _first_lanes(context, builder, sig, values)
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [values[2].type, address.type, INT32, chosen.type]),
        f"llvm.masked.store.{name}")
    alignment = ir.Constant(INT32, sig.args[0].dtype.bitwidth // 8)
    builder.call(function, [values[2], address, alignment, chosen])
    return context.get_dummy_value()


@lowered(_type_store_first, _emit_store_first)
def store_first(array, index, vector, count):
    """Write the first ``count`` numbers of a vector, at most 16, None for all, to ``array[index], ...``."""
    count = LANES if count is None else min(count, LANES)
    array[index:index + count] = vector[:count]


def _type_transpose(source: Any, s: Any, s_row: Any, target: Any, t: Any, t_row: Any) -> Any:
    fits = is_flat(source) and source == target and all(isinstance(n, types.Integer) for n in (s, s_row, t, t_row))
    return types.void if fits else None


def _emit_transpose(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    s, s_row, t, t_row = (context.cast(builder, values[at], sig.args[at], types.intp) for at in (1, 2, 4, 5))
    load_ = signature(Vector(sig.args[0].dtype), sig.args[0], types.intp)
    store_ = signature(types.void, sig.args[3], types.intp, Vector(sig.args[3].dtype))

    def row(start: ir.Value, step: ir.Value, number: int) -> ir.Value:
        return builder.add(start, builder.mul(step, ir.Constant(step.type, number)))

    rows = [_emit_load(context, builder, load_, [values[0], row(s, s_row, number)]) for number in range(LANES)]
    apart = LANES // 2
    while apart:  # exchange the squares beside the diagonal: 8x8 numbers, then 4x4 in each square, ...
        for a in range(LANES):
            if a & apart:
                continue
            upper = [k if not k & apart else LANES + k - apart for k in range(LANES)]
            lower = [k + apart if not k & apart else LANES + k for k in range(LANES)]
            pair = rows[a], rows[a + apart]
            rows[a], rows[a + apart] = (builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(INT32, LANES), lanes))
                                        for lanes in (upper, lower))
        apart //= 2
    for number, vector in enumerate(rows):
        _emit_store(context, builder, store_, [values[3], row(t, t_row, number), vector])
    return context.get_dummy_value()


@lowered(_type_transpose, _emit_transpose)
def transpose(source, s, s_row, target, t, t_row):
    """Write 16x16 numbers, rows and columns exchanged: ``target[t + j * t_row + i] = source[s + i * s_row + j]``."""
    for i in range(LANES):
        for j in range(LANES):
            target[t + j * t_row + i] = source[s + i * s_row + j]


def _emit_prefetch(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    index = context.cast(builder, values[1], sig.args[1], types.intp)
    array = context.make_array(sig.args[0])(context, builder, values[0])
    bytes_ = ir.IntType(8).as_pointer()
    prefetch_ = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [bytes_, INT32, INT32, INT32]), "llvm.prefetch.p0")
    for_reading, into_second_level, data = (ir.Constant(INT32, number) for number in (0, 2, 1))
    builder.call(prefetch_, [builder.bitcast(builder.gep(array.data, [index]), bytes_),
                             for_reading, into_second_level, data])
    return context.get_dummy_value()


@lowered(lambda array, index: types.void if is_flat(array) and isinstance(index, types.Integer) else None,
          _emit_prefetch)
def prefetch(array, index):
    """Ask for the cache line of ``array[index]``, which need not lie inside the array; nothing else happens."""


def _emit_broadcast(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    return splat(builder, context.cast(builder, values[1], sig.args[1], sig.return_type.dtype))


@lowered(lambda like, number: (Vector(like.dtype) if (is_flat(like) or isinstance(like, Vector))
                                and isinstance(number, (types.Float, types.Integer)) else None), _emit_broadcast)
def broadcast(like, number):
    """Return the vector with a number in every lane, of the dtype of the array or vector ``like``."""
    return np.full(LANES, number, like.dtype)


# --- arithmetic --------------------------------------------------------------------------------------------------

def _type_operator(a: Any, b: Any) -> Any:
    """Two vectors of one dtype, or a vector and a number, which takes the vector's dtype."""
    vectors = [kind for kind in (a, b) if isinstance(kind, Vector)]
    numbers = [kind for kind in (a, b) if isinstance(kind, (types.Float, types.Integer))]
    if not vectors or len(vectors) + len(numbers) != 2 or vectors[0] != vectors[-1]:
        return None
    return vectors[0]


def _operands(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> list[ir.Value]:
    dtype = next(kind.dtype for kind in sig.args if isinstance(kind, Vector))
    return [value if isinstance(kind, Vector) else splat(builder, context.cast(builder, value, kind, dtype))
            for kind, value in zip(sig.args, values)]


def _register_operator(symbol: Callable, typer: Typer, instruction: Callable[..., ir.Value]) -> None:
    class Template(AbstractTemplate):
        key = symbol

        def generic(self, args: tuple[Any, ...], kws: Any) -> Any:
            result = typer(*args) if len(args) == 2 else None
            return None if result is None else signature(result, *args)

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
        return instruction(builder, *_operands(context, builder, sig, values))

    infer_global(symbol)(Template)
    for kinds in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(symbol, *kinds)(emit)


_register_operator(operator.add, _type_operator, ir.IRBuilder.fadd)
_register_operator(operator.sub, _type_operator, ir.IRBuilder.fsub)
_register_operator(operator.mul, _type_operator, ir.IRBuilder.fmul)
_register_operator(operator.truediv, _type_operator, ir.IRBuilder.fdiv)


def _call_intrinsic(name: str, builder: ir.IRBuilder, sig: Any, values: Any) -> ir.Value:
    """Call LLVM's function of that name for vectors, whose arguments and result are of one type."""
    kind = values[0].type
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * len(values)),
                                              f"llvm.{name}.v{LANES}f{sig.return_type.dtype.bitwidth}")
    return builder.call(function, values)


@lowered(lambda a: a if isinstance(a, Vector) else None,
         lambda context, builder, sig, values: _call_intrinsic("sqrt", builder, sig, values))
def sqrt(a):
    """Return the square root of each lane."""
    return np.sqrt(a)


def _type_three(a: Any, b: Any, c: Any) -> Any:
    return a if isinstance(a, Vector) and a == b == c else None


@lowered(_type_three, lambda context, builder, sig, values: _call_intrinsic("fmuladd", builder, sig, values))
def fma(a, b, c):
    """Return ``a * b + c``, rounded once where the processor has such an instruction."""
    return a * b + c


# --- comparison and choice ---------------------------------------------------------------------------------------

for _symbol, _name in ((operator.gt, ">"), (operator.eq, "==")):
    _register_operator(_symbol, lambda a, b: None if _type_operator(a, b) is None else mask,
                       lambda builder, a, b, name=_name: builder.fcmp_ordered(name, a, b))


@lowered(lambda chosen, a, b: a if chosen == mask and isinstance(a, Vector) and a == b else None,
          lambda context, builder, sig, values: builder.select(*values))
def select(chosen, a, b):
    """Return the lanes of ``a`` where the mask holds, else those of ``b``."""
    return np.where(chosen, a, b)


def _type_two(a: Any, b: Any) -> Any:
    return a if isinstance(a, Vector) and a == b else None


@lowered(_type_two, lambda context, builder, sig, values: builder.select(
    builder.fcmp_unordered(">", *values), *values))
def maximum(a, b):
    """Return the larger of each two lanes; where one is NaN, ``a``."""
    return np.where(~(a <= b), a, b)


@lowered(_type_two, lambda context, builder, sig, values: builder.select(
    builder.fcmp_unordered("<", *values), *values))
def minimum(a, b):
    """Return the smaller of each two lanes; where one is NaN, ``a``."""
    return np.where(~(a >= b), a, b)


def _emit_total(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    vector, width = values[0], LANES
    while width > 1:  # halves are added: lanes 0-7 + 8-15, then 0-3 + 4-7, ...
        width //= 2
        low, high = (ir.Constant(ir.VectorType(INT32, width), list(range(start, start + width)))
                     for start in (0, width))
        vector = builder.fadd(builder.shuffle_vector(vector, vector, low), builder.shuffle_vector(vector, vector, high))
    return builder.extract_element(vector, ir.Constant(INT32, 0))


@lowered(lambda vector: vector.dtype if isinstance(vector, Vector) else None, _emit_total)
def total(vector):
    """Return the sum of the lanes, always in the same order: halves added to halves."""
    while vector.size > 1:
        vector = vector[:vector.size // 2] + vector[vector.size // 2:]
    return vector[0]

"""What Numba must know of a vector: its type, and how a function of the source becomes an LLVM instruction.

``simd.py`` has the functions; it is the page to read first. Here is what they, and the micro-kernel of ``product.py``,
are made with. Numba works in two steps. *Typing* says what type a call has: a typer gets the arguments' types and
returns the result's, or None where they do not fit, which is an error at compile time. *Lowering* writes the
instructions: an emitter gets llvmlite's builder and the values, and returns the result. ``lowered`` joins the two to a
plain Python function.

References
----------
Numba documentation, "Low-level extension API", numba.readthedocs.io/en/stable/extending/low-level.html.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import models, register_model

LANES = 16

# --- types -------------------------------------------------------------------------------------------------------


class Vector(types.Type):
    """Numba's type of a vector; ``dtype`` is that of its lanes: float32 or float64."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"vector({LANES} x {dtype})")


class Mask(types.Type):
    """Numba's type of the result of comparing two vectors."""

    def __init__(self) -> None:
        super().__init__(name=f"mask({LANES})")


mask = Mask()
INT32 = ir.IntType(32)
_FLOATS = {"float32": ir.FloatType(), "float64": ir.DoubleType()}


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, vector_of(kind.dtype))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Mask) -> None:
        super().__init__(manager, kind, ir.VectorType(ir.IntType(1), LANES))


def round_up(size: int) -> int:
    """Return the next multiple of ``LANES``: how many numbers whole vectors hold."""
    return -(-size // LANES) * LANES


def vector_of(dtype: types.Float) -> ir.VectorType:
    """Return LLVM's type of a vector of this dtype."""
    return ir.VectorType(_FLOATS[dtype.name], LANES)


# --- how a function becomes an instruction -----------------------------------------------------------------------

Typer = Callable[..., Any]  # argument types -> type of the result, or None where they do not fit
Emitter = Callable[..., Any]  # (context, builder, signature, values) -> value


def lowered(typer: Typer, emit: Emitter) -> Callable[[Callable], Callable]:
    """Have compiled code use ``emit`` where the source calls the decorated function."""
    def register(function: Callable) -> Callable:
        class Template(AbstractTemplate):
            key = function

            def generic(self, args: tuple[Any, ...], kws: Any) -> Any:
                result = None if kws else typer(*args)
                return None if result is None else signature(result, *args)

        infer_global(function, types.Function(Template))
        lower_builtin(function, types.misc.VarArg(types.Any))(emit)
        return function
    return register


def is_flat(kind: Any) -> bool:
    """Whether vectors can be read from arrays of this type: one-dimensional, C-contiguous, float32 or float64."""
    return isinstance(kind, types.Array) and kind.ndim == 1 and kind.layout == "C" and kind.dtype.name in _FLOATS


def splat(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """Return the vector with the same number in every lane."""
    undefined = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, LANES), [0] * LANES))


def address_of(context: Any, builder: ir.IRBuilder, kind: types.Array, array: ir.Value, index: ir.Value,
               count: int) -> ir.Value:
    """Return the address of ``array[index]``; with NUMBA_BOUNDSCHECK, raise unless ``count`` numbers follow it."""
    array = context.make_array(kind)(context, builder, array)
    if context.enable_boundscheck:
        refuse_outside(context, builder, array, index, builder.add(index, ir.Constant(index.type, count - 1)))
    return builder.gep(array.data, [index])


def refuse_outside(context: Any, builder: ir.IRBuilder, array: Any, *places: ir.Value) -> None:
    """Raise IndexError if one of the indices is outside an array, which has been unpacked."""
    (size,) = cgutils.unpack_tuple(builder, array.shape)
    for place in places:
        negative = builder.icmp_signed("<", place, ir.Constant(place.type, 0))
        outside = builder.or_(negative, builder.icmp_signed(">=", place, size))
        with builder.if_then(outside, likely=False):
            context.call_conv.return_user_exc(builder, IndexError, ("simd: an index outside the array",))

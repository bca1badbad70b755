"""Arrays that kernels use without counting who uses them.

Numba counts references to an array's memory, as Python does, and so that threads may do it at the same time, by an
instruction that locks the cache line with the count. Within one function the compiler finds most of the pairs of
counting up and down that cancel, but a function that takes a group of arrays apart counts at each call. Rows of an
image are handed to such functions, thousands of them a step, by all threads at once: they then spend most of their time
taking the counts' cache lines from each other. A first convolution took 0.9 to 2.1 ms on two threads, and 1.1 on one;
without counting it takes 0.4 and 0.75.

A kernel's arrays are kept alive by who called it. So it may begin with

    source, work = borrowed(source), borrowed(work)

and what is done with them, or with parts of them, counts nothing.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from minicnn.kernels.fast.vector_type import lowered


def _emit_borrowed(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> ir.Value:
    return _without_owner(context, builder, sig.args[0], values[0])


def _without_owner(context: Any, builder: ir.IRBuilder, kind: Any, value: ir.Value) -> ir.Value:
    """Return the value, in each array of it null where the count would be."""
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        array.meminfo = cgutils.get_null_value(array.meminfo.type)
        array.parent = cgutils.get_null_value(array.parent.type)
        return array._getvalue()
    if isinstance(kind, types.containers.BaseTuple):
        items = [_without_owner(context, builder, item, builder.extract_value(value, place))
                 for place, item in enumerate(kind)]
        return context.make_tuple(builder, kind, items)
    return value


@lowered(lambda value: value, _emit_borrowed)
def borrowed(value):
    """Return an array, or a tuple with arrays in it, to be used while its owner keeps it."""
    return value

"""Kernels that others call without a copy of their own.

Numba puts the machine code of whatever a kernel calls into the kernel itself, and optimizes it there once more. For the
micro-kernel, a large piece of code that eight kernels call, that was a third of what a user waits for at the first step
on a new machine. ``shared`` has it compiled once for each dtype; kernels call it by a name that stands for its address.

Machine code kept on disk has the name in it, not the address. So before such a kernel is read from there, what it calls
must have been given its name in this process: ``provide`` does that, see ``compile.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba.core import cgutils, types

from minicnn.kernels.fast.vector_type import lowered

Arguments = tuple[Any, ...]  # Numba types

_names: dict[tuple[Any, Arguments], str] = {}  # (dispatcher, argument types) -> name given in this process


def shared(arguments: Callable[[Any], Arguments]) -> Callable[[Any], Any]:
    """Have kernels call the decorated kernel, which returns nothing, where it is compiled.

    Parameters
    ----------
    arguments : callable
        Gives the types of its arguments for a dtype. Whole numbers of all kinds are passed as int64.
    """
    def decorate(kernel: Any) -> Any:
        if numba.config.DISABLE_JIT:
            return kernel

        def call(*values: Any) -> None:
            kernel(*values)

        def type_call(*given: Any) -> Any:
            """The arguments must be those of one dtype, but for the kind of a whole number."""
            dtypes = [kind.dtype for kind in given if isinstance(kind, types.Array)]
            wanted = arguments(dtypes[0]) if dtypes else ()
            fits = len(given) == len(wanted) and all(
                a == b or (b == types.int64 and isinstance(a, (types.Integer, types.Boolean)))
                for a, b in zip(given, wanted, strict=True))
            return types.void if fits else None

        def emit_call(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
            wanted = arguments(next(kind.dtype for kind in sig.args if isinstance(kind, types.Array)))
            name, compiled = _provided(kernel, wanted)
            values = [context.cast(builder, *each) for each in zip(values, sig.args, wanted, strict=True)]
            convention, kinds = context.call_conv, compiled.fndesc.argtypes
            function = cgutils.get_or_insert_function(
                builder.module, convention.get_function_type(types.none, kinds), name)
            status, _ = convention.call_function(builder, function, types.none, kinds, values)
            with cgutils.if_unlikely(builder, status.is_error):  # an index outside an array
                convention.return_status_propagate(builder, status)
            return context.get_dummy_value()

        call.__doc__, call.__name__, call.__wrapped__ = kernel.__doc__, kernel.__name__, kernel  # type: ignore[attr-defined]
        call.provide_shared = lambda dtype: _provided(kernel, arguments(dtype))  # type: ignore[attr-defined]
        lowered(type_call, emit_call)(call)
        return call
    return decorate


def provide(function: Callable, kinds: Any) -> None:
    """Name what a kernel about to be read from disk may call: all shared ones its module knows, for its dtype.

    A kernel computes in the dtype of its first floating-point array; others may be float64 for what is summed up.
    """
    dtype = next(_dtypes(kinds), None)
    for value in list(function.__globals__.values()) if dtype is not None else ():
        if hasattr(value, "provide_shared") and value.__wrapped__.py_func is not function:
            value.provide_shared(dtype)


def _provided(kernel: Any, wanted: Arguments) -> tuple[str, Any]:
    """Compile a kernel, or read it from disk, and give it its name; return that and what was compiled."""
    if (kernel, wanted) not in _names:
        kernel.compile(wanted)
        compiled = kernel.overloads[wanted]
        digest = hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]
        name = f"minicnn_{kernel.py_func.__name__}_{digest}"
        llvmlite.binding.add_symbol(name, compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))
        _names[kernel, wanted] = name
    return _names[kernel, wanted], kernel.overloads[wanted]


def _dtypes(kinds: Any) -> Iterator[Any]:
    """Return the dtypes of the floating-point arrays among types, also within tuples, in their order."""
    for kind in kinds:
        if isinstance(kind, types.Array) and isinstance(kind.dtype, types.Float):
            yield kind.dtype
        elif isinstance(kind, types.containers.BaseTuple):
            yield from _dtypes(kind)

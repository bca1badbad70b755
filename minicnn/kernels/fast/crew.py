"""How a kernel that is running gets help from other threads, without a word of Python.

Python lets one thread at a time into its interpreter, and a thread that sleeps needs some ten microseconds to wake up;
a step of a small network is thirty kernels that take no longer. So helper threads wait for work in compiled code, awake
for about a millisecond, and a kernel invites them by itself:

    invite(seat, crew)            # from here on each helper runs this very call, with a seat of its own
    chunk = take(counter, seat)   # all of them take chunks, see counter.py
    while chunk < chunks:
        ...
        chunk = take(counter, seat)
    dismiss(seat, crew)           # they have ended

``seat`` must be the kernel's first argument: 0 for the thread that was called, 1, 2, ... for those that help.
``crew`` is an array of int64 that all threads know. Each helper has one number in it that says what it does:

- ASLEEP: it waits in Python, see ``parallel.py``, and nobody may count on it;
- WAITING: it looks at its number again and again, in ``serve``;
- INVITED: it has been asked, and has not begun;
- AT_WORK: it is running the call;
- RECALLED: it is to go back to Python, where something else is to be done.

The number changes by compare-and-exchange, so that of two threads that want to change it one learns that it was too
late.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from minicnn.kernels.fast.compile import inner, jit
from minicnn.kernels.fast.vector_type import lowered

ASLEEP, WAITING, INVITED, AT_WORK, RECALLED = range(5)
CODE, HELPERS, FAILED = 0, 1, 2  # places in the array: what to run, how many are wanted, whether one raised
ARGUMENTS, ROOM = 8, 1016        # where the call's arguments are, and how many words there may be of them
FIRST, APART = ARGUMENTS + ROOM, 8  # the helpers' states, each in a cache line of its own
HERE = 1  # behind a helper's state: whether it is in ``serve``
PATIENCE = 400_000  # looks before a helper goes to sleep
ARRIVAL = 40_000    # looks before a helper that was woken is not waited for any more
OFTEN = 128  # looks before a thread lets another have its core: there may be more threads than cores

_YIELD = "minicnn_yield"


def new_crew(most: int) -> np.ndarray:
    """Return the array of a crew of at most so many helpers, all asleep."""
    return np.zeros(FIRST + APART * most, np.int64)


ALONE = new_crew(0)  # of a kernel that runs without help


def place_of(seat: int) -> int:
    """Return where the state of the helper of a seat is."""
    return FIRST + APART * (seat - 1)


# --- what compiled code can do, and Numba's source cannot say ----------------------------------------------------

_INT64 = ir.IntType(64)


def _is_crew(kind: Any) -> bool:
    return isinstance(kind, types.Array) and kind.ndim == 1 and kind.dtype == types.int64 and kind.layout == "C"


def _word(context: Any, builder: ir.IRBuilder, sig: Any, values: Any, place: Any) -> ir.Value:
    """Address of a number of the array that is the first argument."""
    data = context.make_array(sig.args[0])(context, builder, values[0]).data
    return builder.gep(data, [ir.Constant(_INT64, place) if isinstance(place, int) else place])


def _type_look(crew: Any, place: Any) -> Any:
    return types.int64 if _is_crew(crew) and isinstance(place, types.Integer) else None


def _emit_look(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    place = context.cast(builder, values[1], sig.args[1], types.int64)
    return builder.load_atomic(_word(context, builder, sig, values, place), "acquire", 8)


@lowered(_type_look, _emit_look)
def look(crew, place):
    """Return a number of the array as it is now."""


def _type_exchange(crew: Any, place: Any, old: Any, new: Any) -> Any:
    whole = all(isinstance(number, types.Integer) for number in (place, old, new))
    return types.boolean if _is_crew(crew) and whole else None


def _emit_exchange(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    place, old, new = (context.cast(builder, value, kind, types.int64)
                       for value, kind in zip(values[1:], sig.args[1:], strict=True))
    both = builder.cmpxchg(_word(context, builder, sig, values, place), old, new, "seq_cst", "seq_cst")
    return builder.extract_value(both, 1)


@lowered(_type_exchange, _emit_exchange)
def exchange(crew, place, old, new):
    """Replace a number of the array by another if it is ``old``; say whether it was."""


def _emit_give_way(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(32), []), _YIELD), [])
    return context.get_dummy_value()


@lowered(lambda: types.void, _emit_give_way)
def give_way():
    """Let another thread have the core, if one wants it."""


def _type_post(crew: Any) -> Any:
    return types.void if _is_crew(crew) else None


def _emit_post(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    """Write where the helpers' code is, and the arguments of the function that is being compiled."""
    arguments = context.call_conv.get_arguments(builder.function)
    layout = ir.LiteralStructType([argument.type for argument in arguments])
    size = context.get_abi_sizeof(layout)
    if size > 8 * ROOM:
        raise NotImplementedError(f"a kernel with arguments of {size} bytes; there is room for {8 * ROOM}")
    helper = _helpers_code(context, builder.module, builder.function, layout)
    target = builder.bitcast(_word(context, builder, sig, values, ARGUMENTS), layout.as_pointer())
    for number, argument in enumerate(arguments):
        builder.store(argument, builder.gep(target, [ir.Constant(ir.IntType(32), k) for k in (0, number)]))
    builder.store(builder.ptrtoint(helper, _INT64), _word(context, builder, sig, values, CODE))
    return context.get_dummy_value()


_CODE_TYPE = ir.FunctionType(ir.IntType(1), [_INT64.as_pointer(), _INT64])  # (crew, seat) -> whether it failed


def _helpers_code(context: Any, module: ir.Module, function: ir.Function, layout: ir.LiteralStructType) -> ir.Function:
    """Return a function that calls ``function`` with the arguments from the array, but its own seat."""
    code = ir.Function(module, _CODE_TYPE, f"{function.name}.helper")
    code.linkage = "internal"
    builder = ir.IRBuilder(code.append_basic_block())
    crew, seat = code.args
    room = builder.bitcast(builder.gep(crew, [ir.Constant(_INT64, ARGUMENTS)]), layout.as_pointer())
    arguments = [builder.load(builder.gep(room, [ir.Constant(ir.IntType(32), k) for k in (0, number)]))
                 for number in range(len(layout.elements))]
    result, error = (cgutils.alloca_once(builder, argument.type.pointee) for argument in function.args[:2])
    builder.store(cgutils.get_null_value(result.type.pointee), result)
    builder.store(cgutils.get_null_value(error.type.pointee), error)
    status = builder.call(function, [result, error, seat, *arguments[1:]])
    fine = builder.or_(*(builder.icmp_signed("==", status, ir.Constant(status.type, known)) for known in (0, -2)))
    builder.ret(builder.not_(fine))
    return code


def _type_run_posted(crew: Any, seat: Any) -> Any:
    return types.boolean if _is_crew(crew) and seat == types.int64 else None


def _emit_run_posted(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    address = builder.load(_word(context, builder, sig, values, CODE))
    return builder.call(builder.inttoptr(address, _CODE_TYPE.as_pointer()),
                        [_word(context, builder, sig, values, 0), values[1]])


@lowered(_type_post, _emit_post)
def post(crew):
    """Write this very call into the array."""


@lowered(_type_run_posted, _emit_run_posted)
def run_posted(crew, seat):
    """Run the call that is in the array; say whether it raised."""


# --- the protocol ------------------------------------------------------------------------------------------------


@inner(inline="always")
def invite(seat, crew):
    """Have the helpers that are wanted run this very call."""
    if seat == 0 and crew[HELPERS] > 0:
        post(crew)
        for helper in range(crew[HELPERS]):
            exchange(crew, FIRST + APART * helper, WAITING, INVITED)


@inner(inline="always")
def dismiss(seat, crew):
    """Wait, on seat 0, until no helper runs this call; those that have not begun need not."""
    if seat == 0:
        for helper in range(crew[HELPERS]):
            place, looks = FIRST + APART * helper, 0
            exchange(crew, place, INVITED, WAITING)
            while look(crew, place) == AT_WORK:
                looks += 1
                if looks % OFTEN == 0:
                    give_way()


@jit
def serve(crew, seat, patience):
    """Do what is asked of one helper until it is recalled, or nothing was asked for so many looks.

    Seat 0, who has woken them, waits here until all helpers that are wanted have come, or for so many looks. They have
    to pass through Python. If the caller were there, too, it would have to sleep until they are through, and would be
    woken on the core of one of them.
    """
    place, looks = FIRST + APART * (seat - 1), 0
    if seat == 0:
        for helper in range(crew[HELPERS]):
            while look(crew, FIRST + APART * helper + HERE) == 0 and looks < patience:
                looks += 1
                if looks % OFTEN == 0:
                    give_way()
        return
    crew[place + HERE] = 1
    while True:
        state = look(crew, place)
        if state == INVITED and exchange(crew, place, INVITED, AT_WORK):
            if run_posted(crew, seat):
                crew[FAILED] = 1
            exchange(crew, place, AT_WORK, WAITING)
            looks = 0
        elif state == RECALLED or (looks > patience and exchange(crew, place, WAITING, ASLEEP)):
            crew[place + HERE] = 0
            return
        looks += 1
        if looks % OFTEN == 0:
            give_way()


def prepare() -> None:  # pragma: no cover - with the compiler only
    """Compile what helpers wait in: while they did so themselves, the first kernels would go without help."""
    nothing = new_crew(1)
    nothing[place_of(1)] = RECALLED
    serve(nothing, np.int64(1), PATIENCE)


def _name_yield() -> None:
    """Tell compiled code where the system's function is that gives way."""
    if sys.platform == "win32":
        function = ctypes.windll.kernel32.SwitchToThread  # type: ignore[attr-defined]
    else:
        function = ctypes.CDLL(None).sched_yield
    llvmlite.binding.add_symbol(_YIELD, ctypes.cast(function, ctypes.c_void_p).value)


_name_yield()

"""Arrays that kernels use without counting: the same numbers, and no owner."""

from __future__ import annotations

import ast
import inspect
from typing import NamedTuple

import numpy as np
import pytest

import minicnn.kernels.fast
from exact import modules
from minicnn.kernels.fast.borrowed import borrowed
from minicnn.kernels.fast.compile import jit


class Pair(NamedTuple):
    """Two arrays and a number."""

    first: np.ndarray
    second: np.ndarray
    number: int


@jit(keep=False)
def _scale(pair, factors):
    pair, factors = borrowed((pair, factors))
    first = pair.first[1:]
    for k in range(first.size):
        first[k] = pair.second[k] * factors[k, 0] + pair.number


@jit(keep=False)
def _give_back(array):
    return borrowed(array)


def test_a_borrowed_array_is_the_array(rng):
    pair, factors = Pair(np.zeros(5, np.float32), rng.random(4, np.float32), 3), rng.random((4, 2), np.float32)
    _scale(pair, factors)
    np.testing.assert_array_equal(pair.first, np.append(np.float32(0), pair.second * factors[:, 0] + np.float32(3)))
    assert borrowed(3) == 3


@pytest.mark.no_jit_excluded("plain Python counts references")
def test_it_has_no_owner():
    """Numba must own an array to hand it back to Python: it makes one anew, that does not keep the memory alive."""
    array = np.arange(5.0)
    back = _give_back(array)
    np.testing.assert_array_equal(back, array)
    assert back.base is None
    assert not back.flags.owndata


@pytest.mark.parametrize("taken", ["source", "target", "gradient"])
def test_kernels_that_hand_groups_of_arrays_on_borrow_them(taken):
    """What reads and writes rows takes these groups apart at each call; see borrowed.py."""
    seen = 0
    for module in modules(minicnn.kernels.fast):
        for function in ast.walk(ast.parse(inspect.getsource(module))):
            if not isinstance(function, ast.FunctionDef) or "invite(seat, crew)" not in ast.unparse(function):
                continue
            if taken in {argument.arg for argument in function.args.args}:
                seen += 1
                calls = [ast.unparse(call) for call in ast.walk(function)
                         if isinstance(call, ast.Call) and ast.unparse(call.func) == "borrowed"]
                assert any(taken in call for call in calls), f"{module.__name__}.{function.name}"
    assert seen

"""Shared kernels: compiled once, called by name, also from machine code that was kept on disk."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minicnn
from fast_processes import run
from minicnn.kernels.fast.compile import jit
from minicnn.kernels.fast.shared import shared

pytestmark = pytest.mark.no_jit_excluded("there a shared kernel is called as any other function")
ROOT = Path(minicnn.__file__).parent.parent


def _arguments(dtype: Any) -> tuple[Any, ...]:
    from numba.core import types
    return types.Array(dtype, 1, "C"), types.int64, types.int64


@shared(_arguments)
@jit(keep=False)
def add_number(array, number, twice):
    """array += number, or twice the number."""
    for k in range(array.size):
        array[k] += number * (2 if twice else 1)


@jit(keep=False)
def caller(array, number):
    """Call it with numbers of several kinds: a variable, one that stands in the source, a comparison."""
    add_number(array, number, 0)
    add_number(array, np.int32(number), number > 2)


@jit(keep=False)
def caller_with_a_matrix(matrix):
    """Call it with what it does not take."""
    add_number(matrix, 1, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_and_python_call_it(dtype):
    array = np.arange(5, dtype=dtype)
    caller(array, 3)
    np.testing.assert_array_equal(array, np.arange(5) + 3 + 6)
    add_number(array, 1, 1)
    np.testing.assert_array_equal(array, np.arange(5) + 11)


def test_callers_share_one_copy():
    """A caller declares it, and does not define it."""
    caller(np.zeros(3, np.float32), 1)
    lines = [line for line in caller.inspect_llvm(caller.signatures[0]).splitlines() if "add_number" in line]
    assert [line for line in lines if line.startswith("declare")]
    assert not [line for line in lines if line.startswith("define")]


def test_other_arguments_are_refused_while_compiling():
    from numba.core.errors import TypingError
    with pytest.raises(TypingError, match="add_number"):
        caller_with_a_matrix(np.zeros((2, 3)))


def test_what_a_float32_kernel_calls_is_compiled_for_float32_alone():
    """Its sums in float64 have nothing to do with it; it took two seconds of the first step on a new machine."""
    assert run(ROOT, None, SINGLE) == "[float32]"


SINGLE = """
import numpy as np
from minicnn.kernels import fast
from minicnn.kernels.fast import shared
rng = np.random.default_rng(1)
x, w = rng.standard_normal((1, 7, 7, 4)).astype(np.float32), rng.standard_normal((3, 3, 4, 5)).astype(np.float32)
fast.conv2d_backward(fast.conv2d(x, w, None, (1, 1), (1, 1, 1, 1)), x, w, (1, 1), (1, 1, 1, 1))
print(sorted({wanted[0].dtype for _, wanted in shared._names}, key=str))
"""


PROGRAM = """
import importlib
import numpy as np
from minicnn.kernels import fast
from minicnn.kernels.fast import compile
rng = np.random.default_rng(1)
x, w = rng.standard_normal((5, 7)).astype(np.float32), rng.standard_normal((7, 3)).astype(np.float32)
cold = compile.cold()
assert np.allclose(fast.dense(x, w, None), x @ w, atol=1e-5)
stats = importlib.import_module("minicnn.kernels.fast.dense")._multiply.stats
print(cold, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def test_kept_code_finds_it_in_another_process(tmp_path):
    outputs = [run(ROOT, tmp_path, PROGRAM) for _ in range(2)]
    assert outputs == ["True 0 1", "False 1 0"]


def test_a_name_is_given_to_one_dtype_alone():
    caller(np.zeros(3, np.float32), 1)
    caller(np.zeros(3, np.float64), 1)
    texts = [caller.inspect_llvm(signature) for signature in caller.signatures]
    found = [{word for word in text.replace("(", " ").split() if word.startswith("@minicnn_add_number_")}
             for text in texts]
    assert all(len(names) == 1 for names in found)
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(found, 2))

"""The very functions of naive.py on windows and dense layers, compiled: quick enough to judge a thousand geometries.

Nothing is written anew: each is the code object of naive.py, looking the others up among the compiled ones. An index
outside an array raises, as in Python. Under ``NUMBA_DISABLE_JIT`` they are the plain functions.
"""

from __future__ import annotations

import types
from typing import Any

import numba

import naive

NAMES = ("places", "conv2d", "conv2d_dx", "conv2d_dw", "conv2d_db", "max_pool2d", "max_pool2d_backward",
         "pixels_inside", "avg_pool2d", "avg_pool2d_backward", "dense", "dense_backward")

_namespace: dict[str, Any] = dict(vars(naive))


def _compiled(name: str) -> Any:
    original = getattr(naive, name)
    return numba.njit(boundscheck=True)(types.FunctionType(original.__code__, _namespace, name))


for _name in NAMES:
    _namespace[_name] = _compiled(_name)


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"naive_jit has no {name!r}; it has {NAMES}")
    return _namespace[name]

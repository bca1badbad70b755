"""What both kernel sets refuse: arrays that do not fit each other.

NumPy would stretch some of them silently, and the compiled loops of the fast set would read and write beyond their
ends. The layers check what users pass; this is the last line, for callers of the kernels themselves.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np

from minicnn.errors import ArgumentError, DataError, ShapeError, suggest

FILL_MODES = ("nearest", "constant", "reflect", "wrap")
ANY_DTYPE = frozenset({"mean", "variance", "winner", "matrices", "drawn"})  # the others of a call share one

Axes = tuple[str | int, ...]


def check_fit(kernel: str, expected: str, *arrays: np.ndarray | None, **sizes: int) -> None:
    """Compare arrays with shapes written as in the documentation.

    Parameters
    ----------
    kernel : str
        Named in the message.
    expected : str
        ``"x (N, D), w (D, 3), gamma (..., C)"``: the same letter stands for the same size, a number for itself, and
        ``...``, in front, for any number of axes.
    *arrays : array or None
        In this order; None fits everything.
    **sizes : int
        Letters whose sizes are known.

    Raises
    ------
    ShapeError
        If a shape does not fit.
    ArgumentError
        If the dtypes differ.
    """
    if not _known_to_fit(expected, *[None if array is None else (array.shape, array.dtype) for array in arrays],
                         **sizes):
        _refuse_misfit(kernel, expected, arrays, sizes)


@functools.lru_cache(1024)
def _known_to_fit(expected: str, *given: tuple[tuple[int, ...], np.dtype] | None, **sizes: int) -> bool:
    """Tell whether shapes and dtypes are as expected; a training step asks the same questions again and again."""
    known: dict[str | int, Any] = {letter: size for letter, size in sizes.items()}
    dtypes = set()
    for (name, axes), one in zip(_parsed(expected), given):
        if one is not None:
            shape, dtype = one
            if not _fits(axes, shape, known):
                return False
            if name not in ANY_DTYPE:
                dtypes.add(dtype)
    return len(dtypes) <= 1


def _refuse_misfit(kernel: str, expected: str, arrays: tuple[np.ndarray | None, ...], sizes: dict[str, int]) -> None:
    """Say what does not fit."""
    known: dict[str | int, Any] = {letter: size for letter, size in sizes.items()}
    for (_, axes), array in zip(_parsed(expected), arrays):
        if array is not None and not _fits(axes, array.shape, known):
            also = "".join(f", {letter} = {size}" for letter, size in sizes.items())
            raise ShapeError(f"{kernel} got {_listed(expected, arrays, 'shape')}; expected {expected}{also}, the same "
                             "letter for the same size. Pass arrays that belong to the same forward pass and layer.")
    raise ArgumentError(f"{kernel} got {_listed(expected, arrays, 'dtype')}; expected one dtype, float32 or float64. "
                        "Convert with astype.")


def check_writable(kernel: str, **arrays: np.ndarray | None) -> None:
    """Refuse arrays that are read-only where they are to be changed in place."""
    for name, array in arrays.items():
        if array is not None and not array.flags.writeable:
            raise ArgumentError(f"{kernel} got {name} {array.shape}, which is read-only; {name} is changed in place. "
                                "Pass a copy.")


def check_not_empty(kernel: str, x: np.ndarray) -> None:
    """Refuse an array without values, which has no mean."""
    if x.size == 0:
        raise ShapeError(f"{kernel} got x {x.shape}, an empty array; expected at least one value in each channel. "
                         "Leave out empty batches in training.")


def check_classes(kernel: str, x: np.ndarray) -> None:
    """Refuse rows without entries, over which there is no softmax."""
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ShapeError(f"{kernel} got an array {x.shape}; expected at least one class along the last axis. Give the "
                         "layer before at least one unit.")


def check_warp(x: np.ndarray, matrices: np.ndarray, fill_mode: str) -> None:
    """Check the arguments of ``affine_warp``."""
    check_fit("affine_warp", "x (N, H, W, C), matrices (N, 2, 3)", x, matrices)
    if fill_mode not in FILL_MODES:
        raise ArgumentError(f"affine_warp got fill_mode={fill_mode!r}. {suggest(fill_mode, FILL_MODES)}")
    finite = np.isfinite(matrices).all(axis=(1, 2))  # (N,)
    if not finite.all():
        raise DataError(f"affine_warp got a matrix with NaN or infinity, that of image {int(finite.argmin())}; "
                        "expected finite numbers. Correct what computes the matrices.")


def _fits(axes: Axes, shape: tuple[int, ...], known: dict[str | int, Any]) -> bool:
    """Compare one shape, and note the sizes of letters met for the first time."""
    if axes and axes[0] == "...":
        axes = axes[1:]
        front = len(shape) - len(axes)
        if front < 0 or known.setdefault("...", shape[:front]) != shape[:front]:
            return False
        shape = shape[front:]
    if len(shape) != len(axes):
        return False
    return all(size == (axis if isinstance(axis, int) else known.setdefault(axis, size))
               for axis, size in zip(axes, shape))


@functools.cache
def _parsed(expected: str) -> tuple[tuple[str, Axes], ...]:
    found = re.findall(r"(\w+) \(([^)]*)\)", expected)
    return tuple((name, tuple(int(axis) if axis.isdigit() else axis for axis in axes.split(", ")))
                 for name, axes in found)


def _listed(expected: str, arrays: tuple[np.ndarray | None, ...], what: str) -> str:
    return ", ".join(f"{name} {getattr(array, what)}" for (name, _), array in zip(_parsed(expected), arrays)
                     if array is not None)

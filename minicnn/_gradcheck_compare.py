"""Compares analytic gradients with central differences, tensor by tensor; see ``minicnn/gradcheck.py``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from minicnn._gradcheck_differences import Function, Line, Slopes, find_slopes, rough_size
from minicnn._gradcheck_report import NOT_CHECKED, OK, SKIPPED_LIMIT, WRONG, GradientRow
from minicnn.streams import generator

EXACT_LIMIT = 1e-10
LAYER_LIMIT = 1e-8
NETWORK_LIMIT = 1e-7
ENTRIES = 200
DIRECTION = "random direction"
DIRECTIONS = 8  # how many are tried until one stays clear of kinks


@dataclass
class Tensor:
    """One array and what ``backward`` says about it; ``fault`` tells why it says nothing usable."""

    what: str
    array: np.ndarray
    analytic: np.ndarray | None
    fault: str = ""


def examine(what: str, array: np.ndarray, first: object, second: object, missing: str) -> Tensor:
    """Judge the form of a gradient that two equal calls of ``backward`` gave: present, shape, dtype, finite, equal."""
    def refused(fault: str) -> Tensor:
        return Tensor(what, array, None, fault)

    if first is None:
        return refused(missing)
    if not isinstance(first, np.ndarray):
        return refused(f"the gradient is a {type(first).__name__}, expected an array")
    if first.shape != array.shape:
        return refused(f"the gradient has shape {first.shape}, expected {array.shape}")
    if first.dtype != array.dtype:
        return refused(f"the gradient has dtype {first.dtype}, expected {array.dtype}")
    if not np.isfinite(first).all():
        return refused(f"{np.sum(~np.isfinite(first))} of {first.size} entries are NaN or infinite")
    if not isinstance(second, np.ndarray) or not np.array_equal(first, second):
        return Tensor(what, array, first, "a second, equal backward gave another gradient: it must be assigned, "
                                          "not added to the last one, and follow from the forward pass alone")
    return Tensor(what, array, first)


def compare(function: Function, tensors: list[Tensor], limit: float | None, seed: int,
            entries: int = ENTRIES) -> list[GradientRow]:
    """Check every tensor.

    Parameters
    ----------
    function : callable
        Without arguments: the scalar whose gradient the tensors carry, from their arrays' present values.
    tensors : list of Tensor
    limit : float or None
        Largest allowed error. None: 1e-10 for tensors in which the function is
        affine, 1e-8 for others.
    seed : int
        Decides entries and directions.
    entries : int
        Tensors up to this size are checked whole.

    Returns
    -------
    list of GradientRow
    """
    base = function()
    if not math.isfinite(base):
        return [_bare(tensor, limit, WRONG, "the forward pass gave NaN or infinity") for tensor in tensors]
    if function() != base:
        return [_bare(tensor, limit, WRONG, "two equal forward passes differ: chance must follow from layer.step")
                for tensor in tensors]
    lines = [_lines(function, tensor, base, seed, entries) for tensor in tensors]
    largest = max((rough_size(of_tensor) for of_tensor in lines), default=0.0)
    return [_row(tensor, of_tensor, limit, seed, largest) for tensor, of_tensor in zip(tensors, lines)]


def _lines(function: Function, tensor: Tensor, base: float, seed: int, entries: int) -> list[Line]:
    """Return the lines to differentiate along: all entries, or some, drawn, and a direction through all of them."""
    array = tensor.array
    if array.size <= entries:
        chosen = np.arange(array.size)
    else:
        chosen = np.sort(generator(seed, "gradcheck", tensor.what).choice(array.size, entries, replace=False))
    lines = [Line(function, array, tuple(map(int, np.unravel_index(i, array.shape))), base) for i in chosen]
    if array.size > entries:
        lines.append(_random_line(lines[0], seed, tensor.what, 0))
    return lines


def _random_line(like: Line, seed: int, what: str, attempt: int) -> Line:
    """Return a line along a vector of length 1 with entries of one magnitude: no entry escapes it."""
    array = like.array
    signs = generator(seed, "gradcheck", what, "direction", attempt).choice([-1.0, 1.0], array.shape)
    return Line(like.function, array, signs / math.sqrt(array.size), like.base)


def _row(tensor: Tensor, lines: list[Line], limit: float | None, seed: int, largest: float) -> GradientRow:
    if tensor.fault:
        return _bare(tensor, limit, WRONG, tensor.fault)
    assert tensor.analytic is not None
    slopes = find_slopes(lines, (limit or LAYER_LIMIT) / 2, largest)
    for attempt in range(1, DIRECTIONS):
        if slopes.trusted[-1] or isinstance(lines[-1].direction, tuple):
            break
        lines[-1] = _random_line(lines[-1], seed, tensor.what, attempt)
        _replace_last(slopes, find_slopes(lines[-1:], (limit or LAYER_LIMIT) / 2, largest, own=slopes.scale))
    limit = limit or (EXACT_LIMIT if slopes.exact else LAYER_LIMIT)

    expected = [tensor.analytic[line.direction] if isinstance(line.direction, tuple)
                else np.sum(tensor.analytic * line.direction) for line in lines]
    off = np.where(slopes.trusted, np.abs(np.array(expected) - slopes.values), -1.0)
    checked, worst = int(slopes.trusted.sum()), int(off.argmax())
    numeric = np.full(tensor.array.shape, np.nan)
    for line, value, trusted in zip(lines, slopes.values, slopes.trusted):
        if trusted and isinstance(line.direction, tuple):
            numeric[line.direction] = value
    error = _ratio(float(off[worst]), slopes.scale) if checked else math.inf
    verdict, note = _judge(tensor.analytic, numeric, slopes.trusted, lines, error <= limit)
    worst_direction = lines[worst].direction
    where = worst_direction if isinstance(worst_direction, tuple) else DIRECTION
    return GradientRow(tensor.what, tensor.array.shape, tensor.analytic, numeric, checked, len(lines) - checked, error,
                       limit, where if checked else None, verdict, note)


def _judge(analytic: np.ndarray, numeric: np.ndarray, trusted: np.ndarray, lines: list[Line],
           small: bool) -> tuple[str, str]:
    """Return the verdict and its reason. What is wrong where it was compared is wrong, however much was skipped."""
    skipped = len(lines) - int(trusted.sum())
    if not small and trusted.any():
        return WRONG, "" if analytic.any() else "all zero"
    if skipped > SKIPPED_LIMIT * len(lines):
        return NOT_CHECKED, f"{skipped} of {len(lines)} points lie on kinks or ties"
    if not trusted[-1] and not isinstance(lines[-1].direction, tuple):
        return NOT_CHECKED, f"kinks or ties on each of {DIRECTIONS} random directions"
    return OK, ""


def _replace_last(slopes: Slopes, last: Slopes) -> None:
    slopes.values[-1], slopes.doubts[-1], slopes.trusted[-1] = last.values[0], last.doubts[0], last.trusted[0]
    slopes.exact = slopes.exact and last.exact


def _ratio(difference: float, scale: float) -> float:
    if difference == 0:
        return 0.0
    return difference / scale if scale > 0 else math.inf


def _bare(tensor: Tensor, limit: float | None, verdict: str, note: str) -> GradientRow:
    return GradientRow(tensor.what, tensor.array.shape, tensor.analytic, None, 0, 0, math.inf, limit or LAYER_LIMIT,
                       None, verdict, note)

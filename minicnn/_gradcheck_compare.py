"""Compares analytic gradients with central differences, tensor by tensor; see ``minicnn/gradcheck.py``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from minicnn._gradcheck_differences import GRID, MOVES, Function, Line, Slopes, find_slopes, rough_size
from minicnn._gradcheck_report import NOT_CHECKED, OK, SKIPPED_LIMIT, WRONG, GradientRow
from minicnn.streams import generator

EXACT_LIMIT = 1e-10
LAYER_LIMIT = 1e-8
NETWORK_LIMIT = 1e-7
ENTRIES = 200
DIRECTION = "random direction"
DOUBT = 0.75  # largest doubt about a numeric derivative, as a part of the limit


@dataclass
class Tensor:
    """One array, f as a function of it, and what ``backward`` says; ``fault`` tells why it says nothing usable.

    ``function`` and ``gradient`` have no arguments: they read the arrays as they are. ``calls`` are the gradients that
    two equal calls of ``backward`` gave.
    """

    what: str
    array: np.ndarray
    function: Function
    gradient: Callable[[], np.ndarray]
    analytic: np.ndarray | None = None
    fault: str = ""
    calls: tuple[object, ...] = ()


def examine(array: np.ndarray, first: object, second: object, missing: str) -> str:
    """Say what is wrong with the form of a gradient that two equal calls of ``backward`` gave; empty if nothing is."""
    if first is None:
        return missing
    if not isinstance(first, np.ndarray):
        return f"the gradient is a {type(first).__name__}, expected an array"
    if first.shape != array.shape:
        return f"the gradient has shape {first.shape}, expected {array.shape}"
    if first.dtype != array.dtype:
        return f"the gradient has dtype {first.dtype}, expected {array.dtype}"
    if not np.isfinite(first).all():
        return f"{np.sum(~np.isfinite(first))} of {first.size} entries are NaN or infinite"
    if not isinstance(second, np.ndarray) or not np.array_equal(first, second):
        return ("a second, equal backward gave another gradient: it must be assigned, not added to the last one, and "
                "follow from the forward pass alone")
    return ""


def compare(tensors: list[Tensor], limit: float | None, seed: int, nudge: float,
            entries: int = ENTRIES) -> list[GradientRow]:
    """Check every tensor.

    Parameters
    ----------
    tensors : list of Tensor
    limit : float or None
        Largest allowed error. None: 1e-10 for tensors in which the function is affine, 1e-8 for others.
    seed : int
        Decides entries and directions.
    nudge : float
        How far points near kinks may be moved; 0 skips them at once.
    entries : int
        Tensors up to this size are checked whole.

    Returns
    -------
    list of GradientRow
    """
    bases = [tensor.function() for tensor in tensors]
    fault = ""
    if not all(map(math.isfinite, bases)):
        fault = "the forward pass gave NaN or infinity"
    elif bases != [tensor.function() for tensor in tensors]:
        fault = "two equal forward passes differ: chance must follow from layer.step"
    if fault:
        return [_bare(tensor, limit, fault) for tensor in tensors]
    lines = [_lines(tensor, base, seed, entries) for tensor, base in zip(tensors, bases)]
    rng = generator(seed, "gradcheck", "places")
    places = [round(place / GRID) * GRID for place in rng.uniform(-nudge / 10, nudge / 10, MOVES)] if nudge else []
    rows = []
    with tqdm(total=len(tensors), desc="step sizes", disable=None, leave=False, unit="tensor") as bar:
        largest = max((rough_size(of_tensor) for of_tensor in lines), default=0.0)
        for tensor, of_tensor in zip(tensors, lines):
            bar.set_description(tensor.what)
            rows.append(_row(tensor, of_tensor, limit, largest, places))
            bar.update()
    return rows


def _lines(tensor: Tensor, base: float, seed: int, entries: int) -> list[Line]:
    """Return the lines to differentiate along: all entries, or some, drawn, and a direction through all of them.

    The direction has length 1 and entries of one magnitude: no entry escapes it.
    """
    array = tensor.array
    rng = generator(seed, "gradcheck", tensor.what)
    chosen = np.arange(array.size) if array.size <= entries else np.sort(rng.choice(array.size, entries, replace=False))
    lines = [Line(tensor.function, array, tuple(map(int, np.unravel_index(i, array.shape))), base) for i in chosen]
    if array.size > entries:
        direction = rng.choice([-1.0, 1.0], array.shape) / math.sqrt(array.size)
        lines.append(Line(tensor.function, array, direction, base))
    return lines


def _row(tensor: Tensor, lines: list[Line], limit: float | None, largest: float, places: list[float]) -> GradientRow:
    if tensor.analytic is None or tensor.fault:
        return _bare(tensor, limit, tensor.fault)
    slopes = find_slopes(lines, DOUBT * (limit or LAYER_LIMIT), largest, places)
    limit = limit or (EXACT_LIMIT if slopes.exact else LAYER_LIMIT)
    analytic, numeric = tensor.analytic.copy(), np.full(tensor.array.shape, np.nan)
    off = np.full(len(lines), -1.0)  # |analytic - numeric|
    for i in np.flatnonzero(slopes.trusted):
        line = lines[i]
        there = tensor.analytic if line.place == 0 else line.at(0.0, tensor.gradient)
        if line.is_entry:
            analytic[line.direction], numeric[line.direction] = there[line.direction], slopes.values[i]
        off[i] = abs((there[line.direction] if line.is_entry else np.sum(there * line.direction)) - slopes.values[i])
    checked, worst = int(slopes.trusted.sum()), int(off.argmax())
    moved = sum(line.place != 0 for line, trusted in zip(lines, slopes.trusted) if trusted)
    error = _ratio(float(off[worst]), slopes.scale) if checked else math.inf
    verdict, note = _judge(tensor.analytic, slopes, lines, error <= limit)
    direction = lines[worst].direction
    where = (direction if isinstance(direction, tuple) else DIRECTION) if checked else None
    return GradientRow(tensor.what, tensor.array.shape, analytic, numeric, checked, moved, len(lines) - checked, error,
                       limit, where, verdict, note)


def _judge(analytic: np.ndarray, slopes: Slopes, lines: list[Line], small: bool) -> tuple[str, str]:
    """Return the verdict and its reason. What is wrong where it was compared is wrong, however much was skipped."""
    skipped = int((~slopes.trusted).sum())
    if not small and slopes.trusted.any():
        return WRONG, "" if analytic.any() else "all zero"
    if skipped > SKIPPED_LIMIT * len(lines):
        return NOT_CHECKED, f"{skipped} of {len(lines)} points lie on kinks or ties"
    if not slopes.trusted[-1] and not lines[-1].is_entry:
        return NOT_CHECKED, "kinks or ties all along the random direction"
    return OK, ""


def _ratio(difference: float, scale: float) -> float:
    if difference == 0:
        return 0.0
    return difference / scale if scale > 0 else math.inf


def _bare(tensor: Tensor, limit: float | None, note: str) -> GradientRow:
    return GradientRow(tensor.what, tensor.array.shape, tensor.analytic, None, 0, 0, 0, math.inf, limit or LAYER_LIMIT,
                       None, WRONG, note)

"""Arguments: numbers and names as users give them, checked once and worded alike."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any, TypeVar

from minicnn.errors import ArgumentError, suggest

Named = TypeVar("Named")


def whole_number(what: str, value: Any, least: int = 1) -> int:
    """Return a whole number of at least ``least``, NumPy's included, or raise ArgumentError."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise ArgumentError(f"{what} is {value!r}; expected a whole number of at least {least}.")
    return number


def real_number(what: str, value: Any, low: float = 0.0, below: float = math.inf) -> float:
    """Return a number in [low, below), NumPy's included, or raise ArgumentError."""
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number < below:
        upper = "" if below == math.inf else f" and less than {below:g}"
        raise ArgumentError(f"{what} is {value!r}; expected a number of at least {low:g}{upper}.")
    return number


def pair(what: str, value: Any) -> tuple[int, int]:
    """Return (rows, columns) from one positive whole number or two, or raise ArgumentError."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    try:
        rows, columns = (whole_number(what, number) for number in values)
    except (ArgumentError, ValueError):
        raise ArgumentError(f"{what} is {value!r}; expected a positive whole number or two of them.") from None
    return rows, columns


def padding_name(what: str, value: Any) -> str:
    """Return ``"valid"`` or ``"same"`` (any case), or raise ArgumentError."""
    if not isinstance(value, str) or value.lower() not in ("valid", "same"):
        raise ArgumentError(f"{what} is {value!r}; expected 'valid' or 'same'.")
    return value.lower()


def by_name(kind: str, identifier: Any, known: Mapping[str, Named]) -> Named:
    """Return what a name stands for, or raise ArgumentError that suggests the nearest."""
    if not isinstance(identifier, str) or identifier not in known:
        raise ArgumentError(f"{identifier!r} is no {kind}. {suggest(identifier, known)}")
    return known[identifier]

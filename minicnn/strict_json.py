"""JSON from files that somebody else may have written: what Python's reader lets pass is refused by name.

Refused are keys that are there twice (readers differ in which one counts), NaN and infinity (no JSON), numbers that
overflow, and more nesting or size than any file of this library has: memory stays within 25 times ``MOST_BYTES``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from minicnn.errors import FileFormatError

MOST_BYTES = 2 << 20  # a model of a thousand layers needs half of it
MOST_CONTAINERS = 50_000  # objects and lists: the ones that need far more memory than text
MOST_DIGITS = 100  # of a whole number
OTHERS = "..."  # a key of what ``check`` expects: further keys are allowed
_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object",
          list: "a list", type(None): "null"}


def loads(content: bytes, where: str, remedy: str) -> Any:
    """Read JSON.

    Parameters
    ----------
    content : bytes
        In UTF-8.
    where : str
        The file, and which part of it: the beginning of messages.
    remedy : str
        What to do about a damaged file: the end of messages.

    Raises
    ------
    FileFormatError
        If it is no JSON, or more than it may be.
    """
    try:
        if len(content) > MOST_BYTES:
            raise ValueError(f"found {len(content):,} bytes of JSON, more than {MOST_BYTES:,}")
        if (found := content.count(b"{") + content.count(b"[")) > MOST_CONTAINERS:
            raise ValueError(f"found {found:,} opening brackets, more than {MOST_CONTAINERS:,}")
        return json.loads(content.decode(), object_pairs_hook=_object, parse_constant=_no_number,
                          parse_float=_finite, parse_int=_whole)
    except RecursionError:
        reason = "brackets are nested too deeply"
    except ValueError as error:
        reason = str(error)
    raise FileFormatError(f"{where} is no JSON this program reads: {reason}; expected valid JSON. {remedy}")


def check(value: Any, expected: Any, where: str, remedy: str, place: str = "") -> None:
    """Compare what JSON holds with what it should.

    Parameters
    ----------
    value : object
    expected : type, tuple, list of one or mapping
        A type, or several of which it must be one; ``[kind]``: a list of such; a mapping: an object with these keys,
        and no others unless ``OTHERS`` is among them.
    where, remedy : str
        As for ``loads``.
    place : str
        Of the value in the file, such as ``architecture.layers[2]``.

    Raises
    ------
    FileFormatError
        With the place, what was found there and what was expected.
    """
    if isinstance(expected, Mapping):
        _check_keys(value, expected, where, remedy, place)
        for key, kind in expected.items():
            if key != OTHERS:
                check(value[key], kind, where, remedy, f"{place}.{key}".lstrip("."))
        return
    kinds = expected if isinstance(expected, tuple) else (expected,)
    lists = [kind for kind in kinds if isinstance(kind, list)]
    if lists and isinstance(value, list):
        for number, item in enumerate(value):
            check(item, lists[0][0], where, remedy, f"{place}[{number}]")
        return
    if not any(_is(value, kind) for kind in kinds if not isinstance(kind, list)):
        words = " or ".join(_NAMES[list if isinstance(kind, list) else kind] for kind in kinds)
        _fail(where, place, _shown(value), words, remedy)


def _check_keys(value: Any, expected: Mapping[str, Any], where: str, remedy: str, place: str) -> None:
    if not isinstance(value, dict):
        _fail(where, place, _shown(value), "an object", remedy)
    missing = [key for key in expected if key != OTHERS and key not in value]
    unknown = [] if OTHERS in expected else [key for key in value if key not in expected]
    if missing:
        _fail(where, place, f"no key {missing[0]!r}", f"the keys {', '.join(key for key in expected if key != OTHERS)}",
              remedy)
    if unknown:
        _fail(where, place, f"the unknown key {unknown[0][:40]!r}", f"only {', '.join(expected)}", remedy)


def _is(value: Any, kind: Any) -> bool:
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _shown(value: Any) -> str:
    """Return a value as JSON has it, cut short."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _fail(where: str, place: str, found: str, expected: str, remedy: str) -> NoReturn:
    raise FileFormatError(f"{where}: {place or 'the whole'}: found {found}; expected {expected}. {remedy}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for number, key in enumerate(keys) if key in keys[:number])
        raise ValueError(f"the key {twice[:40]!r} is there twice")
    return made


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"found {text}, which is no finite number")


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"found a number of {len(text):,} digits, more than {MOST_DIGITS}")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number

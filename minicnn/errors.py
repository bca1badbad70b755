"""The errors a user meets, and the two helpers that word them.

Every message says three things: what was received, what was expected, and what to do about it. Each class also
derives from the built-in error Python programmers would expect to catch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class MinicnnError(Exception):
    """Base of all errors this library raises on purpose."""


class ShapeError(MinicnnError, ValueError):
    """An array has the wrong rank or the wrong sizes."""


class DataError(MinicnnError, ValueError):
    """The values of an array or a file make no sense: NaN, a label out of range, a damaged row."""


class ArgumentError(MinicnnError, ValueError):
    """An argument has a value that is not one of those expected."""


class UnsupportedError(MinicnnError, NotImplementedError):
    """A Keras argument or feature that exists there and, by choice, not here."""


class StateError(MinicnnError, RuntimeError):
    """A call that came too early: ``fit`` before ``compile``, ``backward`` before ``forward``."""


class TrainingError(MinicnnError, RuntimeError):
    """Training cannot go on: its loss is no number any more."""


class FileFormatError(MinicnnError, ValueError):
    """A file is truncated, damaged, or not of the format its name promises."""


class MissingFileError(MinicnnError, FileNotFoundError):
    """A file to be read is not there."""


class UnreadableFileError(MinicnnError, OSError):
    """A file to be read is a folder, or may not be read."""


class UnwritableFileError(MinicnnError, OSError):
    """A file or folder cannot be written: the disk is full, or nobody may write there."""


class DownloadError(MinicnnError, OSError):
    """A data set is not on this machine and no mirror delivered it."""


def suggest(name: object, options: Iterable[str]) -> str:
    """Word the end of an error message about an unknown name.

    Parameters
    ----------
    name : object
        What was received.
    options : iterable of str
        The names that exist.

    Returns
    -------
    str
        ``"Did you mean 'relu'? Known: linear, relu, ..."``; without a near match only the second sentence.
    """
    known = list(options)
    near = difflib.get_close_matches(str(name).lower(), [option.lower() for option in known], n=1, cutoff=0.5)
    by_lower = {option.lower(): option for option in known}
    hint = f"Did you mean {by_lower[near[0]]!r}? " if near else ""
    return f"{hint}Known: {', '.join(known)}."


def refuse_unsupported(owner: str, received: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]],
                       supported: str = "") -> None:
    """Refuse keyword arguments that Keras has and minicnn has not, unless they say what happens anyway.

    Parameters
    ----------
    owner : str
        The class or function called, for the message.
    received : mapping
        The surplus keyword arguments.
    allowed : mapping
        Keras' arguments that are not supported, each with the values that change nothing, the default first.
    supported : str, optional
        A sentence that says what is, for the end of the message.

    Raises
    ------
    UnsupportedError
        For a known Keras argument with any other value.
    TypeError
        For a name that is no argument at all.
    """
    end = f" {supported}" if supported else ""
    for name, value in received.items():
        if name not in allowed:
            raise TypeError(f"{owner} got an unexpected argument {name!r}. Correct or remove it.{end}")
        if not any(type(value) is type(same) and value == same for same in allowed[name]):
            raise UnsupportedError(f"{owner} got {name}={value!r}, which Keras knows and minicnn does not support; "
                                   f"only {name}={allowed[name][0]!r} is possible. Leave {name} out.{end}")

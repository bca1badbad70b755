"""Files on this machine: the user's cache folder, and how a file gets in place whole."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from minicnn.errors import ArgumentError, MissingFileError, UnreadableFileError


def checked(call: str, path: object) -> Path:
    """Return a path that somebody gave.

    Parameters
    ----------
    call : str
        Named in messages.
    path : object

    Raises
    ------
    ArgumentError
        If it is neither text nor path-like (a number would name a file this process has open), or has a NUL in it.
    """
    try:
        name = os.fspath(path)  # type: ignore[call-overload]
    except TypeError:
        name = None
    if not isinstance(name, str) or "\0" in name:
        raise ArgumentError(f"{call} got the path {path!r}; expected a text or pathlib.Path without NUL characters. "
                            "Correct the path.")
    return Path(name)


def open_to_read(call: str, path: object) -> BinaryIO:
    """Open a file for reading its bytes.

    Raises
    ------
    ArgumentError
        See ``checked``.
    MissingFileError, UnreadableFileError
        If it is not there, is a folder, or may not be read.
    """
    place = checked(call, path)
    try:
        return place.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{path}: there is no such file; expected one to read. Correct the path.") from None
    except OSError as error:
        found = "a folder" if place.is_dir() else f"no file that can be opened ({error.strerror})"
        raise UnreadableFileError(f"{path}: found {found}; expected a file to read. Correct the path.") from None


def user_cache() -> Path | None:
    """Return minicnn's folder in the user's cache, by each system's custom; None without a home folder.

    ``$MINICNN_CACHE_DIR`` replaces it, see :func:`chosen_folder`. Linux follows the XDG Base Directory Specification:
    ``$XDG_CACHE_HOME`` counts if it is an absolute path.
    """
    if chosen := chosen_folder("MINICNN_CACHE_DIR"):
        return chosen
    try:
        home = Path.home()
    except RuntimeError:
        home = None
    if sys.platform == "win32":
        base = _absolute(os.environ.get("LOCALAPPDATA")) or (home and home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home and home / "Library" / "Caches"
    else:
        base = _absolute(os.environ.get("XDG_CACHE_HOME")) or (home and home / ".cache")
    return base / "minicnn" if base else None


def chosen_folder(variable: str) -> Path | None:
    """Return the folder an environment variable names, absolute; None if it is unset or empty.

    A relative path counts from where the process was when it was first asked for: it does not move with ``os.chdir``.

    Raises
    ------
    ArgumentError
        If the path begins with the home folder (``~``, ``~name``) of somebody who has none.
    """
    text = os.environ.get(variable)
    return _resolved(variable, text) if text else None


@functools.cache
def _resolved(variable: str, text: str) -> Path:
    try:
        return Path(os.path.abspath(Path(text).expanduser()))
    except RuntimeError:
        raise ArgumentError(f"{variable} is {text!r}, and there is no such user's home folder here; expected the "
                            "path of a folder. Correct or unset it.") from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of ``path`` at the end: a reader sees the old one or the whole new one.

    Parameters
    ----------
    path : pathlib.Path
        In a folder that exists. On an error inside the ``with`` block nothing is left behind.
    """
    number, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)    # mkstemp's files are their owner's alone
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself durable, where folders can be synced (POSIX)."""
    if os.name != "posix":  # pragma: no cover - on Windows only
        return
    with contextlib.suppress(OSError):  # some network file systems refuse; the file itself is on disk
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _absolute(text: str | None) -> Path | None:
    return Path(text) if text and Path(text).is_absolute() else None

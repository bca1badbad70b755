"""Files on this machine: the user's cache folder, and how a file gets in place whole."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import secrets
import sys
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from minicnn.errors import ArgumentError, MinicnnError, MissingFileError, UnreadableFileError, UnwritableFileError


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

    What is there and is no file (``/dev/null``, a pipe) is written to as it is.

    Parameters
    ----------
    path : pathlib.Path
        In a folder that exists. On an error inside the ``with`` block nothing is left behind.

    Raises
    ------
    UnwritableFileError
        If the disk is full, or nobody may write there.
    """
    if path.exists() and not path.is_file():
        with writing(path), path.open("wb") as file:
            yield file
        return
    # named before it is made, so that whatever interrupts from here on, the name is known
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with writing(path):
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def append(file: FileIO, data: bytes) -> None:
    """Write to the end of a file that was opened without a buffer, all of the data or nothing.

    Raises
    ------
    UnwritableFileError
        If the disk is full.
    """
    end = file.seek(0, os.SEEK_END) if file.seekable() else 0
    with writing(Path(os.fsdecode(file.name))):
        try:
            while data:
                data = data[file.write(data):]
        except BaseException:
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise


def make_folder(path: Path) -> None:
    """Make a folder, and those it lies in, unless they are there.

    Raises
    ------
    UnwritableFileError
        If it cannot be made.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Word the system's errors of a ``with`` block that writes ``path``.

    Raises
    ------
    UnwritableFileError
        In place of any other OSError than the library's own; its ``errno`` is that of the system.
    """
    try:
        yield
    except MinicnnError:
        raise
    except OSError as error:
        expected, remedy = _REMEDIES.get(error.errno or 0, ("a place that can be written to", "Name another place"))
        worded = UnwritableFileError(f"{path}: it cannot be written: {error.strerror or error}; expected {expected}. "
                                     f"What was there is unchanged. {remedy}.")
        worded.errno = error.errno
        raise worded from None


_ROOM = "room for it", "Make room on the disk, or name a place on another one"
_RIGHTS = "a folder in which this user may write", "Change who may write there, or name another place"
_FOLDER = "a folder to write in, and no file in its place", "Correct the path"
_REMEDIES = {errno.ENOSPC: _ROOM, errno.EDQUOT: _ROOM, errno.EFBIG: _ROOM, errno.EACCES: _RIGHTS, errno.EPERM: _RIGHTS,
             errno.EROFS: _RIGHTS, errno.ENOTDIR: _FOLDER, errno.EEXIST: _FOLDER,
             errno.ENOENT: ("a folder that is there", "Make it first")}


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

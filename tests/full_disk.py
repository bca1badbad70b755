"""A disk that gets full: after so many calls that take room, every further one fails, as the system would let it."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from minicnn.errors import UnwritableFileError

TAKING = ("fsync", "replace", "mkdir")  # beside what is written: the calls of os for which a disk can be too full


class Disk:
    """Room for a number of calls."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.full = False

    def take(self) -> None:
        if self.room == 0:
            self.full = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= 1

    def taking(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, as one that takes room."""
        def call(*args: Any, **kwargs: Any) -> Any:
            self.take()
            return function(*args, **kwargs)
        return call


@contextlib.contextmanager
def full_after(room: int) -> Iterator[Disk]:
    """Let the disk be full after so many calls: for files opened by whatever part of Python meanwhile."""
    disk, plainly = Disk(room), io.open

    class File(io.FileIO):
        def write(self, data: Any) -> int:
            disk.take()
            return super().write(data)

    def opened(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **kwargs: Any) -> Any:
        if not set(mode) & set("wax+") or isinstance(file, int):
            return plainly(file, mode, buffering, *args, **kwargs)
        raw = File(file, mode.replace("b", "").replace("t", ""))
        if "b" in mode:
            return raw if buffering == 0 else io.BufferedWriter(raw)
        return io.TextIOWrapper(io.BufferedWriter(raw), *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        patch.setattr(io, "FileIO", File)
        for name in TAKING:
            patch.setattr(os, name, disk.taking(getattr(os, name)))
        yield disk


def refused(room: int, call: Callable[[], Any]) -> str | None:
    """Call with so much room; return the message of the library's error, or None if there was room enough."""
    try:
        with full_after(room):
            call()
    except UnwritableFileError as error:
        return str(error)
    return None


def contents(folder: Any) -> dict[str, bytes]:
    """Return what every file of a folder and of those in it holds."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file()}

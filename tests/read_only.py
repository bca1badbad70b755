"""Folders in which this user may not write, also where the user is root, whom modes do not bind otherwise."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

VERSION, DAC_OVERRIDE, DAC_READ_SEARCH = 0x20080522, 1, 2    # capset(2), capabilities(7)
PRELUDE = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import read_only; read_only.drop()\n"


def _capabilities(effective: int | None = None) -> int:
    """Return what this thread may do beyond others; or set it."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, data):
        raise OSError(ctypes.get_errno(), "capget")
    found = data[0]
    if effective is not None:
        data[0] = effective
        if libc.capset(header, data):
            raise OSError(ctypes.get_errno(), "capset")
    return found


def drop() -> None:
    """Bind this process to the modes of files, as if it were anybody's: for a child process."""
    if os.geteuid() == 0:
        _capabilities(_capabilities() & ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH))


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder and all in it read-only, and bind this thread to that."""
    if os.name != "posix" or (os.geteuid() == 0 and not sys.platform.startswith("linux")):
        pytest.skip("modes of files do not bind this user on this system")
    places = [folder, *folder.rglob("*")]
    modes = [(place, place.stat().st_mode) for place in places]
    before = _capabilities() if os.geteuid() == 0 else 0
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)
    try:
        drop()
        yield
    finally:
        if os.geteuid() == 0:
            _capabilities(before)
        for place, mode in modes:
            place.chmod(mode)

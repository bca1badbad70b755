"""Where data files lie: the folders looked in, those a download goes to, and how a file gets there whole."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def places(name: str) -> list[Path]:
    """List the folders a data set is looked for in, best first; they need not exist.

    Parameters
    ----------
    name : str
        Of the data set, and of its folder: ``"mnist"``, ``"kaggle"``.

    Returns
    -------
    list of pathlib.Path
        ``$MINICNN_DATA/name``, ``data/name`` of the checkout minicnn is imported from, the user's cache; those of
        the three that apply.
    """
    chosen = os.environ.get("MINICNN_DATA")
    folders = (Path(chosen).expanduser() if chosen else None, checkout_data(), user_cache())
    return [folder / name for folder in folders if folder is not None]


def download_place(name: str) -> Path | None:
    """Return the folder a download goes to: the checkout's or else the user's cache; None if neither is writable."""
    for folder in (checkout_data(), user_cache()):
        if folder is not None and _writable(folder / name):
            return folder / name
    return None


def checkout_data() -> Path | None:
    """Return ``data/`` of the checkout, or None when minicnn is installed somewhere else."""
    checkout = checkout_root()
    return None if checkout is None else checkout / "data"


def checkout_root() -> Path | None:
    """Return the source tree minicnn is imported from; None for an installed copy."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "setup.cfg").is_file() and (root / "experiments").is_dir() else None


def user_cache() -> Path | None:
    """Return minicnn's folder in the user's cache, by each system's custom; None without a home folder.

    ``$MINICNN_CACHE_DIR`` replaces it. Linux follows the XDG Base Directory Specification: ``$XDG_CACHE_HOME`` counts
    if it is an absolute path.
    """
    if override := os.environ.get("MINICNN_CACHE_DIR"):
        return Path(override).expanduser()
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


def _writable(folder: Path) -> bool:
    """Whether files can be made in the folder, which is created if need be. Permission bits alone do not tell."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _absolute(text: str | None) -> Path | None:
    return Path(text) if text and Path(text).is_absolute() else None


@contextmanager
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

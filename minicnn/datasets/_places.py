"""Where data files lie: the folders looked in, and the one a download goes to."""

from __future__ import annotations

import os
import sys
from pathlib import Path


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
    """Return the folder a download goes to: the checkout's, else the user's cache; None where there is neither."""
    folders = [folder for folder in (checkout_data(), user_cache()) if folder is not None]
    return folders[0] / name if folders else None


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

    Linux follows the XDG Base Directory Specification: ``$XDG_CACHE_HOME`` counts if it is an absolute path.
    """
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


def _absolute(text: str | None) -> Path | None:
    return Path(text) if text and Path(text).is_absolute() else None

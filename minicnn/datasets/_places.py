"""Where data files lie: the folders looked in, and those a download goes to."""

from __future__ import annotations

import tempfile
from pathlib import Path

from minicnn.files import chosen_folder, user_cache


def places(name: str) -> list[Path]:
    """List the folders a data set is looked for in, best first; they need not exist.

    Parameters
    ----------
    name : str
        Of the data set, and of its folder: ``"mnist"``, ``"kaggle"``.

    Returns
    -------
    list of pathlib.Path
        ``$MINICNN_DATA/name``, ``$MINICNN_DATA`` itself, ``data/name`` of the checkout minicnn is imported from,
        ``name`` in the user's cache; those that apply.
    """
    chosen = chosen_folder("MINICNN_DATA")
    named = [] if chosen is None else [chosen / name, chosen]
    return named + [folder / name for folder in (checkout_data(), user_cache()) if folder is not None]


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


def _writable(folder: Path) -> bool:
    """Whether files can be made in the folder, which is created if need be. Permission bits alone do not tell."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False

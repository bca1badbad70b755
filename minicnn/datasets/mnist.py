"""MNIST (placeholder of the finder; the reader follows)."""

from __future__ import annotations

from pathlib import Path

from minicnn.datasets._places import places

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def find() -> Path | None:
    """Return the first folder that holds the four files, without any download."""
    for folder in places("mnist"):
        if all((folder / name).is_file() or (folder / f"{name}.gz").is_file() for name in FILES):
            return folder
    return None

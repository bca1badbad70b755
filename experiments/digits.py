"""The images a run trains on and is judged on: MNIST, strokes where MNIST cannot be had, or a folder of IDX files."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.datasets import mnist, strokes
from minicnn.errors import ArgumentError, DownloadError, suggest

VALIDATION = 1 / 12  # of the training images, the last ones: 5,000 of MNIST's 60,000


@dataclass(frozen=True)
class Digits:
    """Images as the files have them, uint8, and where they come from.

    Attributes
    ----------
    name : str
        ``"MNIST"``, ``"strokes"`` or the folder's name: what was used, never what was asked for. MNIST is what has
        its digests.
    x_train, y_train, x_test, y_test : ndarray
        Images (N, H, W) of uint8 and labels (N,).
    fallback : str or None
        Why MNIST was asked for and is not used.
    """

    name: str
    x_train: NDArray[np.uint8]
    y_train: NDArray[np.uint8]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.uint8]
    fallback: str | None = None

    @property
    def classes(self) -> int:
        """One more than the largest label; ten at least, for digits."""
        return max(10, int(max(self.y_train.max(), self.y_test.max())) + 1)

    @property
    def validation(self) -> int:
        """How many of the last training images are held out."""
        return round(len(self.x_train) * VALIDATION)

    def limited(self, limit: int | None) -> Digits:
        """Keep the first ``limit`` training images; the test images stay whole."""
        if limit is None:
            return self
        return Digits(self.name, self.x_train[:limit], self.y_train[:limit], self.x_test, self.y_test, self.fallback)

    def describe(self) -> str:
        """Say in one line what there is."""
        held_out = f" (the last {self.validation:,} held out for validation)" if self.validation else ""
        return (f"{self.name}, {len(self.x_train):,} training images{held_out} and {len(self.x_test):,} test images")

    def record(self) -> dict[str, Any]:
        """Return what a result file keeps of the data."""
        digests = {key: hashlib.sha256(np.ascontiguousarray(getattr(self, key)).data).hexdigest()
                   for key in ("x_train", "y_train", "x_test", "y_test")}
        return {"name": self.name, "training_images": len(self.x_train) - self.validation,
                "validation_images": self.validation, "test_images": len(self.x_test), "fallback": self.fallback,
                "sha256": digests}


def load(choice: str, allow_fallback: bool = True) -> Digits:
    """Read the images of ``--data``.

    Parameters
    ----------
    choice : str
        ``"mnist"``, ``"strokes"``, or a folder with four IDX files.
    allow_fallback : bool
        Where MNIST cannot be had, say so loudly and draw strokes instead.

    Returns
    -------
    Digits

    Raises
    ------
    ArgumentError
        If ``choice`` is none of these.
    DownloadError
        If MNIST cannot be had and no fallback is allowed.
    """
    if choice == "strokes":
        return _strokes()
    if choice == "mnist":
        try:
            return _digits("MNIST", mnist.load_data())
        except DownloadError as error:
            if not allow_fallback:
                raise
            _warn_loudly(str(error))
            return _strokes(fallback=str(error))
    folder = Path(choice).expanduser()
    if not folder.is_dir():
        raise ArgumentError(f"--data got {choice!r}, which is neither a data set nor a folder. "
                            f"{suggest(choice, ('mnist', 'strokes'))}")
    arrays = mnist.load_data(folder)
    return _digits("MNIST" if mnist.is_original(arrays) else _folder_name(folder), arrays)


def scaled(x: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scale pixels to [0, 1] and add the channel axis: (N, H, W) to (N, H, W, 1)."""
    return np.divide(x, 255, dtype=np.float32)[..., None]


def _folder_name(folder: Path) -> str:
    """Return what to call a folder's data: its name, but nothing that could be taken for one of our own."""
    name = folder.resolve().name
    return name if name.lower() not in ("", "mnist", "strokes") else f"folder {name or folder.resolve()}"


def _digits(name: str, arrays: Any, fallback: str | None = None) -> Digits:
    (x_train, y_train), (x_test, y_test) = arrays
    return Digits(name, x_train, y_train, x_test, y_test, fallback)


def _strokes(fallback: str | None = None) -> Digits:
    print("Drawing 70,000 strokes digits ...", flush=True)
    return _digits("strokes", strokes.load_data(), fallback)


def _warn_loudly(reason: str) -> None:
    bar = "*" * 100
    print(f"{bar}\nMNIST CANNOT BE HAD. Training on STROKES instead: digits drawn by this program.\n"
          f"No number below is an accuracy on MNIST. Why: {reason}\n{bar}", file=sys.stderr, flush=True)

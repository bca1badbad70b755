"""The images a run trains on and is judged on: MNIST, strokes where MNIST cannot be had, a folder, or a CSV file."""

from __future__ import annotations

import functools
import hashlib
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.datasets import kaggle, mnist, strokes
from minicnn.datasets.duplicates import occurring
from minicnn.errors import ArgumentError, DataError, DownloadError, suggest
from minicnn.streams import generator

VALIDATION = 1 / 12     # of the training images, the last ones: 5,000 of MNIST's 60,000
OWN_TEST = 1 / 7        # of a CSV file without test images beside it, rows drawn at random: 6,000 of Kaggle's 42,000
CHOICES = ("mnist", "csv", "strokes")
CLASSES = 10


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
    source : str
        What ``load`` has to be given to have the same again; of a folder, its whole path.
    limit : int or None
        That of ``limited``.
    held_out : float
        Share of the training images that ``validation`` counts.
    own_test : bool
        Whether the test images are rows split off from the file that is trained on.
    """

    name: str
    x_train: NDArray[np.uint8]
    y_train: NDArray[np.uint8]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.uint8]
    fallback: str | None = None
    source: str = "mnist"
    limit: int | None = None
    held_out: float = VALIDATION
    own_test: bool = False

    @property
    def disputed(self) -> tuple[int, ...]:
        """Numbers of the test images whose labels are doubtful; known for MNIST only."""
        return mnist.DISPUTED if self.name == "MNIST" else ()

    @property
    def classes(self) -> int:
        """How many digits there are; other labels are refused."""
        return CLASSES

    @property
    def validation(self) -> int:
        """How many of the last training images are held out."""
        return round(len(self.x_train) * self.held_out)

    @property
    def trained(self) -> NDArray[np.uint8]:
        """The images that are trained on: those that are not held out, (M, H, W)."""
        return self.x_train[:len(self.x_train) - self.validation]

    @functools.cached_property
    def repeated(self) -> dict[str, int]:
        """How many validation and test images are among those trained on: these are remembered, not read."""
        held_out = self.x_train[len(self.trained):]
        return {part: len(occurring(x, self.trained)) for part, x in (("validation", held_out), ("test", self.x_test))}

    def limited(self, limit: int | None) -> Digits:
        """Keep the first ``limit`` training images; the test images stay whole."""
        if limit is None:
            return self
        return replace(self, x_train=self.x_train[:limit], y_train=self.y_train[:limit], limit=limit)

    def holding_out(self, share: float) -> Digits:
        """Hold out another share of the training images for validation."""
        return replace(self, held_out=share)

    def describe(self) -> str:
        """Say in one line what there is."""
        held_out = f" (the last {self.validation:,} held out for validation)" if self.validation else ""
        return (f"{self.name}, {len(self.x_train):,} training images{held_out} and {len(self.x_test):,} test images"
                + (", drawn at random from the file" if self.own_test else ""))

    def cautions(self) -> list[str]:
        """Say what makes an accuracy on the test images worth less than it looks; nothing, if all is well."""
        return cautions(self.record())

    def record(self) -> dict[str, Any]:
        """Return what a result file keeps of the data."""
        digests = {key: hashlib.sha256(np.ascontiguousarray(getattr(self, key)).data).hexdigest()
                   for key in ("x_train", "y_train", "x_test", "y_test")}
        return {"name": self.name, "training_images": len(self.x_train) - self.validation,
                "validation_images": self.validation, "test_images": len(self.x_test), "fallback": self.fallback,
                "own_test": self.own_test, "repeated": self.repeated, "sha256": digests}


def cautions(record: dict[str, Any]) -> list[str]:
    """Say the same of what a result file keeps of the data."""
    found = []
    if record["fallback"]:
        found.append("MNIST could not be had; these are digits drawn by the program, and no number is one on MNIST.")
    if record["own_test"]:
        found.append(f"The test images are {record['test_images']:,} rows of {record['name']}, drawn at random and "
                     "split off before training. This is no accuracy on MNIST: Kaggle's training file holds thousands "
                     "of MNIST's test images.")
    for part, count in record["repeated"].items():
        if count:
            found.append(f"{count:,} of the {record[f'{part}_images']:,} {part} images {'is' if count == 1 else 'are'} "
                         "among the training images too: right answers there may be remembered, not read.")
    return found


def load(choice: str, allow_fallback: bool = True) -> Digits:
    """Read the images of ``--data``.

    Parameters
    ----------
    choice : str
        ``"mnist"``; ``"csv"``: the same by way of CSV files; ``"strokes"``; a folder with four IDX files; or a CSV file
        with the label first. If its name has "train" in it and there is such a file with "test" in place of it that has
        labels, the test images are those; or else some rows are split off for them, the same for every seed.
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
    DataError, FileFormatError
        If a file is damaged, a CSV file has no labels, or a label is no digit.
    """
    if choice == "strokes":
        return _strokes()
    if choice in ("mnist", "csv"):
        try:
            arrays = mnist.load_data()
            return _digits("MNIST", _through_csv(arrays) if choice == "csv" else arrays, choice)
        except DownloadError as error:
            if not allow_fallback:
                raise
            _warn_loudly(str(error))
            return _strokes(fallback=str(error))
    path = Path(choice).expanduser()
    if path.is_file() or path.parent.is_file():  # the latter: a file in a zip file
        return of_table(path, *_labelled(path))
    if not path.is_dir() or not choice:
        raise ArgumentError(f"--data got {choice!r}, which is neither a data set nor a folder nor a file; expected "
                            "one of them. "
                            f"{suggest(choice, CHOICES)}")
    return _digits(_folder_name(path), mnist.load_data(path), str(path.resolve()))


def scaled(x: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scale pixels to [0, 1] and add the channel axis: (N, H, W) to (N, H, W, 1)."""
    return np.divide(x, 255, dtype=np.float32)[..., None]


def _folder_name(folder: Path) -> str:
    """Return what to call a folder's data: its name, but nothing that could be taken for one of our own."""
    name = folder.resolve().name
    return name if name.lower() not in ("", *CHOICES) else f"folder {name or folder.resolve()}"


def _digits(name: str, arrays: Any, source: str, fallback: str | None = None) -> Digits:
    """Put arrays together; what is MNIST's, to the last byte, is called so wherever it comes from.

    Raises
    ------
    DataError
        For a label that is no digit.
    """
    (x_train, y_train), (x_test, y_test) = arrays
    for part, y in (("training", y_train), ("test", y_test)):
        if (wrong := np.flatnonzero(y >= CLASSES)).size:
            raise DataError(f"{source}: {part} image {wrong[0] + 1}: found the label {y[wrong[0]]}; expected digits "
                            f"from 0 to {CLASSES - 1}. Correct the label, or leave such images out.")
    name = "MNIST" if name != "MNIST" and mnist.is_original(arrays) else name
    return Digits(name, x_train, y_train, x_test, y_test, fallback, source)


def _through_csv(arrays: Any) -> Any:
    """Write training and test images as CSV files, the label first, and return what is read from these."""
    print("Writing MNIST as CSV files, and reading these ...", flush=True)
    with tempfile.TemporaryDirectory() as place:
        files = [Path(place) / name for name in ("mnist_train.csv", "mnist_test.csv")]
        for file, (x, y) in zip(files, arrays):
            kaggle.write_csv(file, x, y)
        return [_labelled(file) for file in files]


def of_table(path: Path, x: NDArray[np.uint8], y: NDArray[np.uint8]) -> Digits:
    """Take the images of a CSV file for training, and for the test what lies beside it or a part of them.

    Raises
    ------
    DataError
        If what lies beside it is damaged or of another size, or if there are too few images.
    """
    twin = path.with_name(path.name.replace("train", "test"))
    if twin != path and twin.is_file() and kaggle.find_layout(twin).labelled:
        x_test, y_test = _labelled(twin)
        if x_test.shape[1:] != x.shape[1:]:
            raise DataError(f"{path} has images of {x.shape[1:]}, {twin} of {x_test.shape[1:]}; expected one size. "
                            "Take both files from the same data set.")
        return _digits(path.name, ((x, y), (x_test, y_test)), str(path.resolve()))
    train, test = split(len(x))
    if not len(train) or not len(test):
        raise DataError(f"{path} has {len(x)} images, too few to split test images off; expected at least "
                        "four. Give a file with more rows.")
    data = _digits(path.name, ((x[train], y[train]), (x[test], y[test])), str(path.resolve()))
    return replace(data, own_test=True)


def split(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows of a file that are trained on and those that are tested on, both in its order.

    They are drawn, for a file may be sorted by its labels.
    """
    order = generator(0, "own test").permutation(count)
    tests = round(count * OWN_TEST)
    return np.sort(order[tests:]), np.sort(order[:tests])


def _labelled(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    x, y = kaggle.read_csv(path)
    if y is None:
        raise DataError(f"{path} has no labels; expected the label in the first column. To train, give a file that has "
                        "them, such as train.csv.")
    return x, y


def _strokes(fallback: str | None = None) -> Digits:
    print("Drawing 70,000 strokes digits ...", flush=True)
    return _digits("strokes", strokes.load_data(), "strokes", fallback)


def _warn_loudly(reason: str) -> None:
    bar = "*" * 100
    print(f"{bar}\nMNIST CANNOT BE HAD. Training on STROKES instead: digits drawn by this program.\n"
          f"No number below is an accuracy on MNIST. Why: {reason}\n{bar}", file=sys.stderr, flush=True)

"""The files of Kaggle's competition "Digit Recognizer", and other images in CSV files.

``train.csv`` has 42,000 digits, the label first; ``test.csv`` 28,000 without labels. Both are drawn from MNIST's
70,000, so that ``train.csv`` holds thousands of MNIST's *test* images: a network trained on it must not be judged on
those. Files with the label first and no header (``mnist_train.csv``) are read as well, and images of other sizes, as
long as they are square.

Kaggle gives the files to registered users only: https://www.kaggle.com/c/digit-recognizer/data. Download them there.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from minicnn.datasets import _places
from minicnn.datasets._csv import Fault, Layout, find_layout, scan, sentence
from minicnn.datasets._text import AGAIN, opened
from minicnn.errors import ArgumentError, DataError, FileFormatError
from minicnn.files import checked, replacing

CELLS = 6_000_000  # of text that pandas holds beside the result; 7,600 rows of 785
TEST_ROWS = 28_000  # of the competition's test.csv, and so of a submission
ARCHIVE = "digit-recognizer.zip"  # what Kaggle packs all files into

Images = NDArray[np.uint8]


class Examined(NamedTuple):
    """A file read as far as possible.

    Attributes
    ----------
    x : (N, H, W) uint8 array
        0 where a cell is missing or wrong.
    y : (N,) uint8 array or None
        Labels, likewise.
    layout : Layout
    faults : list of Fault
        One for each row that is not as it should be.
    """

    x: Images
    y: Images | None
    layout: Layout
    faults: list[Fault]


def load_data(path: str | os.PathLike[str] | None = None) -> tuple[tuple[Images, Images], Images]:
    """Load the competition's training and test images.

    Parameters
    ----------
    path : path-like, optional
        A folder with ``train.csv`` and ``test.csv``, plain, gzipped (``.csv.gz``) or zipped (``.csv.zip``), or with
        ``digit-recognizer.zip``. Default: the first of ``$MINICNN_DATA/kaggle``, ``$MINICNN_DATA``, ``data/kaggle`` of
        the checkout and ``kaggle`` in the user's cache that has both.

    Returns
    -------
    (x_train, y_train), x_test
        Images uint8, (42000, 28, 28) and (28000, 28, 28), ink 255 on 0; labels uint8 (42000,).

    Raises
    ------
    ArgumentError
        If the files are not there; they cannot be downloaded without an account.
    FileFormatError, DataError
        See :func:`read_csv`; and DataError if the two do not look like the competition's: labels that are no digits,
        test images that have labels, or are of another size.
    """
    folders = [checked("kaggle.load_data", path)] if path is not None else _places.places("kaggle")
    for folder in folders:
        train, test = find(folder, "train"), find(folder, "test")
        if train is not None and test is not None:
            x, y = read_csv(train)
            if y is None:
                raise DataError(f"{train} has no labels; expected the label in the first column. {AGAIN}")
            x_test, answers = read_csv(test)
            _check_competition(train, x, y, test, x_test, answers)
            return (x, y), x_test
    raise ArgumentError(f"train.csv and test.csv are not in {', '.join(map(str, folders)) or 'any folder'}. Get them "
                        "from https://www.kaggle.com/c/digit-recognizer/data and copy them to one of these, as "
                        "expected.")


def find(folder: str | os.PathLike[str], name: str) -> Path | None:
    """Return the path of ``train`` or ``test`` in a folder, in whichever form it is there; None if it is not."""
    folder = Path(folder)
    for ending in (".csv", ".csv.gz", ".csv.zip"):
        if (folder / f"{name}{ending}").is_file():
            return folder / f"{name}{ending}"
    return folder / ARCHIVE / f"{name}.csv" if (folder / ARCHIVE).is_file() else None


def read_csv(path: str | os.PathLike[str]) -> tuple[Images, Images | None]:
    """Read images from a CSV file.

    One row an image, its pixels row by row; the label before them, if there is one, which shows by the number of
    columns: 785 or 784 for images of 28 x 28. The first line may be a header.

    Parameters
    ----------
    path : path-like
        Plain, gzipped or zipped; ``digit-recognizer.zip/train.csv`` names a file in a zip file.

    Returns
    -------
    x : (N, H, H) uint8 array
    y : (N,) uint8 array or None
        Labels, if the file has any.

    Raises
    ------
    DataError
        If a cell is missing or no whole number from 0 to 255; the message names row and column.
    FileFormatError
        If the file is truncated, damaged, or no table of images.
    OSError
        If it cannot be opened.
    """
    layout = find_layout(path)
    try:
        if layout.surplus:
            raise ValueError("the first row is longer than the header")
        x, y = _split(_chunks(path, layout), layout)
    except (ValueError, OverflowError) as error:  # of pandas: it names a column at most
        if isinstance(error, (FileFormatError, DataError)):
            raise
        for _, fault in scan(path, layout):
            if fault is not None:
                raise DataError(f"{path}: {sentence(fault, layout)}; expected a whole number from 0 to 255 in each of "
                                f"{len(layout.names)} columns. {AGAIN} experiments/explore.py lists all such "
                                "cells.") from None
        raise FileFormatError(f"{path} cannot be read as a table of numbers ({error}); expected digits and "
                              f"commas. {AGAIN}") from error
    _require_rows(path, x)
    return x, y


def examine(path: str | os.PathLike[str]) -> Examined:
    """Read a file with damaged rows as far as possible, and say what is wrong with each.

    Parameters
    ----------
    path : path-like
        As for :func:`read_csv`.

    Returns
    -------
    Examined

    Raises
    ------
    FileFormatError, DataError, OSError
        As for :func:`read_csv`, except for cells and rows.
    """
    layout = find_layout(path)
    try:
        return Examined(*read_csv(path), layout, [])
    except DataError:
        values, faults = [], []
        for row, fault in scan(path, layout):
            values.append(np.frombuffer(row, np.uint8))
            faults += [fault] if fault is not None else []
    x, y = _split([np.stack(values)] if values else [], layout)
    _require_rows(path, x)
    return Examined(x, y, layout, faults)


def write_csv(path: str | os.PathLike[str], x: Images, y: Images | None = None, header: bool = True) -> None:
    """Write images as a CSV file that :func:`read_csv` reads, gzipped if the name ends in ``.gz``.

    Parameters
    ----------
    path : path-like
    x : (N, H, H) uint8 array
    y : (N,) uint8 array, optional
        Labels, written first.
    header : bool
        Whether the first line is ``label,pixel0,pixel1,...``.

    Raises
    ------
    ArgumentError
        If the arrays are no square images of uint8 and as many labels.
    """
    if not isinstance(x, np.ndarray) or (y is not None and not isinstance(y, np.ndarray)):
        raise ArgumentError(f"write_csv got {type(x).__name__} as images; expected arrays of uint8. Convert them with "
                            "np.asarray.")
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[1] != x.shape[2] or not x.size or (
            y is not None and (y.dtype != np.uint8 or y.shape != x.shape[:1])):
        raise ArgumentError(f"write_csv got images {x.dtype} {x.shape}"
                            + ("" if y is None else f" and labels {y.dtype} {y.shape}")
                            + "; expected uint8 (N, H, H) and (N,). Convert with astype(np.uint8).")
    rows = x.reshape(len(x), -1) if y is None else np.column_stack([y, x.reshape(len(x), -1)])
    names = [*(["label"] if y is not None else []), *(f"pixel{k}" for k in range(x[0].size))]
    text = [str(value) for value in range(256)]
    with replacing(Path(path)) as plain:
        file = gzip.GzipFile(fileobj=plain, mode="wb", mtime=0) if str(path).endswith(".gz") else plain
        if header:
            file.write((",".join(names) + "\n").encode())
        for row in rows:
            file.write((",".join([text[value] for value in row.tolist()]) + "\n").encode())
        if file is not plain:
            file.close()


def write_submission(path: str | os.PathLike[str], labels: ArrayLike) -> None:
    """Write the answer to ``test.csv``: ``ImageId`` from 1 and ``Label``; the whole file or nothing.

    Parameters
    ----------
    path : path-like
    labels : (N,) array_like of int
        Digits from 0 to 9, in the order of the rows.

    Raises
    ------
    DataError
        If labels are missing, or one is no digit; nothing is written then.
    """
    digits = np.asarray(labels)
    if digits.ndim != 1 or not digits.size or digits.dtype.kind not in "iu":
        raise DataError(f"write_submission got labels of type {digits.dtype} and shape {digits.shape}; expected whole "
                        "numbers (N,). Of probabilities (N, 10), take .argmax(axis=1).")
    if not ((digits >= 0) & (digits <= 9)).all():
        row = int(((digits < 0) | (digits > 9)).argmax())
        raise DataError(f"write_submission got the label {digits[row]} for image {row + 1}; expected digits from 0 to "
                        "9. Predict with a network for ten digits.")
    rows = [f"{number},{label}\n" for number, label in enumerate(digits.tolist(), start=1)]
    with replacing(Path(path)) as file:
        file.write("".join(["ImageId,Label\n", *rows]).encode())


def _chunks(path: str | os.PathLike[str], layout: Layout) -> list[Images]:
    """Read the rows with pandas, so many at a time that their text takes less room than the result."""
    header, rows = 0 if layout.header else None, max(1, CELLS // len(layout.names))
    # invalid: a number beyond all integers is refused for what its conversion gives
    with opened(path) as file, np.errstate(invalid="ignore"), pd.read_csv(
            file, header=header, index_col=False, dtype="uint8", chunksize=rows) as reader:
        return [chunk.to_numpy() for chunk in reader]


def _split(parts: list[Images], layout: Layout) -> tuple[Images, Images | None]:
    """Join rows to images (N, H, H) and labels (N,); ``parts`` is emptied, so that all is not in memory twice."""
    N = sum(map(len, parts))
    x = np.empty((N, layout.side, layout.side), np.uint8)
    y = np.empty(N, np.uint8) if layout.labelled else None
    pixels, end = x.reshape(N, layout.side * layout.side), N
    while parts:
        rows = parts.pop()
        start, end = end - len(rows), end - len(rows)
        pixels[start:start + len(rows)] = rows[:, int(layout.labelled):]
        if y is not None:
            y[start:start + len(rows)] = rows[:, 0]
    return x, y


def _require_rows(path: str | os.PathLike[str], x: Images) -> None:
    if not len(x):
        raise DataError(f"{path} has a header and no row; expected at least one image. {AGAIN}")


def _check_competition(train: Path, x: Images, y: NDArray[np.uint8], test: Path, x_test: Images,
                       answers: NDArray[np.uint8] | None) -> None:
    """Refuse files that have changed places, or are none of the competition's."""
    if answers is not None:
        raise DataError(f"{test} has labels in its first column; expected images alone. Perhaps it is train.csv: "
                        f"{AGAIN}")
    if x_test.shape[1:] != x.shape[1:]:
        raise DataError(f"{train} has images of {x.shape[1:]}, {test} of {x_test.shape[1:]}; expected one size. "
                        f"{AGAIN}")
    if (y > 9).any():
        row = int((y > 9).argmax())
        raise DataError(f"{train}: row {row}: found the label {y[row]}; expected digits from 0 to 9. {AGAIN}")

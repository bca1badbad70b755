"""Images in CSV files: one row an image, a column a pixel, the label first if there is one.

Here is what needs no pandas: opening the file, finding out its layout from the first two lines, and saying, cell by
cell, what is wrong with a file that could not be read.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from minicnn.errors import ArgumentError, FileFormatError

GZIP_MAGIC, ZIP_MAGIC = b"\x1f\x8b", b"PK\x03\x04"
LONGEST_LINE = 2**20  # bytes; 784 pixels of three digits and their commas are 3,136
VALUES = {str(value): value for value in range(256)}
NOTHING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
AGAIN = "Get the file again."


class Layout(NamedTuple):
    """What the columns of a file are.

    Attributes
    ----------
    names : tuple of str
        Of the columns, from the header or else their numbers.
    header : bool
        Whether the first line has names.
    labelled : bool
        Whether the first column is the label.
    side : int
        Rows and columns of an image.
    surplus : int
        How many cells the row after the header has too many; pandas would drop them.
    """

    names: tuple[str, ...]
    header: bool
    labelled: bool
    side: int
    surplus: int


class Fault(NamedTuple):
    """What is wrong with one row.

    Attributes
    ----------
    row : int
        Number of the image, from 0.
    line : int
        Of the file, from 1.
    missing : list of int
        Columns, from 0, in which nothing stands.
    wrong : list of (int, str)
        Columns, and what stands there in place of a whole number from 0 to 255.
    surplus : int
        How many cells too many.
    """

    row: int
    line: int
    missing: list[int]
    wrong: list[tuple[int, str]]
    surplus: int = 0


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file, plain, gzipped or zipped (the content decides, not the name); ``all.zip/train.csv`` names a member.

    Raises
    ------
    FileFormatError
        If it is damaged, also when that shows while it is read.
    ArgumentError
        If a zip file holds several CSV files and none is named.
    OSError
        If it cannot be opened.
    """
    place, member = Path(path), None
    if place.parent.is_file():
        place, member = place.parent, place.name
    try:
        with open(place, "rb") as raw:
            magic = raw.read(4)
            raw.seek(0)
            if magic == ZIP_MAGIC:
                with zipfile.ZipFile(raw) as archive, archive.open(_member(place, archive, member)) as file:
                    yield cast(BinaryIO, file)
            elif member is not None:
                raise FileFormatError(f"{place} is no zip file, so there is no {member} in it. Correct the path.")
            elif magic[:2] == GZIP_MAGIC:
                with gzip.GzipFile(fileobj=raw) as file:
                    yield cast(BinaryIO, file)
            else:
                yield raw
    except EOFError:
        raise FileFormatError(f"{path}: the compressed data ends too early; the file is truncated. {AGAIN}") from None
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        raise FileFormatError(f"{path}: the compressed data is damaged ({error}). {AGAIN}") from None


def find_layout(path: str | os.PathLike[str]) -> Layout:
    """Return the layout of a file, from its first two lines.

    Raises
    ------
    FileFormatError
        If it is empty, or no table of square images.
    """
    with opened(path) as file:
        lines = [file.readline(LONGEST_LINE).decode("utf-8-sig", "replace") for _ in range(2)]
    try:
        first, second = ([cell.strip() for cell in next(csv.reader([line]), [])] for line in lines)
    except csv.Error as error:
        raise FileFormatError(f"{path}: the first lines are no table ({error}). {AGAIN}") from None
    if not first:
        raise FileFormatError(f"{path}: found an empty first line; expected a row of a table. {AGAIN}")
    header = _is_header(first)
    labelled = _side(len(first) - 1) is not None
    side = _side(len(first) - labelled)
    labels = [k for k, name in enumerate(first) if header and name.lower() == "label"]
    if side is None or labels not in ([], [0]) or (labels == [0]) > labelled:
        raise FileFormatError(f"{path}: found {len(first)} columns{_called(first, header)}; expected one a pixel, a "
                              f"square number such as 784, and before them the label if there is one. {_advice(first)}")
    names = tuple(first) if header else tuple(map(str, range(len(first))))
    return Layout(names, header, labelled, side, max(0, len(second) - len(first)) if header else 0)


def scan(path: str | os.PathLike[str], layout: Layout) -> Iterator[tuple[bytes, Fault | None]]:
    """Read a file row by row: the values, 0 where there is none, and what is wrong with the row.

    Raises
    ------
    FileFormatError
        If it is damaged in another way: its compression, or its quotation marks.
    """
    columns = len(layout.names)
    with opened(path) as file, io.TextIOWrapper(file, "utf-8-sig", "replace", newline="") as text:
        reader = csv.reader(text)
        try:
            rows = (cells for cells in reader if cells)
            if layout.header:
                next(rows, None)
            for number, cells in enumerate(rows):
                try:
                    values = bytes([VALUES[cell] for cell in cells])
                except KeyError:
                    values = b""
                yield (values, None) if len(values) == columns else _examined(number, reader.line_num, cells, columns)
        except csv.Error as error:
            raise FileFormatError(f"{path}: line {reader.line_num} is no row of a table ({error}). "
                                  f"{AGAIN}") from None


def sentence(fault: Fault, layout: Layout) -> str:
    """Say where the first of a row's faults is, and how many there are."""
    where = f"row {fault.row} (line {fault.line} of the file)"
    if fault.surplus:
        return f"{where} has {len(layout.names) + fault.surplus} cells"
    count = len(fault.missing) + len(fault.wrong)
    column, text = min([*((column, "") for column in fault.missing), *fault.wrong])
    others = f", the first of {count} such cells of this row" if count > 1 else ""
    found = "nothing" if column in fault.missing else repr(text)
    return f"{where}, column {column} ({layout.names[column]!r}): found {found}{others}"


def _examined(number: int, line: int, cells: list[str], columns: int) -> tuple[bytes, Fault | None]:
    """Return the values of a row with unusual cells, and what is wrong with it, if anything."""
    values, missing, wrong = bytearray(columns), list(range(len(cells), columns)), []
    for column, cell in enumerate(cells[:columns]):
        text = cell.strip()
        value = float(text) if _is_number(text) else math.nan
        if value in range(256):
            values[column] = int(value)
        elif text.lower() in NOTHING:
            missing.append(column)
        else:
            wrong.append((column, text[:20]))
    surplus = max(0, len(cells) - columns)
    fault = Fault(number, line, sorted(missing), wrong, surplus) if missing or wrong or surplus else None
    return bytes(values), fault


def _member(place: Path, archive: zipfile.ZipFile, name: str | None) -> str:
    """Return the full name of the one CSV file meant."""
    found = [member for member in archive.namelist() if not member.startswith("__MACOSX")
             and (Path(member).name == name if name else member.lower().endswith(".csv"))]
    if len(found) == 1:
        return found[0]
    inside = ", ".join(sorted(archive.namelist())[:8])
    raise ArgumentError(f"{place} holds {inside}; expected one CSV file{f' {name}' if name else ''}. Name one of them, "
                        f"such as {place / 'train.csv'}.")


def _side(pixels: int) -> int | None:
    """Return the rows of a square image; None for a number that is no square, or of a single pixel."""
    side = math.isqrt(max(pixels, 0))
    return side if side > 1 and side * side == pixels else None


def _is_header(first: list[str]) -> bool:
    """Tell whether the cells of the first line are names; a few that are no numbers may be damage."""
    counted = len(first) > 256 and first == [str(k) for k in range(len(first))]  # no pixel has the value 256
    named = sum(not _is_number(cell) and cell.lower() not in NOTHING for cell in first)
    return counted or "label" in map(str.lower, first) or 2 * named > len(first)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _called(first: list[str], header: bool) -> str:
    shown = ", ".join(repr(name[:20]) for name in first[:3])
    return f" ({shown}{', ...' if len(first) > 3 else ''})" if header else ""


def _advice(first: list[str]) -> str:
    if first[0] == "":
        return "A table saved by pandas has a column of row numbers: save it with to_csv(index=False)."
    if len(first) == 1 and (";" in first[0] or "\t" in first[0]):
        return "Separate the columns by commas."
    if first[0].startswith("<"):
        return "It is a web page saved under this name; get the file itself."
    return "Give a file of this layout, or rearrange its columns."

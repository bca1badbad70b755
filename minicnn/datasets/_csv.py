"""Images in CSV files: one row an image, a column a pixel, the label first if there is one.

Here is what needs no pandas: finding out the layout of a file from its first two lines, and saying, cell by cell, what
is wrong with one that could not be read. ``_text.py`` opens it.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from minicnn.datasets._text import AGAIN, LONGEST_LINE, opened
from minicnn.errors import FileFormatError

VALUES = {str(value): value for value in range(256)}
NOTHING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})


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


def find_layout(path: str | os.PathLike[str]) -> Layout:
    """Return the layout of a file, from its first two lines.

    Raises
    ------
    FileFormatError
        If it is empty, or no table of square images.
    """
    with opened(path) as file:
        raw = [file.readline(LONGEST_LINE) for _ in range(2)]
    if b"\0" in raw[0] or raw[0].startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FileFormatError(f"{path}: found NUL bytes or the mark of UTF-16 in line 1; expected text in UTF-8. Save "
                              "it as \"CSV UTF-8\".")
    lines = [line.decode("utf-8-sig", "replace") for line in raw]
    try:
        first, second = ([cell.strip() for cell in next(csv.reader([line]), [])] for line in lines)
    except csv.Error as error:
        raise FileFormatError(f"{path}: the first lines are no table ({error}); expected rows of numbers. "
                              f"{AGAIN}") from None
    if not first:
        raise FileFormatError(f"{path}: found an empty first line; expected a row of a table. {AGAIN}")
    header = _is_header(first)
    labelled = _side(len(first) - 1) is not None
    side = _side(len(first) - labelled)
    labels = [k for k, name in enumerate(first) if header and name.lower() == "label"]
    if side is None or labels not in ([], [0]) or (labels == [0]) > labelled:
        raise FileFormatError(f"{path}: found {len(first)} columns{_called(first, header)}; expected one a pixel, a "
                              f"square number such as 784, and before them the label if there is one. {_advice(first)}")
    if header:
        _check_order(path, first)
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
            raise FileFormatError(f"{path}: line {reader.line_num} is no row of a table ({error}); expected "
                                  f"numbers and commas. {AGAIN}") from None


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


def _side(pixels: int) -> int | None:
    """Return the rows of a square image; None for a number that is no square, or of a single pixel."""
    side = math.isqrt(max(pixels, 0))
    return side if side > 1 and side * side == pixels else None


def _check_order(path: str | os.PathLike[str], names: Sequence[str]) -> None:
    """Refuse columns that are there twice, or whose numbers say that they stand in another order than the pixels."""
    before: tuple[int, ...] = ()
    seen: set[str] = set()
    for column, name in enumerate(names):
        numbers = tuple(map(int, re.findall("[0-9]{1,9}", name)))
        if name and name in seen:
            raise FileFormatError(f"{path}: column {column}: found {name[:20]!r} for the second time; expected each "
                                  f"column once. {AGAIN}")
        if column and before and numbers and numbers < before and len(numbers) == len(before):
            raise FileFormatError(f"{path}: column {column}: found {name[:20]!r} after {names[column - 1][:20]!r}; "
                                  "expected the pixels in their order. Rearrange the columns.")
        before = numbers
        seen.add(name)


def _is_header(first: list[str]) -> bool:
    """Tell whether the cells of the first line are names; a few that are no numbers may be damage."""
    counted = len(first) > 256 and first == [str(k) for k in range(len(first))]  # no pixel has the value 256
    named = sum(not _is_number(cell) and cell.lower() not in NOTHING for cell in first)
    return counted or "label" in map(str.lower, first) or 2 * named > len(first)


def _is_number(text: str) -> bool:
    try:
        return "_" not in text and math.isfinite(float(text))  # Python would read 1_0 as 10
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

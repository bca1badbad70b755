"""Tables of text, drawn as Keras draws its summary."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_BOX = {"top": "┏━┳┓", "head": "┃", "under": "┡━╇┩", "body": "│", "between": "├─┼┤", "bottom": "└─┴┘"}
_ASCII = {"top": "+-++", "head": "|", "under": "+=++", "body": "|", "between": "+-++", "bottom": "+-++"}


def table(head: Sequence[str], rows: Sequence[Sequence[str]], encoding: str, numbers: Sequence[str] = ()) -> list[str]:
    """Return the lines of a table.

    Parameters
    ----------
    head : sequence of str
        Titles of the columns.
    rows : sequence of sequence of str
        A cell may have several lines.
    encoding : str
        Of the output; box characters are used in the Unicode ones only.
    numbers : sequence of str
        Titles of the columns that are aligned at the right.
    """
    box = _BOX if encoding.lower().startswith("utf") else _ASCII
    widths = [max(len(line) for row in [head, *rows] for line in row[column].split("\n")) + 2
              for column in range(len(head))]
    right = [title in numbers for title in head]
    lines = [_rule(box["top"], widths), *_row(box["head"], head, widths, right), _rule(box["under"], widths)]
    for i, row in enumerate(rows):
        lines += [_rule(box["between"], widths)] if i else []
        lines += _row(box["body"], row, widths, right)
    return [*lines, _rule(box["bottom"], widths)]


def output_encoding() -> str:
    """Return the encoding of what ``print`` writes."""
    return getattr(sys.stdout, "encoding", None) or "ascii"


def printable(lines: Sequence[str], encoding: str) -> str:
    """Return lines as one text that an output of this encoding can show: a model may have any name."""
    return "\n".join(lines).encode(encoding, "replace").decode(encoding)


def _rule(characters: str, widths: Sequence[int]) -> str:
    left, line, cross, right = tuple(characters)
    return left + cross.join(line * width for width in widths) + right


def _row(bar: str, cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    columns = [cell.split("\n") for cell in cells]
    height = max(len(column) for column in columns)
    padded = [[f" {line} " for line in column] + [""] * (height - len(column)) for column in columns]
    return [bar + bar.join(f"{line:>{width}}" if at_right else f"{line:<{width}}"
                           for line, width, at_right in zip(lines, widths, right)) + bar for lines in zip(*padded)]

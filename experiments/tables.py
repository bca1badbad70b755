"""Tables, on the screen and in pages: there between two markers, so that no number is typed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from minicnn.errors import ArgumentError
from minicnn.files import replacing


class Place:
    """Where a table stands in a page: between ``<!-- name:begin -->`` and ``<!-- name:end -->``.

    Raises
    ------
    ArgumentError
        If a marker is missing.
    """

    def __init__(self, page: Path, name: str) -> None:
        self.page, self.markers = page, markers(name)
        begin, end = self.markers
        text = page.read_text(encoding="utf-8")
        if not 0 <= text.find(begin) < text.find(end):
            raise ArgumentError(f"{page} lacks the lines {begin} and {end}, in this order. Put them where the table "
                                "goes.")

    def put(self, table: str) -> None:
        """Replace what stands there."""
        begin, end = self.markers
        before, rest = self.page.read_text(encoding="utf-8").split(begin, 1)
        text = f"{before}{begin}\n{table}\n{end}{rest.split(end, 1)[1]}"
        with replacing(self.page) as file:
            file.write(text.encode())


def markers(name: str) -> tuple[str, str]:
    """Return the two lines."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for the screen: the first column flush left, numbers flush right."""
    cells = [[cell.replace("`", "") for cell in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return "\n".join("  ".join(cell.ljust(width) if k == 0 else cell.rjust(width)
                               for k, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in cells)

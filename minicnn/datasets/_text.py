"""The bytes of a table, however it is packed: opened, unpacked, and stopped where no table goes on like that."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from minicnn.errors import ArgumentError, FileFormatError, MinicnnError
from minicnn.files import checked, open_to_read

GZIP_MAGIC, ZIP_MAGIC = b"\x1f\x8b", b"PK\x03\x04"
LONGEST_LINE = 2**20  # bytes; 784 pixels of three digits and their commas are 3,136
MOST_TEXT = 2**31  # bytes; EMNIST's largest table has 1.3 billion
AGAIN = "Get the file again."


class Lines(io.RawIOBase):
    """A stream of lines that ends in an error where a line does not: no cell goes on over several of ours.

    A reader of tables would take all that follows an opening quotation mark, or a line without end, into memory.

    Raises
    ------
    FileFormatError
        While it is read: if a line is longer than ``LONGEST_LINE``, a quotation mark is not closed in its line, or
        all is longer than ``MOST_TEXT``.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._line, self._length, self._total = 1, 0, 0
        self._open_quote = False

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes and look at them."""
        block = self._file.read(len(buffer))
        self._look_at(block)
        buffer[:len(block)] = block
        return len(block)

    def _look_at(self, block: bytes) -> None:
        self._total += len(block)
        if self._total > MOST_TEXT:
            self._fail(f"more than {MOST_TEXT:,} bytes of text; expected fewer. Split the file")
        if self._open_quote or b'"' in block:
            self._follow_quotes(block)
        end = block.rfind(b"\n")
        self._length = self._length + len(block) if end < 0 else len(block) - end - 1
        self._line += block.count(b"\n")
        if self._length > LONGEST_LINE:
            self._fail(f"a line longer than {LONGEST_LINE:,} bytes; expected rows of a table")

    def _follow_quotes(self, block: bytes) -> None:
        *whole, begun = block.split(b"\n")
        for number, line in enumerate(whole):
            if self._open_quote ^ (line.count(b'"') % 2 == 1):
                self._line += number
                self._fail("a quotation mark that is not closed; expected as many opening as closing ones in a line")
            self._open_quote = False
        self._open_quote ^= begun.count(b'"') % 2 == 1

    def _fail(self, found: str) -> None:
        raise FileFormatError(f"{self._path}: line {self._line} is no row of a table: found {found}. {AGAIN}")


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file, plain, gzipped or zipped (the content decides, not the name); ``all.zip/train.csv`` names a member.

    Raises
    ------
    FileFormatError
        If it is damaged, also when that shows while it is read.
    ArgumentError
        If a zip file holds several CSV files and none is named.
    MissingFileError, UnreadableFileError
        If it cannot be opened.
    """
    place, member = checked("read_csv", path), None
    if place.parent.is_file():
        place, member = place.parent, place.name
    try:
        with open_to_read("read_csv", place) as raw, contextlib.ExitStack() as stack:
            magic = raw.read(4)
            raw.seek(0)
            file = raw
            if magic == ZIP_MAGIC:
                file = stack.enter_context(_unzipped(place, raw, member))
            elif member is not None:
                raise FileFormatError(f"{place} is no zip file, so there is no {member} in it; expected one. Correct "
                                      "the path.")
            elif magic[:2] == GZIP_MAGIC:
                file = cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=raw)))
            yield cast(BinaryIO, io.BufferedReader(Lines(Path(path), file)))
    except EOFError:
        raise FileFormatError(f"{path}: the compressed data ends too early; expected more, the file is truncated. "
                              f"{AGAIN}") from None
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        raise FileFormatError(f"{path}: the compressed data is damaged ({error}); expected it whole. "
                              f"{AGAIN}") from None


@contextlib.contextmanager
def _unzipped(place: Path, raw: BinaryIO, member: str | None) -> Iterator[BinaryIO]:
    """Open a file in a zip file; nothing is extracted to disk."""
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(raw))
            info = archive.getinfo(_member(place, archive, member))
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                what = "a password" if info.flag_bits & 1 else f"the compression method {info.compress_type}"
                raise FileFormatError(f"{place}: found {info.filename} with {what}; expected it plain or deflated. "
                                      "Unpack it with another program.")
            file = stack.enter_context(archive.open(info))
        except MinicnnError:
            raise
        except (LookupError, NotImplementedError, OSError, OverflowError, RuntimeError, ValueError,
                struct.error) as error:  # of zipfile, over headers that make no sense, such as places before byte 0
            raise zipfile.BadZipFile(str(error)) from None
        yield cast(BinaryIO, file)


def _member(place: Path, archive: zipfile.ZipFile, name: str | None) -> str:
    """Return the full name of the one CSV file meant."""
    found = [member for member in archive.namelist() if not member.startswith("__MACOSX")
             and (Path(member).name == name if name else member.lower().endswith(".csv"))]
    if len(found) == 1:
        return found[0]
    inside = ", ".join(sorted(archive.namelist())[:8])
    raise ArgumentError(f"{place} holds {inside}; expected one CSV file{f' {name}' if name else ''}. Name one of them, "
                        f"such as {place / 'train.csv'}.")

"""IDX files, the format of MNIST: a magic number, the sizes, the bytes.

    byte 0, 1   zero
    byte 2      type of the elements: 0x08, unsigned byte (the only one read here)
    byte 3      rank: the number of dimensions
    then        the sizes, 4 bytes each, most significant byte first
    then        the elements, last index fastest

The format is described on Yann LeCun's page "The MNIST database of handwritten digits". A file that comes from
somebody else may be anything, so the reader compares the header with the size of the file before it believes it, and
memory grows with the bytes that really arrive, never with those a header promises.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from typing import BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from minicnn.errors import ArgumentError, FileFormatError
from minicnn.files import checked, open_to_read, replacing

MAX_BYTES = 2**30    # of data in one file; MNIST's largest has 47 million bytes, EMNIST's 547 million
MAX_RANK = 32
DEFLATE_LIMIT = 1100    # no gzip file expands more than 1032 times (zlib's technical notes)
BLOCK = 2**18

UNSIGNED_BYTE = 0x08
OTHER_TYPES = {0x09: "signed byte", 0x0B: "2-byte integer", 0x0C: "4-byte integer", 0x0D: "float", 0x0E: "double"}
GZIP_MAGIC = b"\x1f\x8b"
AGAIN = "Get the file again"


def read_idx(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, plain or gzipped (the content decides, not the name).

    Parameters
    ----------
    path : path-like
    max_bytes : int
        Files that hold more data than this are refused.

    Returns
    -------
    numpy.ndarray
        uint8, of the shape in the header; writable.

    Raises
    ------
    FileFormatError
        If the file is empty, truncated, too long, too large, damaged, or something else under the name.
    FileNotFoundError
        If there is no such file.
    """
    with open_to_read("read_idx", path) as raw:
        stored = os.fstat(raw.fileno()).st_size
        start = raw.read(2)
        raw.seek(0)
        if not start:
            _fail(path, "byte 0", "an empty file", "an IDX file", AGAIN)
        if start != GZIP_MAGIC:
            return _read(path, raw, max_bytes, stored)
        try:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                return _read(path, unpacked, max_bytes, stored, expansion=DEFLATE_LIMIT)
        except EOFError:
            _fail(path, f"byte {stored} of the gzip stream", "the end of the file",
                  "more compressed data; the file is truncated", AGAIN)
        except (gzip.BadGzipFile, zlib.error) as error:
            _fail(path, f"near byte {raw.tell()} of the gzip stream", f"damaged data ({error})",
                  "a valid gzip stream", AGAIN)


def write_idx(path: str | os.PathLike[str], array: NDArray[np.uint8]) -> None:
    """Write an array of unsigned bytes as an IDX file, gzipped if the name ends in ``.gz``; all of it or nothing.

    Parameters
    ----------
    path : path-like
    array : numpy.ndarray
        uint8, of any rank up to 32.

    Raises
    ------
    ArgumentError
        If the array is of another type or rank.
    """
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim > MAX_RANK:
        raise ArgumentError(f"write_idx got {getattr(array, 'dtype', type(array).__name__)} of rank {np.ndim(array)}; "
                            f"expected an array of uint8 of rank up to {MAX_RANK}. Convert it with astype(np.uint8).")
    target = checked("write_idx", path)
    content = header(array.shape) + array.tobytes()
    if target.name.endswith(".gz"):
        content = gzip.compress(content, mtime=0)    # without the date: equal arrays give equal files
    with replacing(target) as file:
        file.write(content)


def header(shape: tuple[int, ...]) -> bytes:
    """Return the first bytes of the file of a uint8 array: magic number and sizes."""
    return bytes((0, 0, UNSIGNED_BYTE, len(shape))) + b"".join(size.to_bytes(4, "big") for size in shape)


def _read(path: str | os.PathLike[str], file: BinaryIO | gzip.GzipFile, max_bytes: int, stored: int,
          expansion: int = 1) -> NDArray[np.uint8]:
    """Read a stream that comes from ``stored`` bytes, each of which yields at most ``expansion``."""
    shape = _read_header(path, file)
    offset, expected = 4 + 4 * len(shape), math.prod(shape)
    sizes = " x ".join(map(str, shape)) or "of a single element"
    if math.prod(max(size, 1) for size in shape) > max_bytes:
        _fail(path, "byte 4", f"sizes {sizes}", f"at most {max_bytes} bytes of data", f"{AGAIN}, its header is wrong")
    if offset + expected > stored * expansion:
        _fail(path, f"byte {stored}", f"the end of the file, which has {stored} bytes",
              f"{expected} bytes of data for sizes {sizes}; the file is truncated or its header wrong", AGAIN)
    data = bytearray()
    while len(data) < expected:
        block = file.read(min(BLOCK, expected - len(data)))
        if not block:
            _fail(path, f"byte {offset + len(data)}", f"the end of the data after {len(data)} bytes",
                  f"{expected} bytes for sizes {sizes}; the file is truncated or its header wrong", AGAIN)
        data += block
    if file.read(1):    # at the end of a gzip stream this also compares the checksum
        _fail(path, f"byte {offset + expected}", "more bytes", f"the end of the file after sizes {sizes}", AGAIN)
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_header(path: str | os.PathLike[str], file: BinaryIO | gzip.GzipFile) -> tuple[int, ...]:
    """Read magic number and sizes."""
    magic = file.read(4)
    if len(magic) == 4 and magic[:3] == bytes((0, 0, UNSIGNED_BYTE)) and magic[3] <= MAX_RANK:
        rank = magic[3]
        sizes = file.read(4 * rank)
        if len(sizes) < 4 * rank:
            _fail(path, f"byte {4 + len(sizes)}", "the end of the file", f"{rank} sizes of 4 bytes: the header is "
                  "truncated", AGAIN)
        return tuple(int.from_bytes(sizes[i:i + 4], "big") for i in range(0, 4 * rank, 4))
    found, remedy = _recognise(magic)
    _fail(path, "byte 0", found, f"the magic number 00 00 08 and a rank of at most {MAX_RANK}", remedy)


def _recognise(magic: bytes) -> tuple[str, str]:
    """Say what a file that is not IDX of unsigned bytes may be, and what to do."""
    found = " ".join(f"{byte:02x}" for byte in magic)
    if magic.lstrip()[:1] == b"<":
        return f"{found} (a web page saved under this name?)", f"{AGAIN}, and look at what the server sent"
    if magic[:2] == GZIP_MAGIC:
        return f"{found} (gzipped twice)", "Decompress it once"
    if len(magic) < 4:
        return f"{found} and the end of the file", AGAIN
    if magic[:2] == b"\0\0" and magic[2] in OTHER_TYPES:
        return f"{found} (elements of type {OTHER_TYPES[magic[2]]})", "Convert the elements to unsigned bytes"
    return found, "Give the path of an IDX file"


def _fail(path: str | os.PathLike[str], place: str, found: str, expected: str, remedy: str) -> NoReturn:
    raise FileFormatError(f"{os.fspath(path)}: {place}: found {found}; expected {expected}. {remedy}.")

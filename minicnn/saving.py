"""Files: named arrays and a description in one ``.safetensors`` file that is checksummed and replaced as a whole.

No pickle: a file can hold numbers and text, never code. The SHA-256 covers every byte of the file; the 64 characters
of the digest itself are read as zeros. A file that comes from somebody else may be anything, with a digest that fits:
its header is compared with its size before it is believed, and no array is made before the caller asks for it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import safetensors.numpy

from minicnn import strict_json
from minicnn.errors import ArgumentError, FileFormatError
from minicnn.files import checked, open_to_read, replacing

VERSION = 1
# The types of arrays a file may hold, by safetensors' names.
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
         "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1"}
_KEY = "minicnn"  # the one metadata entry: safetensors writes several in no fixed order
_BLANK = "0" * 64
_BLOCK = 1 << 20
_MAX_RANK = 32
_TENSOR = {"dtype": str, "shape": [int], "data_offsets": [int]}


class Tensor(NamedTuple):
    """What the header says of an array.

    Attributes
    ----------
    dtype : numpy.dtype
    shape : tuple of int
    start : int
        Where its bytes begin in the file.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int


class Stored:
    """An open file, every byte of which is verified: its description, and arrays to be read one by one.

    Attributes
    ----------
    path : pathlib.Path
    description : dict
    tensors : dict of str to Tensor
        What arrays there are.
    """

    def __init__(self, path: Path, file: BinaryIO, description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.path, self.description, self.tensors = path, description, tensors
        self._file = file

    def read(self, name: str) -> np.ndarray:
        """Return an array."""
        out = np.empty(self.tensors[name].shape, self.tensors[name].dtype)
        self.read_into(name, out)
        return out

    def read_into(self, name: str, out: np.ndarray) -> None:
        """Read an array into another of its shape and type, whose elements lie in C order."""
        self._file.seek(self.tensors[name].start)
        if out.size:
            self._file.readinto(out.reshape(-1).view(np.uint8).data)  # type: ignore[attr-defined]


def write(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
    """Write arrays and a description to a file, whole or not at all.

    Parameters
    ----------
    path : path-like
    arrays : mapping of str to ndarray
    description : mapping
        Of types JSON knows.

    Raises
    ------
    ArgumentError
        If an array is of another type than those in ``TYPES``, or the description is too long to be read again.
    OSError
        If the file cannot be written; an older file at ``path`` is then still there.
    """
    text = json.dumps({"version": VERSION, "sha256": _BLANK, **description}, allow_nan=False)
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<").str not in TYPES.values():
            raise ArgumentError(f"{name} is an array of the type {array.dtype}; a file holds whole and real numbers. "
                                f"Convert it with astype.")
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}  # a number stays one
    data = bytearray(safetensors.numpy.save(contiguous, metadata={_KEY: text}))
    header = int.from_bytes(data[:8], "little")
    if header > strict_json.MOST_BYTES or text.count("{") + text.count("[") > strict_json.MOST_CONTAINERS // 2:
        raise ArgumentError(f"{os.fspath(path)}: the description of what is saved takes {header:,} bytes, more than "
                            f"can be read again ({strict_json.MOST_BYTES:,}). Keep long lists as arrays.")
    at = data.index(_BLANK.encode())  # the header precedes all arrays, and sha256 all of the description
    data[at:at + 64] = hashlib.sha256(data).hexdigest().encode()
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "There is no such folder; make it first", str(Path(path).parent))
    with replacing(Path(path)) as file:
        file.write(data)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read arrays and description of a file ``write`` made, every byte verified.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    arrays : dict of str to ndarray
    description : dict

    Raises
    ------
    FileNotFoundError
        If there is none.
    FileFormatError
        If it is truncated, damaged, of another format, or of a newer version.
    """
    with opened(path) as stored:
        return {name: stored.read(name) for name in stored.tensors}, stored.description


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Stored]:
    """Open a file ``write`` made and verify it; its arrays take memory when they are read.

    Raises
    ------
    FileNotFoundError, FileFormatError
        See ``read``.
    """
    path = checked("load_model", path)
    with open_to_read("load_model", path) as file:
        size, header = _read_header(path, file)
        fields, description = _description(path, header)
        _verify(path, file, str(description.pop("sha256", "")))
        version = description.pop("version", None)
        if version != VERSION or isinstance(version, bool):
            raise FileFormatError(f"{path} has the format version {version!r}; this minicnn reads version {VERSION}. "
                                  f"Expected a file of this version: install a newer minicnn, or save it again.")
        yield Stored(path, file, description, _tensors(path, fields, start=8 + len(header), size=size))


def sha256_of(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of arrays, in their order."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _read_header(path: Path, file: BinaryIO) -> tuple[int, bytes]:
    """Return the size of the file and its header."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if start[:4] in (b"\x89HDF", b"PK\x03\x04"):
        raise FileFormatError(f"{path} is a file of Keras (or another zip or HDF5 file); expected one that model.save "
                              f"wrote here. Build the network and call model.set_weights(keras_model.get_weights()).")
    if len(start) < 8 or not 2 <= length <= size - 8:
        raise FileFormatError(f"{path} ({size} bytes) does not begin like a safetensors file: it is another format or "
                              f"cut short. Expected a file that model.save wrote.")
    if length > strict_json.MOST_BYTES:
        raise FileFormatError(f"{path}: byte 0: found a header of {length:,} bytes; expected at most "
                              f"{strict_json.MOST_BYTES:,}. Expected a file that model.save wrote.")
    return size, file.read(length)


def _description(path: Path, header: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the header says of the arrays, and the description within it."""
    remedy = "Expected a file that model.save wrote; use another copy."
    fields = strict_json.loads(header, f"{path}: the header (byte 8 and on)", remedy)
    metadata = fields.pop("__metadata__", None) if isinstance(fields, dict) else None
    if not isinstance(metadata, dict) or not isinstance(metadata.get(_KEY), str):
        raise FileFormatError(f"{path} is no model file of minicnn: its header lacks the {_KEY!r} description. "
                              f"Expected a file that model.save wrote.")
    content = metadata[_KEY].encode(errors="replace")
    description = strict_json.loads(content, f"{path}: the description in the header", remedy)
    if not isinstance(description, dict):
        raise FileFormatError(f"{path} is damaged: its description is no JSON object; expected one. Use another copy.")
    return fields, description


def _tensors(path: Path, fields: dict[str, Any], start: int, size: int) -> dict[str, Tensor]:
    """Compare what the header says of the arrays with itself and with the size of the file."""
    where, remedy = f"{path} is no valid safetensors file", "Save the model again."
    spans, tensors = [], {}
    for name, field in fields.items():
        strict_json.check(field, _TENSOR, where, remedy, name)
        shape, offsets = field["shape"], field["data_offsets"]
        if field["dtype"] not in TYPES:
            raise FileFormatError(f"{where}: {name}: found the type {field['dtype'][:20]!r}; expected one of "
                                  f"{', '.join(TYPES)}. {remedy}")
        dtype = np.dtype(TYPES[field["dtype"]])
        if len(shape) > _MAX_RANK or min(shape, default=0) < 0 or len(offsets) != 2 or (
                offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize):
            raise FileFormatError(f"{where}: {name}: found the shape {str(shape)[:80]} of {dtype} at the bytes "
                                  f"{str(offsets)[:80]}; expected as many bytes as the elements take. {remedy}")
        spans.append((*offsets, name))
        tensors[name] = Tensor(dtype, tuple(shape), start + offsets[0])
    end = 0
    for begin, after, name in [*sorted(spans), (size - start, size - start, "the end of the file")]:
        if begin != end:
            raise FileFormatError(f"{where}: {name}: found it at byte {begin} of the data; expected it at byte {end}, "
                                  f"where what is before it ends. {remedy}")
        end = after
    return tensors


def _verify(path: Path, file: BinaryIO, stated: str) -> None:
    """Hash the file with the digest's own characters as zeros and compare."""
    file.seek(0)
    digest = hashlib.sha256()
    tail = b""
    blanked = len(stated) != 64  # then nothing can match
    while block := file.read(_BLOCK):
        block = tail + block
        if not blanked and (at := block.find(stated.encode(errors="replace"))) >= 0:
            block = block[:at] + _BLANK.encode() + block[at + 64:]
            blanked = True
        # Keep 63 bytes back until the digest is found: it may straddle two blocks.
        done = len(block) if blanked else max(len(block) - 63, 0)
        digest.update(block[:done])
        tail = block[done:]
    digest.update(tail)
    if digest.hexdigest() != stated:
        raise FileFormatError(f"{path} is damaged: its SHA-256 is {digest.hexdigest()[:16]}..., expected "
                              f"{stated[:16]}... Use another copy of the file.")

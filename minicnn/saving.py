"""Files: named arrays and a description in one ``.safetensors`` file that is checksummed and replaced as a whole.

No pickle: a file can hold numbers and text, never code. The SHA-256 covers every byte of the file; the 64 characters
of the digest itself are read as zeros.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from minicnn.errors import FileFormatError
from minicnn.files import replacing

VERSION = 1
_KEY = "minicnn"  # the one metadata entry: safetensors writes several in no fixed order
_BLANK = "0" * 64
_BLOCK = 1 << 20
_MAX_HEADER = 100_000_000  # the safetensors format's own limit


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
    OSError
        If the file cannot be written; an older file at ``path`` is then still there.
    """
    text = json.dumps({"version": VERSION, "sha256": _BLANK, **description}, allow_nan=False)
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}  # a number stays one
    data = bytearray(safetensors.numpy.save(contiguous, metadata={_KEY: text}))
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
    path = Path(path)
    with path.open("rb") as file:
        header = _read_header(path, file)
        description = _description(path, header)
        _verify(path, file, str(description.pop("sha256", "")))
    version = description.pop("version", None)
    if version != VERSION:
        raise FileFormatError(f"{path} has the format version {version!r}; this minicnn reads version {VERSION}. "
                              f"Install a newer minicnn, or save the model again.")
    try:
        with safetensors.safe_open(path, framework="numpy") as tensors:
            return {name: tensors.get_tensor(name) for name in tensors.keys()}, description  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise FileFormatError(f"{path} is no valid safetensors file: {error}. Save the model again.") from error


def sha256_of(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of arrays, in their order."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _read_header(path: Path, file: Any) -> bytes:
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if start[:4] in (b"\x89HDF", b"PK\x03\x04"):
        raise FileFormatError(f"{path} is a file of Keras (or another zip or HDF5 file); expected one that model.save "
                              f"wrote here. Build the network and call model.set_weights(keras_model.get_weights()).")
    if len(start) < 8 or not 2 <= length <= min(size - 8, _MAX_HEADER):
        raise FileFormatError(f"{path} ({size} bytes) does not begin like a safetensors file: it is another format or "
                              f"cut short. Expected a file that model.save wrote.")
    return file.read(length)


def _description(path: Path, header: bytes) -> dict[str, Any]:
    try:
        description = json.loads(json.loads(header)["__metadata__"][_KEY])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileFormatError(f"{path} is no model file of minicnn: its header lacks the {_KEY!r} description or is "
                              f"damaged. Expected a file that model.save wrote.") from error
    if not isinstance(description, dict):
        raise FileFormatError(f"{path} is damaged: its description is no JSON object. Use another copy.")
    return description


def _verify(path: Path, file: Any, stated: str) -> None:
    """Hash the file with the digest's own characters as zeros and compare."""
    file.seek(0)
    digest = hashlib.sha256()
    tail = b""
    blanked = len(stated) != 64  # then nothing can match
    while block := file.read(_BLOCK):
        block = tail + block
        if not blanked and (at := block.find(stated.encode())) >= 0:
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

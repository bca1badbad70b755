"""Model files, damaged at every place; and how much memory they take."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import proof
from corpus.model_files import good, tiny
from memory import allocated_above
from minicnn import Sequential, load_model
from minicnn.errors import FileFormatError
from minicnn.layers import Dense, Input

pytestmark = pytest.mark.usefixtures("reference_kernels", "threads")


def refused(path, content):
    path.write_bytes(content)
    with pytest.raises(FileFormatError):
        load_model(path)


def test_every_flipped_bit_of_a_model_file_is_found(tmp_path):
    whole = tiny()
    for at in range(len(whole)):
        for bit in range(8):
            refused(tmp_path / "m.safetensors", whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1:])
    proof.record("damage", 8 * len(whole))
    (tmp_path / "m.safetensors").write_bytes(whole)
    load_model(tmp_path / "m.safetensors")


def test_every_cut_of_a_model_file_is_found_and_every_byte_behind_it(tmp_path):
    whole = tiny()
    for size in range(len(whole)):
        refused(tmp_path / "m.safetensors", whole[:size])
    for byte in range(256):
        refused(tmp_path / "m.safetensors", whole + bytes([byte]))
    proof.record("damage", len(whole) + 256)


LARGE = 3000 * 2000 * 4  # bytes of the kernel below
ROOM = 4 << 20


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Return a file of 24 MB."""
    path = tmp_path_factory.mktemp("large") / "m.safetensors"
    Sequential([Input((3000,)), Dense(2000, kernel_initializer="zeros")]).save(path)
    return path


@pytest.mark.parametrize("call", ["load_model", "load_weights"])
def test_a_file_takes_no_more_memory_than_its_size(large, call):
    model = load_model(large)
    read = load_model if call == "load_model" else model.load_weights
    assert LARGE <= allocated_above(lambda: read(large)) < large.stat().st_size + ROOM
    assert np.shape(model.layers[0].params["kernel"]) == (3000, 2000)


PROGRAM = """
import resource, sys
from pathlib import Path
from minicnn import load_model
from minicnn.errors import FileFormatError

hard = resource.getrlimit(resource.RLIMIT_AS)[1]

def bound(room):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, hard))

small, large, *bad = sys.argv[1:]
load_model(small)
bound(4 << 20)
for path in bad:
    try:
        load_model(path)
    except FileFormatError:
        print("refused")
size = Path(large).stat().st_size
bound(size + (4 << 20))
load_model(large)
print("loaded")
bound(size // 2)
try:
    load_model(large)
except MemoryError:
    print("too little")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited by RLIMIT_AS on Linux")
def test_under_a_memory_limit_a_file_is_read_and_what_it_claims_is_not_made(tmp_path, large):
    """The limit is on address space: an array that was made and never touched counts, too."""
    from corpus.model_files import larger
    claims = {"a": larger(2, units=2**31), "b": larger(2, units=2**24), "c": larger(0, input_shape=[2**12, 2**12, 1])}
    for name, content in {"small": good(), **claims}.items():
        (tmp_path / name).write_bytes(content)
    bad = [tmp_path / name for name in claims]
    done = subprocess.run([sys.executable, "-c", PROGRAM, tmp_path / "small", large, *bad],
                          capture_output=True, text=True, check=False, env={**os.environ, "MINICNN_THREADS": "1"})
    assert done.stdout.split("\n")[:5] == ["refused"] * 3 + ["loaded", "too little"], done.stderr

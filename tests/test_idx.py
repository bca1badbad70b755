"""IDX files: what is written is read; the corpus (``test_corpus.py``) has what is refused."""

from __future__ import annotations

import contextlib
import gzip
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minicnn.datasets.idx import header, read_idx, write_idx
from minicnn.errors import ArgumentError, FileFormatError
from minicnn.files import replacing

IMAGES = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
GOOD = header(IMAGES.shape) + IMAGES.tobytes()


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6)), st.booleans())
def test_an_array_survives_writing_and_reading(tmp_path, array, gzipped):
    path = tmp_path / ("a.gz" if gzipped else "a")
    write_idx(path, array)
    back = read_idx(path)
    assert back.dtype == np.uint8
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)
    assert back.flags.writeable
    assert path.read_bytes().startswith(b"\x1f\x8b") == gzipped
    assert os.listdir(tmp_path).count(path.name) == 1
    assert not list(tmp_path.glob("*.part"))


def test_the_bytes_are_those_of_the_format(tmp_path):
    write_idx(tmp_path / "a", np.array([[1, 2, 3], [4, 5, 255]], np.uint8))
    assert (tmp_path / "a").read_bytes() == bytes.fromhex("00000802 00000002 00000003 010203 0405ff")


def test_the_content_decides_whether_it_is_gzipped(tmp_path):
    (tmp_path / "plain.gz").write_bytes(GOOD)
    (tmp_path / "gzipped").write_bytes(gzip.compress(GOOD[:20]) + gzip.compress(GOOD[20:]))    # two members
    for name in ("plain.gz", "gzipped"):
        np.testing.assert_array_equal(read_idx(tmp_path / name), IMAGES)


@pytest.mark.parametrize("array", [np.zeros((2, 3)), np.zeros(3, np.int8), [1, 2]])
def test_only_unsigned_bytes_are_written(tmp_path, array):
    with pytest.raises(ArgumentError, match=r"write_idx got .*expected an array of uint8"):
        write_idx(tmp_path / "a", array)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_idx(tmp_path / "a", IMAGES)

    def write_half():
        with replacing(tmp_path / "a") as file:
            file.write(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), IMAGES)


PACKED = gzip.compress(GOOD, mtime=0)


@given(st.data())
def test_any_damage_gives_an_array_or_our_error(tmp_path, data):
    content = bytearray(data.draw(st.sampled_from([GOOD, PACKED])))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place:place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
        content = content or bytearray(b"\0")
    path = tmp_path / "damaged"
    path.write_bytes(content)
    with contextlib.suppress(FileFormatError):
        assert read_idx(path).dtype == np.uint8


def test_the_size_limit_counts_before_reading(tmp_path):
    write_idx(tmp_path / "a.gz", np.zeros((7, 9), np.uint8))
    assert read_idx(tmp_path / "a.gz", max_bytes=63).shape == (7, 9)
    with pytest.raises(FileFormatError, match="found sizes 7 x 9; expected at most 62 bytes"):
        read_idx(tmp_path / "a.gz", max_bytes=62)

"""IDX files: what is written is read, and what is damaged is refused by place, within its memory."""

from __future__ import annotations

import contextlib
import gzip
import os
import tracemalloc

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
BAD_FILES = {
    "empty": (b"", "byte 0: found an empty file"),
    "two bytes": (GOOD[:2], "byte 0: found 00 00 and the end"),
    "cut in the sizes": (GOOD[:13], "byte 13: found the end of the file; expected 3 sizes"),
    "cut in the data": (GOOD[:-7], "byte 39: found the end of the file.*expected 30 bytes of data for sizes 2 x 5 x 3"),
    "one byte short": (GOOD[:-1], "byte 45: found the end of the file"),
    "one byte long": (GOOD + b"\0", "byte 46: found more bytes"),
    "wrong magic": (b"PK\3\4" + GOOD[4:], "byte 0: found 50 4b 03 04; expected the magic number 00 00 08"),
    "floats": (b"\0\0\x0d\1\0\0\0\1" + bytes(4), "elements of type float"),
    "rank 200": (b"\0\0\x08\xc8" + bytes(900), "rank of at most 32"),
    "web page": (b"<!DOCTYPE html><html>", "web page"),
    "web page, gzipped": (gzip.compress(b"\n <html></html>"), "web page"),
    "sizes beyond memory": (b"\0\0\x08\3" + b"\xff" * 12 + bytes(50), "byte 4: found sizes 4294967295 x"),
    "empty with sizes beyond memory": (b"\0\0\x08\3" + bytes(4) + b"\xff" * 8, "byte 4: found sizes 0 x 4294967295"),
    "sizes beyond the file": (header((1000, 1000)) + bytes(50), "byte 62: found the end.*expected 1000000 bytes"),
    "sizes beyond the gzip file": (gzip.compress(header((1000, 1000)) + bytes(50)), "expected 1000000 bytes"),
    "gzip, data short": (gzip.compress(GOOD[:-1]), "byte 45: found the end of the data after 29 bytes"),
    "gzip, data long": (gzip.compress(GOOD + b"\0"), "byte 46: found more bytes"),
    "gzip cut": (PACKED[:-12], "of the gzip stream: found the end of the file; expected more compressed data"),
    "gzip cut in the header": (PACKED[:5], "of the gzip stream: found the end of the file"),
    "gzip with a wrong checksum": (PACKED[:-8] + bytes(4) + PACKED[-4:], "found damaged data"),
    "gzip with a damaged block": (PACKED[:10] + b"\xff" * 8 + PACKED[18:], "found damaged data"),
    "gzip with something behind": (PACKED + b"rubbish", "found damaged data"),
    "gzipped twice": (gzip.compress(PACKED), "gzipped twice"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_by_place(tmp_path, name):
    content, message = BAD_FILES[name]
    path = tmp_path / "some-file"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=message) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "expected" in str(caught.value)
    assert str(caught.value).rstrip(".").count(". ") >= 1    # a last sentence says what to do


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


@pytest.mark.parametrize("content", [
    pytest.param(gzip.compress(header((7,)) + bytes(2**26)), id="bomb"),
    pytest.param(gzip.compress(header((2**13, 2**13)) + bytes(2**16)), id="lying gzip header"),
    pytest.param(header((2**13, 2**13)) + bytes(2**16), id="lying header"),
])
def test_memory_does_not_follow_what_a_file_claims(tmp_path, content):
    path = tmp_path / "bomb"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError):
            read_idx(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**22    # 64 MiB are claimed


def test_the_size_limit_counts_before_reading(tmp_path):
    write_idx(tmp_path / "a.gz", np.zeros((7, 9), np.uint8))
    assert read_idx(tmp_path / "a.gz", max_bytes=63).shape == (7, 9)
    with pytest.raises(FileFormatError, match="found sizes 7 x 9; expected at most 62 bytes"):
        read_idx(tmp_path / "a.gz", max_bytes=62)

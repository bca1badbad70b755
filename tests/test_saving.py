"""The file format: every byte verified (``test_damage.py``), replaced as a whole."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pytest
import safetensors.numpy

from minicnn import saving
from minicnn.errors import ArgumentError, FileFormatError

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b/c": np.array([1.5, -2.0])}
DESCRIPTION = {"name": "example", "list": [1, 2], "nothing": None}


@pytest.fixture
def path(tmp_path):
    saving.write(tmp_path / "x.safetensors", ARRAYS, DESCRIPTION)
    return tmp_path / "x.safetensors"


def test_round_trip(path):
    arrays, description = saving.read(path)
    assert description == DESCRIPTION
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_arrays_in_any_memory_order(tmp_path, rng):
    array = rng.standard_normal((4, 6))
    saving.write(tmp_path / "f.safetensors", {"f": np.asfortranarray(array), "s": array[::2, 1::3]}, {})
    arrays, _ = saving.read(tmp_path / "f.safetensors")
    np.testing.assert_array_equal(arrays["f"], array)
    np.testing.assert_array_equal(arrays["s"], array[::2, 1::3])


def test_equal_content_makes_equal_bytes(path, tmp_path):
    saving.write(tmp_path / "y.safetensors", ARRAYS, DESCRIPTION)
    assert path.read_bytes() == (tmp_path / "y.safetensors").read_bytes()


def test_other_tools_can_read_it(path):
    np.testing.assert_array_equal(safetensors.numpy.load_file(path)["a"], ARRAYS["a"])


def test_a_digest_across_the_border_of_two_blocks_is_found(path, monkeypatch):
    for block in (7, 64, 65, 100, 129):
        monkeypatch.setattr(saving, "_BLOCK", block)
        assert saving.read(path)[1] == DESCRIPTION


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + b"\0" * 100,
                                     b"\x10\0\0\0\0\0\0\0" + b"{" * 16, b"\x02\0\0\0\0\0\0\0{}"])
def test_other_formats_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"x\.safetensors"):
        saving.read(path)


def test_a_safetensors_file_of_another_program_is_refused(path):
    safetensors.numpy.save_file(ARRAYS, path)
    with pytest.raises(FileFormatError, match=r"no model file of minicnn"):
        saving.read(path)


def test_a_description_that_is_no_object_is_damage(path):
    header = json.dumps({"__metadata__": {"minicnn": "[1, 2]"}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(FileFormatError, match=r"x\.safetensors is damaged: its description is no JSON object"):
        saving.read(path)


def test_a_header_that_lies_about_the_arrays_is_refused_although_its_digest_is_right(tmp_path):
    description = json.dumps({"version": 1, "sha256": "0" * 64})
    header = json.dumps({"__metadata__": {"minicnn": description},
                         "a": {"dtype": "F32", "shape": [5], "data_offsets": [0, 8]}}).encode()
    whole = len(header).to_bytes(8, "little") + header + bytes(8)
    path = tmp_path / "lies.safetensors"
    path.write_bytes(whole.replace(b"0" * 64, hashlib.sha256(whole).hexdigest().encode()))
    with pytest.raises(FileFormatError, match=r"lies\.safetensors is no valid safetensors file: .* Save the model"):
        saving.read(path)


def test_what_could_not_be_read_again_is_not_written(path, monkeypatch):
    whole = path.read_bytes()
    with pytest.raises(ArgumentError, match=r"^a is an array of the type complex128; .* Convert it with astype"):
        saving.write(path, {"a": np.ones(2, complex)}, {})
    with pytest.raises(ArgumentError, match=r"the description .* takes [0-9,]+ bytes, more than"):
        saving.write(path, {}, {"list": ["long"] * 400_000})
    with pytest.raises(ArgumentError, match="the description"):
        saving.write(path, {}, {"list": [[]] * 30_000})
    assert path.read_bytes() == whole


@pytest.mark.parametrize("dtype", sorted(saving.TYPES.values()))
def test_all_types_come_back(path, dtype):
    array = np.arange(6).reshape(3, 2).astype(dtype)
    saving.write(path, {"a": array, "empty": array[:0], "scalar": array[1, 1]}, {})
    arrays, _ = saving.read(path)
    np.testing.assert_array_equal(arrays["a"], array)
    assert arrays["a"].dtype == dtype
    assert arrays["empty"].shape == (0, 2)
    assert arrays["scalar"] == 3


def test_a_newer_version_is_refused(path, monkeypatch):
    monkeypatch.setattr(saving, "VERSION", 2)
    saving.write(path, ARRAYS, DESCRIPTION)
    monkeypatch.setattr(saving, "VERSION", 1)
    with pytest.raises(FileFormatError, match="format version 2; this minicnn reads version 1"):
        saving.read(path)


def test_a_missing_file_is_the_usual_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        saving.read(tmp_path / "none.safetensors")


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(path, monkeypatch):
    whole = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        saving.write(path, {"a": np.zeros(3)}, {})
    assert path.read_bytes() == whole
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_sha256_sees_names_types_shapes_and_bytes():
    variants = [{"a": np.zeros(4, np.float32)}, {"b": np.zeros(4, np.float32)}, {"a": np.zeros(2)},
                {"a": np.zeros((2, 2), np.float32)}, {"a": np.array([0, 0, 0, -0.0], np.float32)}]
    assert len({saving.sha256_of(variant) for variant in variants}) == len(variants)
    assert saving.sha256_of(ARRAYS) == saving.sha256_of({name: array.copy() for name, array in ARRAYS.items()})

"""Model files whose digest is right and whose content is not, and files that are none."""

from __future__ import annotations

import functools
import hashlib
import json
import pickle
import tempfile
from pathlib import Path

import numpy as np

from corpus import Case, as_file
from corpus.doors import LOAD_MODEL, LOAD_WEIGHTS, PREDICT_WITH
from minicnn.layers import BatchNormalization, Dense, Flatten, Input
from minicnn.models import Sequential

BLANK = "0" * 64


@functools.cache
def good() -> bytes:
    """Return the file of a small network that was trained for one step."""
    model = Sequential([Input((2, 2, 1)), Flatten(), BatchNormalization(), Dense(3, activation="softmax")], seed=1)
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    model.train_on_batch(np.ones((2, 2, 2, 1)), np.array([0, 1]))
    with tempfile.TemporaryDirectory() as place:
        model.save(Path(place) / "m.safetensors")
        return (Path(place) / "m.safetensors").read_bytes()


@functools.cache
def tiny() -> bytes:
    """Return the file of a network of three weights, to be damaged at every place."""
    model = Sequential([Input((2,)), Dense(1)], seed=1)
    with tempfile.TemporaryDirectory() as place:
        model.save(Path(place) / "m.safetensors")
        return (Path(place) / "m.safetensors").read_bytes()


def signed(header, data):
    """Return a file of a header and data, whose digest is right if the header has a blank one."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    whole = len(header).to_bytes(8, "little") + header + data
    return whole.replace(BLANK.encode(), hashlib.sha256(whole).hexdigest().encode(), 1)


def forged(change, text=lambda description: json.dumps(description)):
    """Return the good file, its parts changed: ``change(tensors, description, data)`` may return other data."""
    whole = good()
    end = 8 + int.from_bytes(whole[:8], "little")
    tensors, data = json.loads(whole[8:end]), bytearray(whole[end:])
    description = json.loads(tensors.pop("__metadata__")["minicnn"]) | {"sha256": BLANK}
    data = change(tensors, description, data) or data
    return signed({"__metadata__": {"minicnn": text(description)}, **tensors}, bytes(data))


def tensor(change):
    """Return a file in whose header the kernel of the dense layer is changed."""
    return forged(lambda tensors, *_: change(tensors["weights/dense/kernel"]))


def renamed(name, to):
    def change(tensors, *_):
        tensors[to] = tensors.pop(name)
    return forged(change)


def without(*names):
    """Return a file that lacks some arrays, and their bytes."""
    def change(tensors, description, data):
        left = bytearray()
        for name in sorted(tensors, key=lambda name: tensors[name]["data_offsets"]):
            begin, end = tensors[name]["data_offsets"]
            if name in names:
                del tensors[name]
                continue
            tensors[name]["data_offsets"] = [len(left), len(left) + end - begin]
            left += data[begin:end]
        return left
    return forged(change)


def added(name, count=1):
    def change(tensors, description, data):
        tensors[name] = {"dtype": "F32", "shape": [count], "data_offsets": [len(data), len(data) + 4 * count]}
        return data + bytes(4 * count)
    return forged(change)


def value(name, number, at=0):
    """Return a file in which one value of an array is another."""
    def change(tensors, description, data):
        begin = tensors[name]["data_offsets"][0] + 4 * at
        data[begin:begin + 4] = np.float32(number).tobytes()
    return forged(change)


def larger(entry, **settings):
    """Return a file whose architecture has other settings in a layer."""
    return forged(lambda tensors, description, data:
                  description["architecture"]["layers"][entry]["config"].update(settings))


def shape(*sizes):
    return tensor(lambda field: field.update(shape=list(sizes)))


def offsets(*ends):
    return tensor(lambda field: field.update(data_offsets=list(ends)))


def _overlap(tensors, *_):
    names = sorted(tensors, key=lambda name: tensors[name]["data_offsets"])
    tensors[names[1]]["data_offsets"] = tensors[names[0]]["data_offsets"]
    tensors[names[1]]["shape"] = tensors[names[0]]["shape"]


def _gap(tensors, description, data):
    last = max(tensors.values(), key=lambda field: field["data_offsets"])
    last["data_offsets"] = [end + 8 for end in last["data_offsets"]]
    return data + bytes(8)




KERNEL = "weights/dense/kernel"
TOO_LARGE = 2**31
CONTAINER = {
    "empty": (b"", "(0 bytes) does not begin"),
    "seven bytes": (good()[:7], "(7 bytes) does not begin"),
    "cut in the header": (good()[:200], "cut short"),
    "cut in the data": (good()[:-40], "SHA-256"),
    "one byte short": (good()[:-1], "SHA-256"),
    "trailing bytes": (good() + bytes(100), "SHA-256"),
    "a flipped bit in the data": (good()[:-5] + bytes([good()[-5] ^ 1]) + good()[-4:], "SHA-256"),
    "a length of 2**63": (b"\xff" * 7 + b"\x7f" + good()[8:], "does not begin"),
    "a length beyond the file": ((10**6).to_bytes(8, "little") + good()[8:], "does not begin"),
    "a length of 0": (bytes(8) + good()[8:], "does not begin"),
    "a header of 3 MB": (signed(b'{"a":"' + b" " * 3_000_000 + b'"}', b""), "header of 3,000,008 bytes"),
    "of Keras": (b"PK\3\4" + bytes(200), "a file of Keras"),
    "of HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(200), "a file of Keras"),
    "a pickle": (pickle.dumps({"weights": list(range(999))}), "does not begin"),
    "of NumPy": (b"\x93NUMPY\1\0" + bytes(200), "does not begin"),
    "a web page": (b"<!DOCTYPE html>\n<html><body>", "does not begin"),
    "of another program": (signed({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"1"), "lacks"),
    "trailing bytes, signed": (forged(lambda tensors, description, data: data + bytes(100)), "the end of the file"),
    "cut in the data, signed": (forged(lambda tensors, description, data: data[:-8]), "the end of the file"),
    "overlapping arrays": (forged(_overlap), "expected it at byte"),
    "a gap between arrays": (forged(_gap), "expected it at byte"),
    "offsets beyond the file": (offsets(0, 2**40), "expected as many bytes"),
    "offsets that end before they begin": (offsets(60, 12), "expected as many bytes"),
    "negative offsets": (offsets(-48, 0), "expected it at byte 0"),
    "three offsets": (offsets(0, 48, 96), "expected as many bytes"),
    "an offset that is a text": (offsets("0", 48), 'found "0"; expected a whole number'),
    "an unknown type": (tensor(lambda field: field.update(dtype="BF16")), "found the type 'BF16'"),
    "a type that is code": (tensor(lambda field: field.update(dtype="O")), "found the type 'O'"),
    "another type of the same size": (tensor(lambda field: field.update(dtype="I32")), "dense/kernel is int32"),
    "a shape too large for its bytes": (shape(4, TOO_LARGE), "expected as many bytes"),
    "a shape that overflows": (shape(2**32, 2**32, 12), "expected as many bytes"),
    "a negative shape": (shape(-4, -3), "expected as many bytes"),
    "a shape of rank 40": (shape(*[1] * 38, 4, 3), "expected as many bytes"),
    "a shape turned": (shape(3, 4), "dense/kernel is float32 (3, 4); expected float32 (4, 3)"),
    "an array without a shape": (tensor(lambda field: field.pop("shape") and None), "no key 'shape'"),
    "an array with more keys": (tensor(lambda field: field.update(code="x")), "unknown key 'code'"),
}
CONTENT = {
    "a missing weight": (without(KERNEL), "missing ['dense/kernel']"),
    "two missing weights": (without(KERNEL, "weights/dense/bias"), "missing ['dense/kernel'"),
    "an extra weight": (added("weights/dense/more"), "surplus ['dense/more']"),
    "an extra array": (added("code"), "'code', which is neither"),
    "a renamed weight": (renamed(KERNEL, "weights/dense/kernels"), "missing ['dense/kernel']"),
    "a renamed layer": (larger(2, name="dens"), "missing ['dens/kernel']"),
    "a NaN": (value(KERNEL, np.nan, 4), "dense/kernel[1, 1] is nan; expected a finite number"),
    "an infinite weight": (value("weights/dense/bias", -np.inf, 2), "dense/bias[2] is -inf"),
    "a negative variance": (value("weights/batch_normalization/moving_variance", -0.5, 1),
                            "moving_variance[1] is -0.5; expected a finite number of at least 0"),
    "an architecture larger than the file": (larger(2, units=TOO_LARGE), "expected float32 (4, 2147483648)"),
    "an architecture beyond all numbers": (larger(2, units=2**70), "expected float32 (4, "),
    "an input of 2**40": (larger(0, input_shape=[2**20, 2**20, 1]), "belongs to the first layer"),
    "an input of size 0": (larger(0, input_shape=[0, 2, 1]), "every size must be at least 1"),
}
SLOTS = {
    "a missing mean of squares": (without("optimizer/dense/kernel/v"), "missing ['dense/kernel/v']"),
    "what no optimizer keeps": (added("optimizer/dense/kernel/w", 12), "surplus ['dense/kernel/w']"),
    "what is kept of no weight": (renamed("optimizer/dense/kernel/v", "optimizer/dens/kernel/v"), "surplus"),
    "a mean of squares below 0": (value("optimizer/dense/bias/v", -1), "dense/bias/v[0] is -1.0"),
    "a NaN in the optimizer": (value("optimizer/dense/bias/m", np.nan), "dense/bias/m[0] is nan"),
}
CASES = [
    *(Case("model file", name, as_file("m.safetensors", content), LOAD_MODEL, (words,))
      for name, (content, words) in (CONTAINER | CONTENT | SLOTS).items()),
    *(Case("model file", name, as_file("m.safetensors", content), PREDICT_WITH, (words,))
      for name, (content, words) in list(CONTENT.items())[:9]),
    *(Case("model file", name, as_file("m.safetensors", CONTAINER[name][0]), LOAD_WEIGHTS, ())
      for name in ("empty", "trailing bytes", "overlapping arrays", "an unknown type", "of Keras")),
    Case("model file", "of another network", as_file("m.safetensors", good()), LOAD_WEIGHTS, ("surplus", "batch_norm")),
]

"""Fuzz the readers: files that are nearly right, made and spoiled at random. Only minicnn's own errors may come out.

Run for as long as you like, each reader by itself::

    python tests/fuzz.py --minutes 10 idx csv model json

prints how many files were tried, how many were read and how many refused, and the file of the first finding. The suite
runs the same strategies with a fixed seed (``test_fuzz.py``).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gzip
import hashlib
import io
import json
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import numpy as np
import safetensors.numpy
from hypothesis import strategies as st

from minicnn import load_model, saving, strict_json
from minicnn.datasets import kaggle
from minicnn.datasets.idx import header, read_idx
from minicnn.errors import MinicnnError
from minicnn.layers import BatchNormalization, Conv2D, Dense, Flatten, Input, MaxPooling2D
from minicnn.models import Sequential

SMALL = st.integers(0, 5)
ODD_NUMBERS = st.sampled_from([0, 1, 255, 256, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64, -1, 10**30])
BLANK = b"0" * 64


# --- damage ------------------------------------------------------------------------------------------------------

@st.composite
def spoiled(draw: Any, contents: st.SearchStrategy[bytes]) -> bytes:
    """Draw a file, and leave it, cut it, or change, insert, repeat or remove some of its bytes."""
    content = bytearray(draw(contents))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(content)))
        what = draw(st.sampled_from(["cut", "put", "flip", "repeat", "remove"]))
        span = draw(st.integers(0, 9))
        if what == "cut":
            del content[at:]
        elif what == "put":
            content[at:at + span] = draw(st.binary(max_size=9))
        elif what == "flip" and at < len(content):
            content[at] ^= draw(st.integers(1, 255))
        elif what == "repeat":
            content[at:at] = content[at:at + span]
        else:
            del content[at:at + span]
    return bytes(content)


@st.composite
def packed(draw: Any, contents: st.SearchStrategy[bytes]) -> bytes:
    """Draw a file, and perhaps compress it in one or two pieces."""
    content = draw(contents)
    how = draw(st.sampled_from(["plain", "gzip", "two members", "zip"]))
    if how == "plain":
        return content
    if how == "zip":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive:
            names = st.sampled_from(["a.csv", "b.csv", "x/a.csv", "read.me"])
            for name in draw(st.lists(names, max_size=2, unique=True)):
                archive.writestr(zipfile.ZipInfo(name), content, archive.compression)  # of no date: drawn alike
        return file.getvalue()
    at = draw(st.integers(0, len(content))) if how == "two members" else len(content)
    return gzip.compress(content[:at], mtime=0) + (gzip.compress(content[at:], mtime=0) if how != "gzip" else b"")


# --- IDX ---------------------------------------------------------------------------------------------------------

@st.composite
def idx_files(draw: Any) -> bytes:
    """Draw an IDX file: a header that may lie, and about as many bytes as it says."""
    shape = draw(st.lists(st.one_of(SMALL, ODD_NUMBERS.filter(lambda size: 0 <= size < 2**32)), max_size=4))
    size = int(np.prod([min(size, 50) for size in shape], dtype=object))
    data = draw(st.binary(min_size=min(size, 500), max_size=min(size, 500)))
    head = bytearray(header(tuple(shape)))
    if draw(st.integers(0, 5)) == 0:
        head[:4] = draw(st.sampled_from([b"\0\0\x0d\3", b"\0\0\x08\xff", b"\0\0\x08\0", b"\x08\3\0\0", b"<htm"]))
    return bytes(head) + data


def enter_idx(path: Path) -> None:
    """Read an IDX file, and hold what comes out to what it says."""
    array = read_idx(path)
    assert array.dtype == np.uint8


# --- CSV ---------------------------------------------------------------------------------------------------------

CELLS = st.one_of(st.integers(0, 255).map(str), st.integers(0, 255).map(str), st.integers(0, 255).map(str),
                  st.sampled_from(["", " 7", "nan", "NaN", "inf", "-5", "300", "1.5", "2.0", "1e2", "1e999", "0x1F",
                                   "1_0", '"3"', '"', "x", "é", "\0", "True", "=1", "１", "12345678901234567890",
                                   "\ufeff1"]),
                  st.text(max_size=4))


@st.composite
def csv_files(draw: Any) -> bytes:
    """Draw a table of square images, with odd cells, ragged rows and all kinds of headers."""
    columns = draw(st.sampled_from([4, 5, 9, 10, 10, 2, 8]))
    rows = draw(st.lists(st.lists(st.integers(0, 255).map(str), min_size=columns, max_size=columns), max_size=6))
    for _ in range(draw(st.integers(0, 2)) if rows else 0):
        row = draw(st.sampled_from(rows))
        at = draw(st.integers(0, columns))
        row[at:at + draw(st.integers(0, 2))] = draw(st.lists(CELLS, max_size=2))
    names = draw(st.sampled_from([None, "label", "pixel", "Label"]))
    head = [] if names is None else [[names if k == 0 else f"pixel{k - 1}" for k in range(columns)]]
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n"]))
    comma = draw(st.sampled_from([",", ",", ",", ", ", ";", "\t"]))
    text = end.join(comma.join(cells) for cells in [*head, *rows]) + draw(st.sampled_from([end, ""]))
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"])), "replace")


def enter_csv(path: Path) -> None:
    """Read a table, and as far as possible; what the first takes the second finds nothing wrong with."""
    try:
        x, y = kaggle.read_csv(path)
    finally:
        try:
            found = kaggle.examine(path)
        except MinicnnError:
            found = None
    assert found is not None
    assert not found.faults
    assert np.array_equal(x, found.x)
    assert x.dtype == np.uint8
    assert x.shape[1] == x.shape[2]
    assert y is None or y.shape == x.shape[:1]


# --- model files -------------------------------------------------------------------------------------------------

def _model() -> bytes:
    model = Sequential([Input((6, 5, 1)), Conv2D(2, 3, activation="relu"), BatchNormalization(), MaxPooling2D(2),
                        Flatten(), Dense(3, activation="softmax")], seed=1)
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    model.train_on_batch(np.ones((2, 6, 5, 1)), np.array([0, 1]))
    with tempfile.TemporaryDirectory() as place:
        model.save(Path(place) / "m.safetensors")
        return (Path(place) / "m.safetensors").read_bytes()


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(inner, st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3))


WORDS = st.sampled_from(["Dense", "Conv2D", "Input", "relu", "same", "valid", "float64", "float16", "adam", "F64", "U8",
                         "../x", "os.system", "dense", "accuracy"])
VALUES = _nested(_nested(st.one_of(st.none(), st.booleans(), ODD_NUMBERS, SMALL, st.floats(), st.text(max_size=5),
                                   WORDS)))


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return every (container, key) in a tree of JSON."""
    for key in value if isinstance(value, dict) else range(len(value)):
        found.append((value, key))
        if isinstance(value[key], (dict, list)):
            _places(value[key], found)
    return found


@st.composite
def changed_trees(draw: Any, tree: Any) -> Any:
    """Draw a tree of JSON in which some values are others, missing, or there twice."""
    tree = json.loads(json.dumps(tree))
    for _ in range(draw(st.integers(0, 3))):
        places = _places(tree, [])
        if not places:
            break
        container, key = draw(st.sampled_from(places))
        what = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if what == "remove":
            del container[key]
        elif what == "replace":
            container[key] = draw(VALUES)
        elif isinstance(container, dict):
            container[draw(st.text(max_size=5))] = draw(VALUES)
        else:
            container.append(container[key])
    return tree


@st.composite
def model_files(draw: Any, whole: bytes = _model()) -> bytes:
    """Draw a model file in whose header, description and data something is changed, with a digest that fits."""
    end = 8 + int.from_bytes(whole[:8], "little")
    fields, data = json.loads(whole[8:end]), whole[end:]
    description = json.loads(fields.pop("__metadata__")["minicnn"]) | {"sha256": BLANK.decode()}
    text = json.dumps(draw(changed_trees(description)))
    tensors = draw(changed_trees(fields)) if draw(st.integers(0, 1)) else fields
    head = json.dumps({"__metadata__": {"minicnn": text}, **tensors}).encode()
    head = draw(spoiled(st.just(head))) if draw(st.integers(0, 7)) == 0 else head
    data = draw(spoiled(st.just(data))) if draw(st.integers(0, 2)) == 0 else data
    made = len(head).to_bytes(8, "little") + head + data
    made = made.replace(BLANK, hashlib.sha256(made).hexdigest().encode(), 1)
    return draw(spoiled(st.just(made))) if draw(st.integers(0, 9)) == 0 else made


def enter_model(path: Path) -> None:
    """Load a model; the arrays are those that the format's own library reads, and the network predicts and trains."""
    arrays, _ = saving.read(path)
    others = safetensors.numpy.load_file(path)
    assert arrays.keys() == others.keys()
    assert all(np.array_equal(array, others[name], equal_nan=True) for name, array in arrays.items())
    model = load_model(path)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    if model.input_shape is not None:
        assert np.shape(model.predict(np.zeros((1, *model.input_shape[1:])), verbose=0))[0] == 1


# --- JSON --------------------------------------------------------------------------------------------------------

@st.composite
def json_files(draw: Any) -> bytes:
    """Draw JSON, or what is nearly: keys twice, NaN, deep brackets, numbers without end."""
    text = json.dumps(draw(VALUES), ensure_ascii=draw(st.booleans()))
    odd = draw(st.sampled_from(["", "", "", '{"a": 1, "a": 2}', "[NaN]", "-Infinity", "1e999", "[" * 90_000,
                                '{"a":' * 30_000, "9" * 5000, "[[]]" * 9, '"\\ud800"', "\ufeff{}", "[1,]", "{'a': 1}",
                                "\0"]))
    at = draw(st.integers(0, len(text)))
    return (text[:at] + odd + text[at:]).encode("utf-8", "surrogatepass")


def enter_json(path: Path) -> None:
    """Read JSON strictly; what is read is what Python's reader reads."""
    content = path.read_bytes()
    value = strict_json.loads(content, str(path), "Use another copy.")
    assert json.loads(content) == value
    with contextlib.suppress(MinicnnError):
        strict_json.check(value, {"a": int, "b": [str]}, str(path), "Use another copy.")


# --- all of them -------------------------------------------------------------------------------------------------

class Target(NamedTuple):
    """A reader and the files it is tried with."""

    files: st.SearchStrategy[bytes]
    enter: Callable[[Path], None]


TARGETS = {
    "idx": Target(spoiled(packed(idx_files())), enter_idx),
    "csv": Target(spoiled(packed(csv_files())), enter_csv),
    "model": Target(model_files(), enter_model),
    "json": Target(spoiled(json_files()), enter_json),
}


def attempt(target: Target, path: Path, content: bytes) -> str:
    """Give a file to a reader; return what became of it. Any error but our own goes through."""
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a file may well be worth a warning
            target.enter(path)
    except MinicnnError as error:
        return type(error).__name__
    return "read"


def run(name: str, minutes: float, seed: int) -> tuple[collections.Counter[str], str]:
    """Try one reader for some minutes; return what became of the files, and the first finding."""
    target, outcomes, end = TARGETS[name], collections.Counter[str](), time.monotonic() + 60 * minutes
    found = ""
    with tempfile.TemporaryDirectory() as place:
        while time.monotonic() < end and not found:
            @hypothesis.seed(seed)
            @hypothesis.settings(max_examples=200, deadline=None, database=None, phases=[hypothesis.Phase.generate],
                                 report_multiple_bugs=False,
                                 suppress_health_check=list(hypothesis.HealthCheck))
            @hypothesis.given(target.files)
            def trial(content: bytes) -> None:
                if time.monotonic() < end:
                    outcomes[attempt(target, Path(place) / "file", content)] += 1
            try:
                trial()
            except Exception as error:
                frames = traceback.extract_tb(error.__traceback__)
                found = f"{type(error).__name__}: {error} (in {frames[-1].filename}, line {frames[-1].lineno})"
                Path(f"fuzz-{name}-finding").write_bytes((Path(place) / "file").read_bytes())
            seed += 1
    return outcomes, found


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz; return 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--minutes", type=float, default=10, help="for each (default: 10)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    findings = 0
    for name in options.targets:
        outcomes, found = run(name, options.minutes, options.seed)
        parts = ", ".join(f"{count:,} {what}" for what, count in outcomes.most_common())
        print(f"{name}: {outcomes.total():,} files in {options.minutes:g} minutes: {parts}; "
              f"{'a finding: ' + found if found else 'no finding'}", flush=True)
        findings += bool(found)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

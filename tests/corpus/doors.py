"""The doors: every function that reads a file, and every script."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

import accuracy
import benchmark
import explore
import photos
import predict
import report
import train
from corpus import Door
from minicnn import load_model
from minicnn.datasets import kaggle, mnist
from minicnn.datasets.idx import read_idx
from minicnn.layers import Dense, Flatten, Input
from minicnn.models import Sequential

TABLE = b"pixel0,pixel1,pixel2,pixel3\n1,2,3,4\n"


@functools.cache
def network() -> Sequential:
    """Return a network for images of 2 x 2, not trained."""
    return Sequential([Input((2, 2, 1)), Flatten(), Dense(10, activation="softmax")], seed=1)


def saved(place: Path) -> str:
    """Write that network and return its path."""
    place.mkdir(exist_ok=True)
    network().save(place / "good.safetensors")
    return str(place / "good.safetensors")


def _aside(path: Path) -> Path:
    """Return a folder beside the one that is watched for output."""
    return path.parent.parent / "aside" if path.parent.name == "given" else path.parent / "../aside"


def _load_weights(path):
    network().load_weights(path)


def _predict_with(path):
    table = _aside(path) / "test.csv"
    table.parent.mkdir(exist_ok=True)
    table.write_bytes(TABLE)
    return predict.main([str(path), str(table)])


READ_IDX = Door("read_idx", read_idx)
LOAD_DATA = Door("mnist.load_data", mnist.load_data)
READ_CSV = Door("kaggle.read_csv", kaggle.read_csv)
KAGGLE = Door("kaggle.load_data", kaggle.load_data)
LOAD_MODEL = Door("load_model", load_model)
LOAD_WEIGHTS = Door("load_weights", _load_weights)
PICTURE = Door("photos.read", photos.read)
TRAIN = Door("train.py --data", lambda path: train.main(["dense", "--data", str(path), "--epochs", "1"]), True)
EXPLORE = Door("explore.py", lambda path: explore.main([str(path)]), True)
PREDICT = Door("predict.py RUN", lambda path: predict.main([saved(_aside(path)), str(path)]), True)
PREDICT_WITH = Door("predict.py", _predict_with, True)
REPORT = Door("report.py", lambda path: report.main([str(path)]), True)
ACCURACY = Door("accuracy.py --table", lambda path: accuracy.main(
    ["--table", "--results", str(path), "--readme", str(path / "README.md")]), True)
BENCHMARK = Door("benchmark.py --table", lambda path: benchmark.main(
    ["--table", "--results", str(path), "--page", str(path / "README.md"), "--readme", str(path / "README.md")]), True)


def call(name, function):
    """Return a door of which the arguments are what is bad."""
    return Door(name, lambda _: function())


def script(module, *arguments):
    """Return a door of which the command line is what is bad; ``{good}`` and ``{table}`` are good files."""
    def enter(place: Path) -> int:
        return module.main([argument.format(good=place / "good.safetensors", table=place / "table.csv")
                            for argument in arguments])
    return Door(f"{module.__name__.rsplit('.')[-1]}.py", enter, True)


def with_good_files(place: Path) -> Path:
    """Make a network and a table that are right."""
    saved(place)
    (place / "table.csv").write_bytes(TABLE)
    return place


ZEROS = np.zeros((3, 4), np.float32)

"""A run is not lost to Ctrl-C, once or twice, to a reader that leaves, or to a missing console; and its data's name."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import accuracy
import digits
import folder
import recipes
import runs
import train
from minicnn.callbacks import Callback
from minicnn.datasets import mnist
from minicnn.datasets.idx import write_idx
from minicnn.models import load_model

EXPERIMENTS = Path(train.__file__).parent
FILES = set(folder.CONTENTS) - {"checkpoint.safetensors"}


@pytest.fixture(autouse=True)
def _quick(reference_kernels, threads, no_pictures):
    """NumPy's kernels, nothing to compile; and empty files in place of the pictures."""


@pytest.fixture
def toys(tmp_path):
    """Return a folder of four IDX files of noise, 48 training and 12 test images of 7 x 6 pixels."""
    return fill(tmp_path / "toys")


def fill(place):
    place.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", 48), ("t10k", 12)):
        write_idx(place / f"{split}-images-idx3-ubyte", rng.integers(0, 256, (count, 7, 6)).astype(np.uint8))
        write_idx(place / f"{split}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    return place


def run(toys, place):
    return train.main(["dense", "--data", str(toys), "--epochs", "2", "--batch-size", "16", "--out", str(place)])


# --- who listens -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_reader_that_leaves_takes_nothing_with_it(toys, tmp_path, monkeypatch, name):
    """As in ``train.py | head -1``: the first line that finds no reader must not end the run."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, name, stream)
        assert run(toys, tmp_path / "out") == 0
        assert getattr(sys, name) is stream
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


def test_without_a_console_the_run_goes_on_and_errors_are_a_status(toys, tmp_path, monkeypatch):
    """Python without a window (pythonw) has None for both."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert run(toys, tmp_path / "out") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert train.main(["no such recipe"]) == 2


# --- Ctrl-C ------------------------------------------------------------------------------------------------------

def press(*_, **__):
    signal.raise_signal(signal.SIGINT)


class Pressing(Callback):
    """Press Ctrl-C after the second batch of the second epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1 and self.model.optimizer.iterations > 3:
            press()


@pytest.fixture
def pressed(monkeypatch):
    recipe = recipes.find("dense")
    training = dataclasses.replace(recipe.training, callbacks=(recipes.Setting(Pressing),))
    monkeypatch.setitem(recipes.RECIPES, "dense", dataclasses.replace(recipe, training=training))


@pytest.mark.usefixtures("pressed")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_second_ctrl_c_waits_until_the_model_is_saved(toys, tmp_path, monkeypatch, capsys, when):
    save = folder.save_training

    def impatient(place, run):
        if when == "before":
            press()
        save(place, run)
        if when == "after":
            press()
    monkeypatch.setattr(folder, "save_training", impatient)
    handler = signal.getsignal(signal.SIGINT)
    assert run(toys, tmp_path / "out") == 130
    assert signal.getsignal(signal.SIGINT) is handler
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.safetensors", "history.csv", "backup"}
    load_model(tmp_path / "out" / "model.safetensors")
    shown = capsys.readouterr()
    assert f"{tmp_path / 'out'}:\n  history.csv" in shown.out
    assert shown.err.endswith("Interrupted.\n")


def test_ctrl_c_while_the_images_are_judged_leaves_the_model(toys, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs.Run, "score", press)
    assert run(toys, tmp_path / "out") == 130
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.safetensors", "history.csv", "backup"}
    assert "model.safetensors" in capsys.readouterr().out


@pytest.mark.usefixtures("pressed")
def test_the_first_ctrl_c_ends_the_training_and_no_more(toys, tmp_path, capsys):
    assert run(toys, tmp_path / "out") == 130
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert "Interrupted after 1 of 2 epochs" in capsys.readouterr().out


def test_a_process_told_to_ignore_ctrl_c_goes_on_ignoring_it(toys, tmp_path, pressed):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run(toys, tmp_path / "out") == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("script", ["train.py", "accuracy.py", "report.py", "explore.py", "predict.py", "benchmark.py",
                                    "kills.py"])
def test_ctrl_c_during_the_imports_shows_no_traceback(script):
    program = f"""
import builtins, runpy, sys
original = builtins.__import__
def interrupting(name, *args, **options):
    if name == "numpy" or name.startswith("numpy."):
        raise KeyboardInterrupt
    return original(name, *args, **options)
builtins.__import__ = interrupting
sys.path.insert(0, {str(EXPERIMENTS)!r})
runpy.run_path({str(EXPERIMENTS / script)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(EXPERIMENTS.parent)})
    assert done.returncode != 0
    assert done.stderr == "\nInterrupted.\n"


# --- what the data is called -------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "expected"), [
    ("fashion", "fashion"), ("MNIST", "folder MNIST"), ("mnist", "folder mnist"), ("strokes", "folder strokes"),
    ("csv", "folder csv")])
def test_a_folder_is_called_by_its_name_but_never_like_what_it_is_not(tmp_path, name, expected):
    assert digits.load(str(fill(tmp_path / name))).name == expected


def test_a_folder_of_mnist_is_called_mnist(toys, monkeypatch):
    monkeypatch.setattr(mnist, "is_original", lambda arrays: arrays[0][0].shape == (48, 7, 6))
    assert digits.load(str(toys)).name == "MNIST"


@pytest.mark.needs("mnist")
def test_a_copy_of_mnist_elsewhere_is_mnist_and_an_extract_is_not(tmp_path):
    assert digits.load(str(mnist.find())).name == "MNIST"
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
    part = tmp_path / "part" / "mnist"
    part.mkdir(parents=True)
    for file, array in zip(mnist.FILES, (x_train[:30], y_train[:30], x_test[:10], y_test[:10])):
        write_idx(part / file.name, array)
    assert digits.load(str(part)).name == "folder mnist"


def test_results_of_any_name_get_a_plain_file_name():
    for test, expected in (("folder MNIST", "folder-mnist"), ("MNIST", "folder-mnist-to-mnist")):
        assert accuracy.file_name("cnn", 5, None, "folder MNIST", test) == f"accuracy-cnn-5-epochs-{expected}.json"

"""The scripts, called as their users call them, on a few small images: what they write, say, refuse and save."""

from __future__ import annotations

import csv
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cli
import digits
import folder
import runs
import train
from minicnn.datasets import mnist, strokes
from minicnn.errors import DownloadError
from minicnn.models import load_model
from minicnn.statistics import wilson_interval
from toy_runs import press_in_epoch, toy_folder, toy_images

EXPERIMENTS = Path(train.__file__).parent
FILES = {"curves.png", "confusion.png", "samples.png", "mistakes.png", "history.csv", "result.json",
         "predictions.safetensors", "backup", "model.safetensors"}

# Small networks on NumPy: nothing to compile, and the same with and without JIT.
pytestmark = pytest.mark.usefixtures("reference_kernels", "threads")


@pytest.fixture
def toys(tmp_path):
    """Return a folder of four IDX files, 96 training and 40 test images, called toys."""
    return toy_folder(tmp_path / "toys")


def png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:])


def result_of(place):
    return json.loads((place / "result.json").read_text(encoding="utf-8"))


# --- train -------------------------------------------------------------------------------------------------------

def test_a_run_writes_everything_and_the_model_reproduces_its_accuracy(toys, tmp_path, capsys):
    place = tmp_path / "out"
    assert train.main(["dense", "--data", str(toys), "--epochs", "3", "--batch-size", "16", "--seed", "4",
                       "--out", str(place)]) == 0
    assert {path.name for path in place.iterdir()} == FILES
    for path in place.glob("*.png"):
        assert min(png_size(path)) > 300, path
    result = result_of(place)
    assert (result["recipe"], result["seed"], result["batch_size"], result["epochs"]) == ("dense", 4, 16, 3)
    assert (result["data"]["name"], result["test_data"]) == ("toys", "toys")
    assert [result["data"][f"{part}_images"] for part in ("training", "validation", "test")] == [88, 8, 40]
    assert result["machine"]["kernels"] == "reference"
    assert len(result["seconds_per_epoch"]) == 3
    assert {"python", "numpy", "numba", "minicnn"} <= set(result["versions"])

    x, y = toy_images(40, seed=1)
    model = load_model(place / "model.safetensors")
    correct = int((model.predict(digits.scaled(x)).argmax(axis=1) == y).sum())
    assert result["correct"] == correct > 30  # of 40; chance is 4
    assert result["interval_95"] == list(wilson_interval(correct, 40))
    assert result["weights_sha256"] == model.weights_sha256()
    saved = folder.read(str(place))
    np.testing.assert_array_equal(saved.probabilities, model.predict(digits.scaled(x), batch_size=512))
    np.testing.assert_array_equal(saved.labels, y)
    assert saved.right.sum() == correct

    with open(place / "history.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[2]["val_accuracy"]) == pytest.approx(result["history"]["val_accuracy"][2], rel=1e-5)
    assert {"loss", "accuracy", "val_loss", "learning_rate", "seconds"} <= set(rows[0])
    out = capsys.readouterr().out
    assert f"{100 * correct / 40:.2f} % of 40 toys test images right (95 % interval" in out
    assert str(place) in out
    assert "model.safetensors" in out


@pytest.mark.usefixtures("no_pictures")
def test_the_main_recipe_runs_from_pixels_to_pictures(toys, tmp_path, capsys):
    place = tmp_path / "out"
    assert train.main(["--data", str(toys), "--epochs", "1", "--limit", "24", "--out", str(place)]) == 0
    assert {path.name for path in place.iterdir()} == FILES
    assert result_of(place)["recipe"] == "cnn"
    assert "Too short a training to judge the network: after 1 steps" in capsys.readouterr().out


@pytest.mark.usefixtures("no_pictures")
def test_runs_are_numbered_and_none_is_overwritten(toys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for n in (1, 2):
        assert train.main(["dense", "--data", "toys", "--epochs", "1", "--limit", "20", "--seed", "0"]) == 0
        assert result_of(tmp_path / "runs" / f"dense-{n}")["data"]["training_images"] == 18
    first, second = (result_of(tmp_path / "runs" / f"dense-{n}") for n in (1, 2))
    assert first["weights_sha256"] == second["weights_sha256"]
    (tmp_path / "runs" / "dense-3").mkdir()  # by someone faster
    assert folder.make(None, "dense").name == "dense-4"
    assert train.main(["dense", "--data", "toys", "--epochs", "1", "--limit", "20", "--seed", "1"]) == 0
    assert result_of(tmp_path / "runs" / "dense-5")["weights_sha256"] != first["weights_sha256"]


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.no_jit_excluded("trains on the compiled kernels, whose plain loops take minutes")
def test_the_fast_kernels_are_compiled_before_the_first_epoch(toys, tmp_path, capsys):
    place = tmp_path / "out"
    assert train.main(["dense", "--data", str(toys), "--epochs", "2", "--kernels", "fast", "--threads", "1",
                       "--out", str(place)]) == 0
    machine = result_of(place)["machine"]
    assert (machine["kernels"], machine["threads"]) == ("fast", 1)
    assert "fast, on 1 thread\n" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "words"), [
    (["dens"], "Did you mean 'dense'"),
    (["--epochs", "0"], "expected a whole number of at least 1"),
    (["--epochs", "many"], "got 'many'"),
    (["--seed", "-1"], "--seed"),
    (["--data", "nowhere"], "neither a data set nor a folder"),
    (["--data", "mnst"], "Did you mean 'mnist'"),
    (["--kernels", "slow"], "invalid choice"),
    (["--colour", "blue"], "unrecognized arguments: --colour"),
    (["--data", "empty"], "train-images-idx3-ubyte"),
    (["--data", "empty", "--out", "full"], "no run is overwritten"),
])
def test_a_wrong_command_is_one_message_and_status_2(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    assert train.main(arguments) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.startswith("error: ")
    assert "Traceback" not in shown.err
    assert not (tmp_path / "runs").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]


@pytest.mark.usefixtures("no_pictures")
def test_without_mnist_strokes_are_used_and_called_so(tmp_path, monkeypatch, capsys):
    def refuse():
        raise DownloadError("no mirror answered")
    monkeypatch.setattr(mnist, "load_data", refuse)
    monkeypatch.setattr(strokes, "load_data", lambda: (toy_images(60), toy_images(20, seed=1)))
    place = tmp_path / "out"
    assert train.main(["dense", "--epochs", "1", "--out", str(place)]) == 0
    shown = capsys.readouterr()
    assert "MNIST CANNOT BE HAD" in shown.err
    assert "no mirror answered" in shown.err
    assert "of 20 strokes test images right" in shown.out
    assert "strokes instead of MNIST" in shown.out
    assert "MNIST test images" not in shown.out
    result = result_of(place)
    assert (result["data"]["name"], result["test_data"]) == ("strokes", "strokes")
    assert result["data"]["fallback"] == "no mirror answered"


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("epoch", [0, 1])
def test_ctrl_c_saves_what_there_is(epoch, toys, tmp_path, monkeypatch, capsys):
    press_in_epoch(epoch, monkeypatch)
    place = tmp_path / "out"
    assert train.main(["dense", "--data", str(toys), "--epochs", "5", "--batch-size", "16", "--out", str(place)]) == 130
    assert {path.name for path in place.iterdir()} == (FILES if epoch else FILES - {"curves.png"})
    result = result_of(place)
    assert (result["interrupted"], result["epochs"], result["epochs_planned"]) == (True, epoch, 5)
    assert load_model(place / "model.safetensors").weights_sha256() == result["weights_sha256"]
    assert len((place / "history.csv").read_text().splitlines()) == 1 + epoch
    assert f"Interrupted after {epoch} of 5 epochs" in capsys.readouterr().out


def test_ctrl_c_before_training_leaves_nothing_behind(toys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def interrupt(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(runs, "announce", interrupt)
    assert train.main(["dense", "--data", "toys"]) == 130
    assert not list(Path("runs").iterdir())


@pytest.mark.parametrize("script", ["train.py", "accuracy.py", "report.py", "explore.py", "predict.py", "benchmark.py"])
def test_help_works_from_any_folder_and_has_examples(script, tmp_path):
    done = subprocess.run([sys.executable, str(EXPERIMENTS / script), "--help"], cwd=tmp_path, capture_output=True,
                          text=True, check=True, encoding="utf-8",
                          env={**os.environ, "PYTHONPATH": str(EXPERIMENTS.parent)})
    assert f"python experiments/{script}" in done.stdout
    if script in ("train.py", "accuracy.py"):
        assert "888,426" in done.stdout
        assert "minutes" in done.stdout


# --- command lines -----------------------------------------------------------------------------------------------

def test_a_programming_error_keeps_its_traceback():
    @cli.command
    def broken(argv=None):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        broken()

"""The scripts, called as their users call them, on a few small images: what they write, say, refuse and save."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import accuracy
import cli
import digits
import folder
import recipes
import runs
import train
from minicnn.callbacks import Callback
from minicnn.datasets import mnist, strokes
from minicnn.errors import DownloadError
from minicnn.models import load_model
from minicnn.statistics import wilson_interval

EXPERIMENTS = Path(train.__file__).parent
SIZE = (12, 10)  # of the images: small, and not square
FILES = {"curves.png", "confusion.png", "samples.png", "mistakes.png", "history.csv", "result.json",
         "model.safetensors"}

# Small networks on NumPy: nothing to compile, and the same with and without JIT.
pytestmark = pytest.mark.usefixtures("reference_kernels", "threads")


def write_idx(path, array):
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes())


def toy_images(count, seed=0):
    """Ten random patterns under noise; a network learns them in an epoch or two."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(7).integers(0, 200, (10, *SIZE))
    y = (np.arange(count) % 10).astype(np.uint8)
    return (patterns[y] + rng.integers(0, 56, (count, *SIZE))).astype(np.uint8), y


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave empty files in place of the pictures; writing them takes seconds."""
    monkeypatch.setattr(folder, "_save", lambda figure, path: path.touch())


@pytest.fixture
def toys(tmp_path):
    """Return a folder of four IDX files, 96 training and 40 test images, called toys."""
    place = tmp_path / "toys"
    place.mkdir()
    for split, count, seed in (("train", 96, 0), ("t10k", 40, 1)):
        x, y = toy_images(count, seed)
        write_idx(place / f"{split}-images-idx3-ubyte", x)
        write_idx(place / f"{split}-labels-idx1-ubyte", y)
    return place


def png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:])


def result_of(place):
    return json.loads((place / "result.json").read_text(encoding="utf-8"))


# --- recipes -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("recipe", recipes.RECIPES.values(), ids=lambda recipe: recipe.name)
def test_a_recipe_tells_its_parameters_right(recipe):
    model = recipe.network((28, 28, 1), 10, 0)
    assert sum(array.size for layer in model.layers for array in layer.params.values()) == recipe.parameters
    assert recipe.quick_epochs <= recipe.epochs


def test_cnn_has_888426_parameters_in_the_order_of_layers_it_is_known_for():
    assert recipes.find("cnn").parameters == 888_426
    model = recipes.cnn((28, 28, 1), 10, 0)
    block = ["Conv2D", "BatchNormalization"] * 2 + ["MaxPooling2D", "Dropout"]
    expected = [*block, *block, "Flatten", "Dense", "BatchNormalization", "Dropout", "Dense"]
    assert [type(layer).__name__ for layer in model.layers if type(layer).__name__ != "Input"] == expected


def test_the_learning_rate_falls_by_equal_steps():
    (scheduler,) = recipes.linear_decay(4)
    rates = [0.8]
    for epoch in range(4):
        rates.append(scheduler.schedule(epoch, rates[-1]))
    np.testing.assert_allclose(rates[1:], [0.8, 0.6, 0.4, 0.2])


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
    (["--epochs", "3", "--full"], "not allowed with"),
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


class Interrupting(Callback):
    """Press Ctrl-C in the second batch of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, 1):
            raise KeyboardInterrupt


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("epoch", [0, 1])
def test_ctrl_c_saves_what_there_is(epoch, toys, tmp_path, monkeypatch, capsys):
    recipe = dataclasses.replace(recipes.find("dense"), callbacks=lambda epochs: [Interrupting(epoch)])
    monkeypatch.setitem(recipes.RECIPES, "dense", recipe)
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


@pytest.mark.parametrize("script", ["train.py", "accuracy.py", "benchmark.py"])
def test_help_works_from_any_folder_and_has_examples(script, tmp_path):
    done = subprocess.run([sys.executable, str(EXPERIMENTS / script), "--help"], cwd=tmp_path, capture_output=True,
                          text=True, check=True, encoding="utf-8",
                          env={**os.environ, "PYTHONPATH": str(EXPERIMENTS.parent)})
    assert f"python experiments/{script}" in done.stdout
    if script != "benchmark.py":
        assert "888,426" in done.stdout
        assert "minutes" in done.stdout


# --- accuracy ----------------------------------------------------------------------------------------------------

def measure(toys, tmp_path, *more):
    return accuracy.main(["dense", "--data", str(toys), "--epochs", "1", "--batch-size", "16", "--results",
                          str(tmp_path), *more])


def test_seeds_are_measured_once_and_summed_up(toys, tmp_path, monkeypatch, capsys):
    assert measure(toys, tmp_path, "--seeds", "0", "3") == 0
    path = tmp_path / "accuracy-dense-1-epochs-toys.json"
    before = json.loads(path.read_text(encoding="utf-8"))
    values = [result["accuracy"] for result in before["seeds"]]
    assert [result["seed"] for result in before["seeds"]] == [0, 3]
    assert before["accuracy_mean"] == pytest.approx(np.mean(values))
    assert before["accuracy_deviation"] == pytest.approx(np.std(values, ddof=1))
    assert before["command"].startswith("python experiments/accuracy.py dense --epochs 1")

    trained = []
    train_really = runs.Run.train
    monkeypatch.setattr(runs.Run, "train", lambda run: (trained.append(run.seed), train_really(run)))
    assert measure(toys, tmp_path, "--seeds", "0", "1", "3") == 0
    assert trained == [1]
    after = json.loads(path.read_text(encoding="utf-8"))
    assert [result["seed"] for result in after["seeds"]] == [0, 3, 1]
    assert after["seeds"][:2] == before["seeds"]
    assert measure(toys, tmp_path, "--seeds", "3", "--force") == 0
    assert trained == [1, 3]


def test_seeds_trained_otherwise_are_not_averaged(toys, tmp_path, capsys):
    assert measure(toys, tmp_path, "--seeds", "0") == 0
    assert measure(toys, tmp_path, "--seeds", "1", "--batch-size", "32") == 2
    assert "batch_size" in capsys.readouterr().err


def test_an_interrupted_seed_is_not_recorded(toys, tmp_path, monkeypatch):
    recipe = dataclasses.replace(recipes.find("dense"), callbacks=lambda epochs: [Interrupting(0)])
    monkeypatch.setitem(recipes.RECIPES, "dense", recipe)
    assert measure(toys, tmp_path, "--seeds", "0") == 130
    assert not list(tmp_path.glob("*.json"))


def test_training_on_one_data_set_and_judging_on_another_names_both(toys, tmp_path, monkeypatch):
    monkeypatch.setattr(strokes, "load_data", lambda: (toy_images(48), toy_images(10, seed=2)))
    assert accuracy.main(["dense", "--data", "strokes", "--test", str(toys), "--epochs", "1", "--seeds", "0",
                          "--results", str(tmp_path)]) == 0
    file = json.loads((tmp_path / "accuracy-dense-1-epochs-strokes-to-toys.json").read_text(encoding="utf-8"))
    assert (file["trained_on"], file["tested_on"], file["seeds"][0]["total"]) == ("strokes", "toys", 40)


def test_mnist_is_never_replaced_when_it_is_measured(tmp_path, monkeypatch, capsys):
    def refuse():
        raise DownloadError("no mirror answered")
    monkeypatch.setattr(mnist, "load_data", refuse)
    assert accuracy.main(["dense", "--results", str(tmp_path)]) == 2
    assert "no mirror answered" in capsys.readouterr().err


def test_the_table_replaces_what_is_between_the_markers(toys, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Before\n{accuracy.BEGIN}\nold\n{accuracy.END}\nafter\n", encoding="utf-8")
    assert measure(toys, tmp_path, "--seeds", "0", "1", "--table", "--readme", str(readme)) == 0
    text = readme.read_text(encoding="utf-8")
    file = json.loads((tmp_path / "accuracy-dense-1-epochs-toys.json").read_text(encoding="utf-8"))
    assert text.startswith(f"# Before\n{accuracy.BEGIN}\n| recipe |")
    assert text.endswith(f"|\n{accuracy.END}\nafter\n")
    assert f"{100 * file['accuracy_mean']:.2f} ± {100 * file['accuracy_deviation']:.2f}" in text
    assert "old" not in text
    assert accuracy.main(["--table", "--results", str(tmp_path), "--readme", str(readme)]) == 0
    assert readme.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("text", ["no markers", f"{accuracy.END} the wrong way round {accuracy.BEGIN}"])
def test_a_readme_without_markers_is_left_alone(text, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    (tmp_path / "accuracy-x.json").write_text("{}")
    assert accuracy.main(["--table", "--results", str(tmp_path), "--readme", str(readme)]) == 2
    assert "results:begin" in capsys.readouterr().err
    assert readme.read_text() == text


def test_accuracy_without_a_recipe_says_what_is_missing(capsys):
    assert accuracy.main([]) == 2
    assert "recipe" in capsys.readouterr().err


# --- command lines -----------------------------------------------------------------------------------------------

def test_a_programming_error_keeps_its_traceback():
    @cli.command
    def broken(argv=None):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        broken()

"""train.py --resume: after Ctrl-C, SIGTERM or worse a run goes on, to the same files; and no other run in its place."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import signal

import numpy as np
import pytest

import cli
import folder
import guard
import recipes
import resume
import runs
import train
from minicnn import checkpoint
from minicnn.callbacks import Callback, EarlyStopping
from minicnn.datasets.idx import read_idx, write_idx
from minicnn.models import load_model
from minicnn.optimizers import SGD
from resumed import keep
from toy_runs import toy_folder

pytestmark = pytest.mark.usefixtures("reference_kernels", "threads", "no_pictures")


@pytest.fixture
def toys(tmp_path):
    return toy_folder(tmp_path / "toys")


class Sending(Callback):
    """Send this process a signal in a batch."""

    def __init__(self, number, step):
        super().__init__()
        self.number, self.step = number, step

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.optimizer.iterations + 1 == self.step:
            signal.raise_signal(self.number)


def sending(monkeypatch, *callbacks, **changes):
    """Give the recipe ``dense`` callbacks and other settings."""
    recipe = recipes.find("dense")
    training = dataclasses.replace(recipe.training, callbacks=callbacks, **changes)
    monkeypatch.setitem(recipes.RECIPES, "dense", dataclasses.replace(recipe, training=training))


STOPPING = recipes.Setting(EarlyStopping, monitor="val_loss", patience=9, restore_best_weights=True)


def run(toys, place, *more):
    return train.main(["dense", "--data", str(toys), "--epochs", "3", "--batch-size", "16", "--out", str(place), *more])


def outcome(place):
    """Return what two runs must have in common: the model's file, predictions, and what both were not told."""
    result = json.loads((place / "result.json").read_text(encoding="utf-8"))
    for name in ("seconds_per_epoch", "machine", "versions", "command", "training"):
        del result[name]
    return (place / "model.safetensors").read_bytes(), (place / "predictions.safetensors").read_bytes(), result


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_was_interrupted_goes_on_to_the_same_files(toys, tmp_path, monkeypatch, capsys, number, status):
    sending(monkeypatch, STOPPING)
    assert run(toys, tmp_path / "whole", "--seed", "7") == 0
    sending(monkeypatch, STOPPING, recipes.Setting(Sending, number=number, step=9))
    place = tmp_path / "parts"
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert run(toys, place, "--seed", "7") == status
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert f"o on with: python experiments/train.py --resume {place}" in capsys.readouterr().out
    assert (place / "result.json").exists() == (number == signal.SIGINT)  # after SIGTERM there is little time
    load_model(place / "model.safetensors")
    at = checkpoint.newest(place / "backup").description["checkpoint"]
    assert (at["epoch"], at["batch"], at["iterations"]) == (1, 3, 9)
    assert train.main(["--resume", str(place)]) == 0
    assert "Training goes on after batch 3 of epoch 2" in capsys.readouterr().out
    assert outcome(place) == outcome(tmp_path / "whole")
    assert len(folder.read(str(place)).result["seconds_per_epoch"]) == 3


def test_a_run_that_ended_goes_on_with_more_epochs(toys, tmp_path, capsys):
    assert run(toys, tmp_path / "a") == 0
    assert train.main(["dense", "--resume", str(tmp_path / "a"), "--epochs", "5", "--threads", "1"]) == 0
    assert len(folder.read(str(tmp_path / "a")).result["history"]["loss"]) == 5
    assert "before epoch 4" in capsys.readouterr().out


REFUSED = {
    "another recipe": (["cnn"], "recipe was dense, is cnn"),
    "seed": (["--seed", "3"], "--seed was 0, is 3"),
    "batch size": (["--batch-size", "8"], "--batch-size was 16, is 8"),
    "limit": (["--limit", "50"], "--limit was None, is 50"),
    "data": (["--data", "strokes"], r"--data was .*toys, is strokes"),
    "full": (["--full"], "--full was False, is True"),
    "kernels": (["--kernels", "fast"], "--kernels was reference, is fast"),
    "place": (["--out", "b"], "--out is b: the run stays where it is"),
    "fewer epochs": (["--epochs", "2"], r"--epochs got 2, but 3 epochs of .* are done"),
}


def test_another_run_is_refused_and_says_what_differs(toys, tmp_path, capsys):
    place = tmp_path / "a"
    assert run(toys, place) == 0
    files = {path: path.read_bytes() for path in place.rglob("*.*")}
    for more, words in REFUSED.values():
        capsys.readouterr()
        assert train.main(["--resume", str(place), *more]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: --")
        assert re.search(words, error), error
    assert {path: path.read_bytes() for path in place.rglob("*.*")} == files
    same = ["dense", "--seed", "0", "--batch-size", "16", "--data", str(toys), "--kernels", "reference"]
    assert train.main(["--resume", str(place), *same]) == 0


def test_other_data_under_the_same_name_are_refused(toys, tmp_path, capsys):
    assert run(toys, tmp_path / "a") == 0
    file = next(toys.glob("train-images*"))
    images = read_idx(file).copy()
    images[0, 0, 0] ^= 1
    write_idx(file, images)
    assert train.main(["--resume", str(tmp_path / "a"), "--epochs", "4"]) == 2
    assert "cannot go on, for this one is another: data.x was '" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_where_there_is_nothing_to_go_on_from(tmp_path, capsys, name):
    (tmp_path / "empty").mkdir()
    assert train.main(["--resume", str(tmp_path / name)]) == 2
    assert "has no checkpoint in a folder 'backup'. Name the folder of a run" in capsys.readouterr().err


def test_checkpoints_of_another_program_are_refused(tmp_path, capsys):
    keep(tmp_path / resume.FOLDER)
    assert train.main(["--resume", str(tmp_path)]) == cli.BAD_USAGE
    assert re.search(r"was not begun by experiments/train\.py.* Name the folder of a run", capsys.readouterr().err)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_a_training_that_goes_wrong_ends_with_status_3_and_the_last_good_weights(toys, tmp_path, monkeypatch, capsys):
    sending(monkeypatch, optimizer=recipes.Setting(SGD, learning_rate=1e9))
    assert run(toys, tmp_path / "a") == cli.NOT_FINITE == 3
    shown = capsys.readouterr()
    assert "error: Step " in shown.err
    assert "NaN or infinite" in shown.err
    assert "model.safetensors" in shown.out
    model = load_model(tmp_path / "a" / "model.safetensors")
    assert all(np.isfinite(array).all() for array in model.get_weights())
    assert not (tmp_path / "a" / "result.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_asks_and_a_second_does_not_wait(number):
    answers, reached = iter([True, False]), []

    def pressing():
        with guard.CtrlC(lambda: next(answers)) as ctrl_c:
            signal.raise_signal(number)
            reached.append(ctrl_c.terminated)
            signal.raise_signal(number)
    with pytest.raises(KeyboardInterrupt) as raised:
        pressing()
    assert reached == [number == signal.SIGTERM] == [isinstance(raised.value, guard.Terminated)]


def test_sigterm_while_saving_waits_and_is_the_status(capsys):
    @cli.command
    def main(argv=None):
        with guard.CtrlC() as ctrl_c:
            ctrl_c.hold()
            signal.raise_signal(signal.SIGTERM)
            print("saved")
        return 0
    assert main() == 143
    assert capsys.readouterr() == ("saved\n", "\nInterrupted.\n")


def test_the_seconds_of_an_epoch_are_those_of_both_parts(monkeypatch):
    monkeypatch.setattr(runs.time, "perf_counter", itertools.count(0, 10).__next__)
    first = runs.Recorder()
    first.on_epoch_begin(0)                                 # at 0
    second = runs.Recorder()
    second.on_epoch_begin(0)                                # at 10
    second.set_state(first.get_state())                     # at 20, and at 30
    second.on_epoch_end(0, {"loss": 1.0})                   # at 40
    assert second.seconds == [30.0]
    assert second.history == {"loss": [1.0]}

"""Checkpoints from somebody else, or on a disk that fails, and states and settings that are hard to keep."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from minicnn import checkpoint, saving
from minicnn.callbacks import BackupAndRestore, Callback, CSVLogger, EarlyStopping, LearningRateScheduler
from minicnn.errors import ArgumentError, FileFormatError
from resumed import Break, digest, keep

pytestmark = pytest.mark.usefixtures("reference_kernels")


def _first(arrays, start):
    return next(name for name in arrays if name.startswith(start))


def _spoil(start, change):
    """Return what changes the first array whose name begins so."""
    def spoiled(description, arrays):
        name = _first(arrays, start)
        arrays[name] = change(arrays[name])
    return spoiled


ENTRIES = ["epoch", "batch", "images", "stopped", "updates", "iterations", "optimizer", "trainable", "input_shape",
           "plan", "validation", "numbers", "order"]
SQUARES = "optimizer/dense/kernel/v"
MISTAKES = {
    **{f"no {name}": (lambda saved, arrays, name=name: saved["checkpoint"].pop(name), f"no key '{name}'")
       for name in ENTRIES},
    "no configuration": (lambda saved, arrays: saved.pop("configuration"), "no key 'configuration'"),
    "no note": (lambda saved, arrays: saved.pop("note"), "no key 'note'"),
    "nothing in it": (lambda saved, arrays: saved.update(checkpoint=None), "found null; expected an object"),
    "a text for a number": (lambda saved, arrays: saved["checkpoint"].update(epoch="x"), "epoch: found .x.; expected"),
    "less than nothing": (lambda saved, arrays: saved["checkpoint"].update(batch=-5), "batch is -5; .* least 0"),
    "names of no array": (lambda saved, arrays: saved["checkpoint"]["order"].append("z"), "arrays are not"),
    "weights that are no numbers": (_spoil("weights/dense/kernel", lambda array: array * np.nan),
                                    r"kernel\[0, 0\] is nan; expected a"),
    "a negative mean of squares": (_spoil(SQUARES, lambda array: array - 1),
                                   r"kernel/v\[0, 0\] is -.*at least 0"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_newest_file_that_says_something_else_is_passed_over(tmp_path, what):
    fit = {"epochs": 3, "optimizer": "adam"}
    whole, _ = keep(tmp_path, **fit)
    newest = checkpoint.newest(tmp_path)
    description, arrays = copy.deepcopy(newest.description), dict(newest.arrays)
    change, words = MISTAKES[what]
    change(description, arrays)
    saving.write(newest.path, arrays, description)
    with pytest.warns(UserWarning, match=rf"{newest.path.name}.*{words}.* goes on from .*instead"):
        model, _ = keep(tmp_path, **fit)
    assert digest(model) == digest(whole)


MISFITS = {
    "another type": (_spoil("weights/", lambda array: array.astype(np.float64)), "weights are not those of this"),
    "another shape of what the optimizer remembers": (_spoil("optimizer/", lambda array: array[:1]), "arrays of what"),
    "what no optimizer has": (lambda saved, arrays: saved["checkpoint"]["optimizer"].update(apply=3), "settings of"),
    "too few layers": (lambda saved, arrays: saved["checkpoint"]["trainable"].pop(), "layers are not those"),
}


@pytest.mark.parametrize("what", MISFITS)
def test_a_file_that_does_not_fit_changes_nothing(tmp_path, what):
    keep(tmp_path, epochs=3, optimizer="adam")
    newest = checkpoint.newest(tmp_path)
    change, words = MISFITS[what]
    change(newest.description, newest.arrays)
    newest.description["checkpoint"]["order"] = list(newest.arrays)
    saving.write(newest.path, newest.arrays, newest.description)
    with pytest.raises(FileFormatError, match=rf"{newest.path.name}.*{words}.*Train anew"):
        keep(tmp_path, epochs=4, optimizer="adam")


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(path.name)], ids=["folder", "circle"])
def test_a_newest_file_that_cannot_be_opened_is_passed_over(tmp_path, make):
    whole, _ = keep(tmp_path, epochs=3)
    newest = checkpoint.newest(tmp_path).path
    newest.unlink()
    make(newest)
    with pytest.warns(UserWarning, match=rf"{newest.name}: found .* goes on from .*instead"):
        model, _ = keep(tmp_path, epochs=3)
    assert digest(model) == digest(whole)


def test_a_disk_that_cannot_read_the_newest_file_any_more(tmp_path, monkeypatch):
    whole, _ = keep(tmp_path, epochs=3)
    newest, read = checkpoint.newest(tmp_path).path, saving.read

    def failing(path):
        if path == newest:
            raise OSError(5, "Input/output error")
        return read(path)
    monkeypatch.setattr(saving, "read", failing)
    with pytest.warns(UserWarning, match=rf"{newest.name}: .*Input/output error.* goes on from .*instead"):
        model, _ = keep(tmp_path, epochs=3)
    assert digest(model) == digest(whole)


# --- states and settings that are hard to keep -------------------------------------------------------------------


class Adding(Callback):
    """Take a state as it comes, and change it in place."""

    def __init__(self):
        super().__init__()
        self.counts = np.zeros(3)

    def get_state(self):
        return {"counts": self.counts}

    def set_state(self, state):
        self.counts = state["counts"]

    def on_epoch_begin(self, epoch, logs=None):
        self.counts += 1

    def on_epoch_end(self, epoch, logs=None):
        logs["count"] = float(self.counts.sum())


def test_a_state_that_is_changed_in_place_is_given_back_as_it_was(tmp_path):
    """Within an epoch it is given back twice, with ``on_epoch_begin`` between."""
    whole, _ = keep(tmp_path / "whole", epochs=3, more=[Adding()])
    asked = BackupAndRestore(tmp_path / "parts", save_freq=1, delete_checkpoint=False)
    with pytest.raises(KeyboardInterrupt):
        keep(None, epochs=3, more=[Adding(), Break(5)], backup=asked)
    model, _ = keep(tmp_path / "parts", epochs=3, more=[Adding()])
    assert model.history.history == whole.history.history
    assert model.history.history["count"] == [3, 6, 9]


@pytest.mark.parametrize("baseline", [np.inf, -np.inf, np.nan])
def test_a_setting_that_is_no_finite_number_can_be_compared(tmp_path, baseline):
    keep(tmp_path, epochs=1, more=[EarlyStopping("loss", baseline=baseline)])
    keep(tmp_path, epochs=2, more=[EarlyStopping("loss", baseline=baseline)])
    with pytest.raises(ArgumentError, match=rf"baseline was '{'NaN' if np.isnan(baseline) else '-?Infinity'}', is 0.5"):
        keep(tmp_path, epochs=2, more=[EarlyStopping("loss", baseline=0.5)])


@pytest.mark.parametrize("note", [{"a": np.inf}, {"a": np.float32(2)}, {"a": object()}, {(1, 2): 3}])
def test_a_note_that_cannot_be_kept_is_refused_before_anything_is_trained(tmp_path, note):
    with pytest.raises(ArgumentError, match=r"BackupAndRestore: note is .*; expected .* types JSON knows"):
        BackupAndRestore(tmp_path / "new", note=note)
    assert not (tmp_path / "new").exists()


def test_a_log_that_began_in_another_encoding_goes_on(tmp_path):
    log = tmp_path / "log.csv"
    log.write_bytes(b"caf\xe9\r\n")
    keep(tmp_path / "run", epochs=1, more=[CSVLogger(log, append=True)])
    keep(tmp_path / "run", epochs=2, more=[CSVLogger(log, append=True)])
    assert [line[:1] for line in log.read_bytes().splitlines()] == [b"c", b"0", b"1"]
    assert log.read_bytes().startswith(b"caf\xe9\r\n")


def test_a_schedule_that_comes_or_goes_is_another_training(tmp_path):
    def halved(epoch, rate):
        return rate / 2
    keep(tmp_path / "with", epochs=1, more=[LearningRateScheduler(halved)])
    keep(tmp_path / "with", epochs=2, more=[LearningRateScheduler(halved)])
    with pytest.raises(ArgumentError, match=r"callbacks.*was 'LearningRateScheduler'"):
        keep(tmp_path / "with", epochs=3)
    keep(tmp_path / "without", epochs=1)
    with pytest.raises(ArgumentError, match=r"callbacks.*is 'LearningRateScheduler'"):
        keep(tmp_path / "without", epochs=2, more=[LearningRateScheduler(halved)])

"""The state of callbacks: what a training that was interrupted and goes on must not have forgotten."""

from __future__ import annotations

import numpy as np
import pytest

from callback_runs import drive
from minicnn.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)

# After five epochs without a better one since the third; the sixth is one too many for a patience of three.
VALUES = [0.75, 0.5, 0.375, 0.5, 0.625, 0.5, 0.25, 0.125, 0.25, 0.25]


STATEFUL = {
    "stopping": lambda folder: EarlyStopping(patience=3, restore_best_weights=True),
    "stopping, weights not kept": lambda folder: EarlyStopping(patience=3, baseline=0.5),
    "plateau": lambda folder: ReduceLROnPlateau(factor=0.5, patience=1, cooldown=2),
    "checkpoint": lambda folder: ModelCheckpoint("{epoch}.safetensors", save_best_only=True),
    "checkpoint by batches": lambda folder: ModelCheckpoint("{epoch}-{batch}.safetensors", save_freq=4),
    "csv": lambda folder: CSVLogger(folder / "log.csv"),
    "history": lambda folder: History(),
}


def told(callback, folder):
    """Return all that can be seen of a callback and its files."""
    hidden = ("model", "filename", "best_weights", "_file", "_head", "_epoch")
    return {key: value for key, value in vars(callback).items() if key not in hidden} | {
        path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("what", STATEFUL)
def test_a_callback_goes_on_where_its_state_was_taken(what, tmp_path):
    """Ten epochs at a stretch; and an interruption in the seventh, taken up from the state after the fifth."""
    logs = [{"loss": value / 2, "val_loss": value} for value in VALUES]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    through = STATEFUL[what](whole)
    expected = drive(through, logs, batches=3)
    first, kept = STATEFUL[what](parts), {}
    keeps = LambdaCallback(on_epoch_end=lambda epoch, logs: kept.update({epoch: first.get_state()}))
    before = drive(first, logs[:7], batches=3, also=keeps)
    assert all(isinstance(value, (int, str, np.ndarray, np.float64)) for value in kept[4].values())
    second = STATEFUL[what](parts)
    after = drive(second, logs, batches=3, begin=5, state=kept[4], learning_rate=before.rates[4])
    assert told(second, parts) == told(through, whole)
    assert second.get_state().keys() == through.get_state().keys()
    for key, value in through.get_state().items():
        np.testing.assert_array_equal(second.get_state()[key], value)
    assert after.saved == [name for name in expected.saved if int(name.split("-")[0].split(".")[0]) > 5]
    assert (after.epochs, after.rates) == (expected.epochs, expected.rates[5:])
    assert [array.tolist() for array in after.restored] == [array.tolist() for array in expected.restored]


def test_callbacks_without_a_state_have_an_empty_one():
    for callback in (Callback(), LambdaCallback(), TerminateOnNaN(), LearningRateScheduler(lambda epoch: 0.1)):
        assert callback.get_state() == {}
        callback.set_state({})


# --- the table of CSVLogger --------------------------------------------------------------------------------------

def test_the_table_of_a_training(tmp_path):
    path = tmp_path / "log.csv"
    drive(CSVLogger(path), [{"loss": 0.5, "accuracy": 0.25, "val_loss": 0.75}, {"loss": 0.125, "val_loss": None}])
    assert path.read_bytes() == b"epoch,accuracy,loss,val_loss\r\n0,0.25,0.5,0.75\r\n1,NA,0.125,NA\r\n"
    drive(CSVLogger(path, append=True), [{"loss": 1.5, "accuracy": 0.25, "val_loss": 2}])
    assert path.read_text().splitlines()[2:] == ["1,NA,0.125,NA", "0,0.25,1.5,2"]
    drive(CSVLogger(path, separator=";"), [{"loss": [1, 2], "note": "a;b"}])
    assert path.read_text() == 'epoch;loss;note;val_loss;val_note\n0;"""[1, 2]""";"a;b";NA;NA\n'


def test_a_line_is_in_the_file_as_soon_as_its_epoch_ends(tmp_path):
    seen = []
    looks = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((tmp_path / "log.csv").read_text()))
    logger = CSVLogger(tmp_path / "log.csv")
    drive(logger, [{"val_loss": 0.5}] * 2, also=looks)
    assert seen == ["epoch,val_loss\n0,0.5\n", "epoch,val_loss\n0,0.5\n1,0.5\n"]


def test_a_training_that_failed_leaves_the_file_to_the_next(tmp_path):
    logger = CSVLogger(tmp_path / "log.csv")
    logger.on_train_begin()
    logger.on_epoch_end(0, {"val_loss": 0.5})
    drive(logger, [{"val_loss": 0.25}])
    assert (tmp_path / "log.csv").read_text() == "epoch,val_loss\n0,0.25\n"

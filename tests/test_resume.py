"""BackupAndRestore: a training that was interrupted, anywhere, ends with the bits of one that was not."""

from __future__ import annotations

import itertools
import shutil
import warnings

import numpy as np
import pytest

import kills
from minicnn import checkpoint, saving
from minicnn.callbacks import (
    BackupAndRestore,
    Callback,
    CSVLogger,
    EarlyStopping,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
)
from minicnn.layers import Dense
from minicnn.optimizers import SGD, Adam, RMSprop
from minicnn.preprocessing.image import ImageDataGenerator
from networks import CLASSES, SPARSE, compiled, draw_images, small_cnn
from resumed import Break, digest, keep

pytestmark = pytest.mark.usefixtures("reference_kernels")

EPOCHS = 3


class Thaw(Callback):
    """Change the network at the beginning of an epoch, and remember nothing of it."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.layers[0].trainable = False
            self.model.optimizer.learning_rate *= 0.75


class Counting(Callback):
    """A callback of somebody's own."""

    def __init__(self):
        super().__init__()
        self.batches, self.word = 0, ""

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1

    def on_epoch_end(self, epoch, logs=None):
        self.word += "é"
        logs["mine"] = self.batches + len(self.word) / 10

    def get_state(self):
        return {"batches": self.batches, "word": self.word}

    def set_state(self, state):
        self.batches, self.word = state["batches"], state["word"]


def callbacks(folder):
    return [Counting(), Thaw(), ReduceLROnPlateau(patience=0, factor=0.5), CSVLogger(folder / "log.csv"),
            ModelCheckpoint(folder / "{epoch}-{batch}.safetensors", save_freq=3),
            EarlyStopping(patience=2, restore_best_weights=True)]


def arrays(x, y):
    return {"x": x, "y": y, "batch_size": 8, "validation_split": 0.2, "class_weight": {0: 2.0}}


def joined(x, y):
    return {"x": x, "y": y, "batch_size": 8, "steps_per_epoch": 6, "validation_data": (x[:5], y[:5])}


def flow(x, y):
    moved = ImageDataGenerator(rotation_range=10)
    return {"x": moved.flow(x, y, batch_size=12, seed=1),
            "validation_data": moved.flow(x[:7], y[:7], batch_size=4, seed=2), "validation_steps": 1}


def joined_flow(x, y):
    return {"x": ImageDataGenerator(zoom_range=0.1).flow(x, y, batch_size=12, seed=1), "steps_per_epoch": 5,
            "validation_data": (x[:7], y[:7])}


def train(folder, data, *more, save_freq=1, optimizer=Adam):
    """Train in a folder; return all that can be compared afterwards, and the files but the log of time."""
    folder.mkdir(exist_ok=True)
    model = compiled(small_cnn(seed=3), optimizer())
    x, y = draw_images(np.random.default_rng(4), 41)
    backup = BackupAndRestore(folder / "backup", save_freq=save_freq)
    history = model.fit(**data(x, y), epochs=EPOCHS, verbose=0, callbacks=[backup, *callbacks(folder), *more])
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return digest(model), history.epoch, [*history.history.items()], files


@pytest.mark.parametrize("save_freq", [1, 3, "epoch"])
@pytest.mark.parametrize("data", [arrays, joined, flow, joined_flow])
def test_a_training_interrupted_after_any_batch_ends_with_the_same_bits(tmp_path, data, save_freq):
    expected = train(tmp_path / "whole", data, save_freq=save_freq)
    steps = expected[0][2]
    assert expected[1] == [0, 1, 2]    # what a callback did at the beginning of one epoch is in force in the next
    for step in range(1, steps + 1, 1 if save_freq == 1 else 2):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / f"{step}", data, Break(step), save_freq=save_freq)
        assert train(tmp_path / f"{step}", data, save_freq=save_freq) == expected, step


@pytest.mark.parametrize("event", ["on_epoch_begin", "on_train_batch_begin", "on_test_begin",
                                   "on_test_batch_end", "on_epoch_end", "on_train_end"])
@pytest.mark.parametrize("optimizer", [lambda: SGD(0.1, momentum=0.9), lambda: RMSprop(centered=True, momentum=0.5)])
def test_at_any_event_and_again_and_again(tmp_path, event, optimizer):
    expected = train(tmp_path / "whole", joined, optimizer=optimizer)
    last = expected[0][2]
    for step in (0, *range(4, last, 4), last):
        try:
            train(tmp_path / "parts", joined, Break(step, event), optimizer=optimizer)
        except KeyboardInterrupt:
            continue
    assert train(tmp_path / "more", joined, optimizer=optimizer) == expected
    assert train(tmp_path / "parts", joined, optimizer=optimizer) == expected


def test_a_training_that_was_stopped_stays_stopped(tmp_path):
    class Stop(Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations == 7:
                self.model.stop_training = True

    expected = train(tmp_path / "whole", arrays, Stop())
    assert expected[0][2] == 7
    for event in ("on_test_begin", "on_epoch_end", "on_train_end"):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / event, arrays, Stop(), Break(7, event))
        assert train(tmp_path / event, arrays, Stop()) == expected


def test_killed_processes_end_with_the_same_bits(tmp_path):
    """SIGKILL at ten random moments, in processes of their own; experiments/kills.py tries 200."""
    figures = kills.measure(10, tmp_path)
    assert (figures.survived, figures.tried) == (10, 10)


def test_what_a_killed_process_leaves_and_what_the_script_says(tmp_path, monkeypatch, capsys):
    assert kills.main(["--worker", str(tmp_path), "--case", "flow"]) == 0
    assert capsys.readouterr().out == "begun\n"
    arrays_found, said = saving.read(tmp_path / "end.safetensors")
    assert set(said["names"]) == {"batches", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert len(arrays_found["history/loss"]) <= kills.EPOCHS
    ends = itertools.cycle([(b"a", 3, 1), (b"b", 2, 0)])
    monkeypatch.setattr(kills, "run_for", lambda place, case, seconds: (
        place.mkdir(), (place / "end.safetensors").write_bytes(b"a"), 1.0)[2])
    monkeypatch.setattr(kills, "disturbed", lambda *_: next(ends))
    assert kills.main(["--kills", "5"]) == 1
    out = capsys.readouterr().out
    assert "arrays  3 kills, the same bits; 3 of 5\nsteps   2 kills, OTHER BITS; 5 of 5\n" in out
    assert out.endswith("3 of 5 kills survived bit for bit, in 2 trainings; 1 kills came while a checkpoint was being "
                        "written\n")


# --- asked to end ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("event", ["on_train_batch_begin", "on_test_begin", "on_epoch_end", "on_train_end"])
def test_asked_to_end_it_saves_first_and_loses_nothing(tmp_path, event):
    whole, _ = keep(tmp_path / "whole", epochs=3, validation_split=0.3)
    backup = BackupAndRestore(tmp_path / "b", delete_checkpoint=False)
    assert backup.interrupt() is False  # nothing is trained
    answers = []

    class Ask(Callback):
        def ask(self, *_):
            if self.model.optimizer.iterations == (6 if event == "on_train_end" else 4) and not answers:
                answers.extend([backup.interrupt(), backup.interrupt()])

        def on_train_end(self, logs=None):
            answers.append(backup.interrupt())
    setattr(Ask, event, Ask.ask)
    with pytest.raises(KeyboardInterrupt):
        keep(None, epochs=3, validation_split=0.3, backup=backup, more=[Ask()])
    assert answers == [True, False] + [True] * (event != "on_train_end")
    at = checkpoint.newest(tmp_path / "b").description["checkpoint"]
    assert (at["iterations"], at["epoch"], at["batch"]) == {
        "on_train_batch_begin": (5, 2, 1), "on_train_end": (6, 3, 0)}.get(event, (4, 2, 0))
    model, _ = keep(tmp_path / "b", epochs=3, validation_split=0.3)
    assert digest(model) == digest(whole)
    assert model.history.history == whole.history.history


# --- what else goes on ----------------------------------------------------------------------------------------------

def test_with_older_names_too(tmp_path):
    """compat logs acc for accuracy."""
    from minicnn import compat

    def fit(*more):
        model = compat.Sequential(seed=1)
        model.add(Dense(CLASSES, activation="softmax", input_shape=(4,)))
        model.compile(SGD(0.1), SPARSE, metrics=["acc"])
        x, y = draw_images(np.random.default_rng(0), 11, (4,))
        model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[BackupAndRestore(tmp_path, 1), *more])
        return digest(model), model.history.history
    expected = fit()
    with pytest.raises(KeyboardInterrupt):
        fit(Break(5))
    assert fit() == expected
    assert set(expected[1]) == {"loss", "acc"}


def test_a_schedule_is_not_asked_twice_for_the_epoch_it_goes_on_in(tmp_path):
    """Each question lowers the rate."""
    def fit(folder, *more):
        rates = LearningRateScheduler(lambda epoch, rate: rate / 2)
        return keep(folder, 3, more=[rates, *more], backup=BackupAndRestore(folder, 1))[0]
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "b", Break(5))
    assert fit(tmp_path / "b").optimizer.learning_rate == fit(tmp_path / "w").optimizer.learning_rate == 0.01 / 8


def test_the_line_of_an_epoch_counts_the_images_since_it_goes_on(tmp_path, monkeypatch, capsys):
    from minicnn.callbacks import progress
    monkeypatch.setattr(progress.time, "perf_counter", itertools.count().__next__)
    with pytest.raises(KeyboardInterrupt):
        keep(tmp_path, backup=BackupAndRestore(tmp_path, 1), more=[Break(2)])
    for copy in ("again", "thrice"):
        shutil.copytree(tmp_path, tmp_path.parent / copy)
        shutil.move(tmp_path.parent / copy, tmp_path / copy)
    capsys.readouterr()
    keep(tmp_path, 1, backup=BackupAndRestore(tmp_path, 1), verbose="auto")
    line = capsys.readouterr().out.splitlines()[-1]
    assert "Epoch 1/1 - 2.0 s - 4 images/s" in line  # batches of 4 and 3, in two ticks
    keep(tmp_path, 1, backup=BackupAndRestore(tmp_path / "thrice", 1), verbose=2)
    assert "3/3 - 1s - 500ms/step - " in capsys.readouterr().out  # two batches, in one tick
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what tqdm says of terminals
        keep(tmp_path, 1, backup=BackupAndRestore(tmp_path / "again", 1), verbose=1)
    assert "2.0 s - 4 images/s" in capsys.readouterr().out

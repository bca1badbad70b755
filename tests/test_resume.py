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
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
)
from minicnn.errors import ArgumentError, FileFormatError, TrainingError, UnsupportedError
from minicnn.layers import Dense
from minicnn.models import Sequential
from minicnn.optimizers import SGD, Adam, RMSprop
from minicnn.preprocessing.image import ImageDataGenerator
from networks import CLASSES, SPARSE, compiled, draw_images, small_cnn, small_dense

pytestmark = pytest.mark.usefixtures("reference_kernels")

EPOCHS = 3


class Break(Callback):
    """Interrupt the training, as Ctrl-C would, when a number of steps is made and an event comes."""

    def __init__(self, step, event="on_train_batch_end"):
        super().__init__()
        self.step = step
        setattr(self, event, self.press)

    def press(self, *_):
        if self.model.optimizer.iterations == self.step:
            raise KeyboardInterrupt


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
            EarlyStopping(patience=1, restore_best_weights=True)]


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


def digest(model):
    slots = {f"{name}/{slot}": array for name, own in sorted(model.optimizer.slots.items())
             for slot, array in sorted(own.items())}
    return model.weights_sha256(), saving.sha256_of(slots), model.optimizer.iterations, model.optimizer.learning_rate, \
        model.updates, [layer.trainable for layer in model.layers]


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


# --- the files ---------------------------------------------------------------------------------------------------

def keep(folder, epochs=2, network=None, seed=0, more=(), rows=11, note=None, backup=None, **fit):
    """Train a small network and keep the checkpoints."""
    x, y = draw_images(np.random.default_rng(seed), rows, (4,))
    model = compiled(network or small_dense())
    backup = backup or BackupAndRestore(folder, delete_checkpoint=False, note=note)
    model.fit(**{"x": x, "y": y, "batch_size": 4, "epochs": epochs, "verbose": 0} | fit, callbacks=[backup, *more])
    return model, backup


def test_the_last_two_and_the_best_are_kept(tmp_path):
    losses = iter([3.0, 1.0, 2.0, 4.0, 0.5])
    worse = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(loss=next(losses)))
    keep(tmp_path, epochs=4, more=[worse])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.safetensors", "checkpoint-000004.safetensors", "checkpoint-000005.safetensors"]
    assert saving.read(tmp_path / "best.safetensors")[1]["checkpoint"]["epoch"] == 2
    (tmp_path / ".checkpoint-000006.safetensors.abc.part").touch()
    keep(tmp_path, epochs=5, more=[worse])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.safetensors", "checkpoint-000005.safetensors", "checkpoint-000006.safetensors"]
    assert (tmp_path / "best.safetensors").read_bytes() == (tmp_path / "checkpoint-000006.safetensors").read_bytes()


def test_the_best_is_that_of_the_value_watched(tmp_path):
    values = iter([0.25, 0.75, 0.5])
    logged = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(mine=next(values), val_loss=np.nan))
    keep(tmp_path, 3, more=[logged],
         backup=BackupAndRestore(tmp_path, delete_checkpoint=False, monitor="mine", mode="max"))
    assert saving.read(tmp_path / "best.safetensors")[1]["checkpoint"]["epoch"] == 2


def test_checkpoints_are_removed_at_the_end_unless_they_are_wanted(tmp_path):
    keep(tmp_path / "b", backup=BackupAndRestore(tmp_path / "b"))
    assert not (tmp_path / "b").exists()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine.txt").touch()
    keep(tmp_path / "c", backup=BackupAndRestore(tmp_path / "c"))
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["mine.txt"]


def test_more_epochs_are_no_difference(tmp_path, capsys):
    first, _ = keep(tmp_path, epochs=2)
    second, backup = keep(tmp_path, epochs=4, verbose=2)
    assert capsys.readouterr().out.startswith(f"Training goes on before epoch 3, from {backup.resumed}.\nEpoch 3/4\n")
    whole, _ = keep(tmp_path / "other", epochs=4)
    assert digest(second) == digest(whole)
    assert second.history.history == whole.history.history
    fewer, _ = keep(tmp_path, epochs=3)  # none to train
    assert digest(fewer) == digest(whole)
    assert digest(first) != digest(whole)


def test_a_damaged_newest_file_is_reported_and_the_one_before_used(tmp_path):
    whole, _ = keep(tmp_path / "whole", epochs=4)
    damaged = tmp_path / "damaged"
    keep(damaged, epochs=3)
    newest = damaged / "checkpoint-000004.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"000004\.safetensors is damaged.* from .*000003\.safetensors instead"):
        model, backup = keep(damaged, epochs=4)
    assert digest(model) == digest(whole)
    assert backup.resumed == damaged / "checkpoint-000003.safetensors"
    assert not newest.exists()  # another has taken the place of the damaged one
    assert len(list(damaged.glob("checkpoint-*"))) == 2


def test_if_both_are_damaged_the_best_is_used_and_if_all_are_it_says_so(tmp_path):
    whole, _ = keep(tmp_path / "whole", epochs=3)
    keep(tmp_path, epochs=2)
    for path in tmp_path.glob("checkpoint-*.safetensors"):
        path.write_bytes(b"?" * 100)
    with pytest.warns(UserWarning, match=r"best\.safetensors instead"):
        model, _ = keep(tmp_path, epochs=3)
    assert digest(model) == digest(whole)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(FileFormatError, match=r"no checkpoint that can be read\. .*Remove the folder to train anew"):
        keep(tmp_path, epochs=3)


def test_a_file_of_another_kind_is_no_checkpoint(tmp_path):
    saving.write(tmp_path / "checkpoint-000009.safetensors", {"a": np.zeros(2)}, {})
    with pytest.raises(FileFormatError, match=r"000009\.safetensors holds no checkpoint"):
        checkpoint.newest(tmp_path)


def test_the_note_is_kept(tmp_path):
    keep(tmp_path, note={"recipe": "none"})
    assert checkpoint.newest(tmp_path).description["note"] == {"recipe": "none"}


def test_a_full_disk_leaves_the_checkpoints_of_before(tmp_path, monkeypatch):
    keep(tmp_path, epochs=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        keep(tmp_path, epochs=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# --- another training --------------------------------------------------------------------------------------------

CHANGES = {
    "the data": ({"seed": 1}, r"data\.x was '[0-9a-f]{64}', is '[0-9a-f]{64}'"),
    "fewer of them": ({"rows": 10}, r"data\.images was 11, is 10"),
    "batch size": ({"batch_size": 5}, r"data\.batch_size was 4, is 5"),
    "order": ({"shuffle": False}, r"data\.shuffled was True, is False"),
    "split": ({"validation_split": 0.4}, r"data\.images was 11, is 6; .*validation was None, is 'nothing'; "
                                         r"validation\.images was 'nothing', is 5"),
    "weights of classes": ({"class_weight": {0: 2.0}}, r"data\.weight was None, is '[0-9a-f]{64}'"),
    "steps": ({"steps_per_epoch": 2}, r"steps_per_epoch was None, is 2"),
    "units": ({"network": lambda: Sequential([Dense(4, input_shape=(4,)), Dense(CLASSES, activation="softmax")])},
              r"layers\.0\.activation was 'tanh', is 'linear'; layers\.0\.units was 5, is 4"),
    "seed of the network": ({"network": lambda: small_dense(seed=7)}, r"seed was 0, is 7"),
    "a callback": ({"more": [EarlyStopping("loss")]}, r"callbacks\.0\.class was 'History', is 'EarlyStopping'"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_training_is_refused_with_the_differences(tmp_path, what):
    keep(tmp_path, more=[CSVLogger(tmp_path / "log.csv")] if what != "a callback" else ())
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    change, words = CHANGES[what]
    change = {"more": [CSVLogger(tmp_path / "log.csv")]} | change  # which must not have begun its file anew
    network = change.get("network")
    with pytest.raises(ArgumentError, match=rf"cannot go on, for this one is another: .*{words}.* another folder"):
        keep(tmp_path, **change | ({"network": network()} if network else {}))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_other_settings_of_optimizer_loss_callbacks_and_flow_are_refused(tmp_path):
    x, y = draw_images(np.random.default_rng(0), 9)

    def fit(rate=0.1, patience=1, zoom=0.1):
        model = small_cnn()
        model.compile(SGD(rate), SPARSE)
        model.fit(ImageDataGenerator(zoom_range=zoom).flow(x, y, batch_size=4), verbose=0, callbacks=[
            BackupAndRestore(tmp_path, delete_checkpoint=False), EarlyStopping("loss", patience=patience)])
    fit()
    for change, words in (({"rate": 0.2}, r"optimizer\.learning_rate was 0\.1, is 0\.2"),
                          ({"patience": 2}, r"callbacks\.0\.patience was 1, is 2"),
                          ({"zoom": 0.2}, r"data\.zoom_range\.0 was 0\.9, is 0\.8")):
        with pytest.raises(ArgumentError, match=words):
            fit(**change)


def test_other_versions_are_a_warning(tmp_path, monkeypatch):
    keep(tmp_path)
    monkeypatch.setattr(np, "__version__", "1.0")
    with pytest.warns(UserWarning, match=r"other versions, and perhaps other bits: numpy was '.*', is '1\.0'"):
        keep(tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    keep(tmp_path)
    saved = checkpoint.newest(tmp_path)
    saved.arrays["weights/dense/kernel"] = np.zeros((2, 2), np.float32)
    saving.write(saved.path, saved.arrays, saved.description)
    with pytest.raises(FileFormatError, match="not those of this network"):
        keep(tmp_path, epochs=3)


# --- other iterators ---------------------------------------------------------------------------------------------

def test_a_list_of_batches_goes_on_at_the_end_of_an_epoch_and_says_so(tmp_path):
    x, y = draw_images(np.random.default_rng(0), 12, (4,))
    batches = tuple((x[start:start + 4], y[start:start + 4]) for start in (0, 4, 8))
    whole, _ = keep(tmp_path / "whole", x=batches, y=None, batch_size=None, epochs=3)
    said = r"saved, and goes on, at the ends of epochs only"
    options = {"x": batches, "y": None, "batch_size": None, "epochs": 3}
    with pytest.warns(UserWarning, match=said), pytest.raises(KeyboardInterrupt):
        keep(None, backup=BackupAndRestore(tmp_path / "b", save_freq=1), more=[Break(5)], **options)
    assert checkpoint.newest(tmp_path / "b").description["checkpoint"]["iterations"] == 3
    with pytest.warns(UserWarning, match=said):
        model, _ = keep(None, backup=BackupAndRestore(tmp_path / "b", save_freq=1), **options)
    assert digest(model) == digest(whole)


def test_a_network_that_is_built_by_its_first_batch_goes_on(tmp_path):
    x, y = draw_images(np.random.default_rng(0), 12, (4,))
    batches = (x[:6], y[:6]), (x[6:], y[6:])

    def fit(folder, *more):
        model = compiled(Sequential([Dense(CLASSES, activation="softmax")]))
        model.fit(batches, epochs=3, verbose=0, callbacks=[BackupAndRestore(folder), *more])
        return digest(model)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "parts", Break(1))
    assert not any((tmp_path / "parts").iterdir())
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "parts", Break(5))
    assert fit(tmp_path / "parts") == fit(tmp_path / "whole")


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


# --- arguments ---------------------------------------------------------------------------------------------------

def test_arguments(tmp_path):
    BackupAndRestore(tmp_path, double_checkpoint=True)
    with pytest.raises(ArgumentError, match=r"BackupAndRestore: save_freq is 0; expected a whole number"):
        BackupAndRestore(tmp_path, save_freq=0)
    with pytest.raises(ArgumentError, match="backup_dir is empty"):
        BackupAndRestore("")
    with pytest.raises(UnsupportedError, match="double_checkpoint"):
        BackupAndRestore(tmp_path, double_checkpoint=3)


@pytest.mark.parametrize("value", [{"a": 1}, None, np.array(["a"]), [1 + 2j]])
def test_a_state_that_cannot_be_kept_is_an_error(tmp_path, value):
    wrong = type("Wrong", (Callback,), {"get_state": lambda self: {"key": value}})
    with pytest.raises(ArgumentError, match=r"The state of Wrong has key=.*; expected a whole number, a string or an"):
        keep(tmp_path, more=[wrong()])


def test_weights_that_are_not_finite_replace_no_checkpoint(tmp_path):
    keep(tmp_path, epochs=1)
    files = {path.name for path in tmp_path.iterdir()}

    def spoil(epoch, logs):
        model.layers[0].params["kernel"][0, 0] = np.inf
    model = small_dense()
    with pytest.raises(TrainingError, match=r"After step 6: weights/dense/kernel has NaN or infinite values.* is kept"):
        keep(tmp_path, epochs=2, network=model, more=[LambdaCallback(on_epoch_end=spoil)])
    assert {path.name for path in tmp_path.iterdir()} == files


def test_a_number_is_saved_as_a_number(tmp_path):
    """Not as a list of one, which float() refuses."""
    saving.write(tmp_path / "a.safetensors", {"a": np.float64(2.5)}, {})
    assert float(saving.read(tmp_path / "a.safetensors")[0]["a"]) == 2.5


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
    shutil.copytree(tmp_path, tmp_path / "again")
    capsys.readouterr()
    keep(tmp_path, 1, backup=BackupAndRestore(tmp_path, 1), verbose="auto")
    line = capsys.readouterr().out.splitlines()[-1]
    assert "Epoch 1/1 - 2.0 s - 4 images/s" in line  # batches of 4 and 3, in two ticks
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what tqdm says of terminals
        keep(tmp_path, 1, backup=BackupAndRestore(tmp_path / "again", 1), verbose=1)
    assert "2.0 s - 4 images/s" in capsys.readouterr().out

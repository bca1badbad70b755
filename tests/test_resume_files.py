"""BackupAndRestore: its files, which trainings it refuses to go on with, other iterators, arguments."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn import checkpoint, saving
from minicnn.callbacks import BackupAndRestore, Callback, CSVLogger, EarlyStopping, LambdaCallback, ModelCheckpoint
from minicnn.errors import ArgumentError, FileFormatError, TrainingError, UnsupportedError
from minicnn.layers import Dense
from minicnn.models import Sequential
from minicnn.optimizers import SGD
from minicnn.preprocessing.image import ImageDataGenerator
from networks import CLASSES, SPARSE, compiled, draw_images, small_cnn, small_dense
from resumed import Break, digest, keep

pytestmark = pytest.mark.usefixtures("reference_kernels")

# --- the files ---------------------------------------------------------------------------------------------------

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
    capsys.readouterr()
    fewer, backup = keep(tmp_path, epochs=3, verbose=2)
    assert capsys.readouterr().out == f"Training was complete after epoch 4, by {backup.resumed}.\n"
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


# --- arguments ---------------------------------------------------------------------------------------------------

def test_arguments(tmp_path):
    BackupAndRestore(tmp_path, double_checkpoint=True)
    with pytest.raises(ArgumentError, match=r"BackupAndRestore: save_freq is 0; expected a whole number"):
        BackupAndRestore(tmp_path, save_freq=0)
    for call in (BackupAndRestore, CSVLogger, ModelCheckpoint):
        for path in (None, 3, b"a", "a\0"):
            with pytest.raises(ArgumentError, match=rf"{call.__name__} got the path .*; expected a text"):
                call(path)
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


def test_what_json_does_not_know_is_compared_by_name_or_value(tmp_path):
    class Own(Callback):
        decisive = ("function", "number")

        def __init__(self, function, number):
            super().__init__()
            self.function, self.number = function, number

        def get_state(self):
            return {}

    keep(tmp_path, more=[Own(np.sin, np.float32(0.5))])
    keep(tmp_path, more=[Own(np.sin, 0.5)])
    with pytest.raises(ArgumentError, match=r"function was 'sin', is 'cos'; callbacks\.0\.number was 0\.5, is 1"):
        keep(tmp_path, more=[Own(np.cos, 1)])

"""The callbacks of ``minicnn.callbacks``, each by itself; ``test_callbacks_keras.py`` compares them with Keras'."""

from __future__ import annotations

import math
import re
import warnings

import numpy as np
import pytest

from callback_runs import Recording, drive
from minicnn import callbacks, load_model, optimizers
from minicnn.callbacks import (
    Callback,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from minicnn.errors import ArgumentError, TrainingError
from networks import compiled, small_dense

LOSSES = [0.75, 0.5, 0.625, 0.5, 0.75]


def logs_of(values, name="val_loss"):
    return [{"loss": 1.0, name: value} for value in values]


# --- which direction is better -----------------------------------------------------------------------------------

@pytest.mark.parametrize(("monitor", "best"), [
    ("loss", 2), ("val_loss", 2), ("accuracy", 1), ("val_accuracy", 1), ("val_sparse_categorical_accuracy", 1)])
def test_auto_knows_the_losses_and_the_metrics_of_the_library(monitor, best, data, reference_kernels):
    values = [0.5, 0.75, 0.25]
    fakes = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update({monitor: values[epoch]}))
    stopping = EarlyStopping(monitor, patience=9)
    compiled(metrics=["accuracy", "sparse_categorical_accuracy"]).fit(
        *data, epochs=3, validation_split=0.4, verbose=0, callbacks=[fakes, stopping])
    assert (stopping.best, stopping.best_epoch) == (values[best], best)


def hits(y_true, y_pred):
    return np.ones(len(y_true))


def test_auto_asks_for_the_direction_of_a_metric_of_ones_own_before_training(data, reference_kernels):
    model = compiled(metrics=[hits])
    before = model.weights_sha256()
    with pytest.raises(ArgumentError, match=r"EarlyStopping monitors 'hits', of which is not known .* mode='min' or"):
        model.fit(*data, verbose=0, callbacks=[EarlyStopping("hits")])
    assert model.weights_sha256() == before
    model.fit(*data, verbose=0, callbacks=[EarlyStopping("hits", mode="max")])


def test_a_value_that_a_callback_logs_has_a_direction_if_it_is_said(data, reference_kernels):
    adds = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(f1=epoch / 8))
    with pytest.raises(ArgumentError, match="monitors 'f1', of which is not known"):
        compiled().fit(*data, verbose=0, callbacks=[adds, EarlyStopping("f1")])
    stopping = EarlyStopping("f1", mode="max")
    compiled().fit(*data, verbose=0, epochs=3, callbacks=[adds, stopping])
    assert stopping.best == 0.25


def test_an_unknown_mode_becomes_auto_with_a_word():
    with pytest.warns(UserWarning, match=r"ReduceLROnPlateau got mode='maximum'.*goes on with 'auto'") as caught:
        assert ReduceLROnPlateau(mode="maximum").mode == "auto"
    assert caught[0].filename == __file__


# --- names that are not logged -----------------------------------------------------------------------------------

@pytest.mark.usefixtures("reference_kernels")
@pytest.mark.parametrize(("make", "advice"), [
    (lambda: EarlyStopping("val_acuracy"), r"it does nothing\. Did you mean 'val_accuracy'\? Known: loss, accuracy, "),
    (lambda: ReduceLROnPlateau("val_los"), r"the learning rate stays\. Did you mean 'val_loss'\?"),
    (lambda: ModelCheckpoint("best.safetensors", "acc", save_best_only=True), r"saved every time\. .*'accuracy'\?"),
    (lambda: EarlyStopping("f1"), r"it does nothing\. Known: loss")], ids=["stopping", "plateau", "checkpoint", "far"])
def test_a_name_that_is_not_logged_warns_once_and_suggests_the_nearest(make, advice, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = compiled().fit(*data, epochs=4, validation_split=0.4, verbose=0, callbacks=[make()])
    assert len(history.epoch) == 4
    message, = caught
    assert re.search(advice, str(message.message))
    assert message.filename == __file__


@pytest.mark.usefixtures("reference_kernels")
def test_validation_that_is_missing_is_said(data):
    with pytest.warns(UserWarning, match="'val_loss', which is not logged: .* Give fit validation_data or validation"):
        compiled().fit(*data, verbose=0, callbacks=[EarlyStopping()])


# --- early stopping ----------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("reference_kernels")
@pytest.mark.parametrize("stopped", [False, True])
def test_the_best_weights_come_back_also_when_the_epochs_run_out(data, stopped, capsys):
    kept = {}
    keeps = LambdaCallback(on_epoch_end=lambda epoch, logs: kept.update({epoch: model.get_weights()}))
    fakes = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(val_loss=LOSSES[epoch]))
    model = compiled()
    stopping = EarlyStopping(patience=2 if stopped else 4, restore_best_weights=True, verbose=1)
    history = model.fit(*data, epochs=5, verbose=0, callbacks=[fakes, keeps, stopping])
    assert len(history.epoch) == (4 if stopped else 5)
    assert (stopping.best_epoch, stopping.stopped_epoch) == (1, 3 if stopped else 0)
    for array, best, last in zip(model.get_weights(), kept[1], kept[len(history.epoch) - 1], strict=True):
        np.testing.assert_array_equal(array, best)
        assert not np.array_equal(array, last)
    said = capsys.readouterr().out.splitlines()
    assert said == ["Epoch 4: early stopping"] * stopped + [
        "Restoring model weights from the end of the best epoch: 2."]


@pytest.mark.parametrize(("options", "values", "epochs", "best"), [
    ({"patience": 2}, [8, 6, 7, 6, 5], 4, 1),                          # the same value again is not better
    ({"patience": 2}, [8, 6, 7, 5, 6, 6, 4], 6, 3),                    # what is better starts the count anew
    ({"patience": 0}, [8, 9, 1], 2, 0),
    ({"patience": 0}, [8, 7, 6], 3, 2),
    ({"patience": 1, "min_delta": 2}, [8, 6.5, 6], 2, 0),              # less than min_delta
    ({"patience": 1, "min_delta": -2}, [8, 5, 5.5, 5], 3, 1),          # its sign does not matter
    ({"patience": 1, "mode": "max", "min_delta": 2}, [4, 6.5, 8, 9], 3, 1),
    ({"patience": 1, "mode": "max"}, [4, 5, 4], 3, 1),
    ({"patience": 2, "baseline": 5}, [9, 8, 8.5, 4], 3, 1),            # better than before, not than the baseline
    ({"patience": 2, "baseline": 5}, [9, 4, 6, 7], 4, 1),
    ({"patience": 1, "start_from_epoch": 2}, [1, 2, 9, 8, 8, 7], 5, 3),
])
def test_when_training_ends_early(options, values, epochs, best):
    stopping = EarlyStopping(**options)
    model = drive(stopping, logs_of(values))
    assert (model.epochs, stopping.best_epoch) == (epochs, best)
    assert stopping.best == values[best]
    assert stopping.stopped_epoch == (epochs - 1) * model.stop_training


def test_nothing_is_restored_unless_asked_for():
    model = drive(EarlyStopping(patience=1), logs_of(LOSSES))
    assert model.restored == []
    assert model.epochs == 3


def test_a_second_training_starts_anew():
    stopping = EarlyStopping(patience=1)
    drive(stopping, logs_of([0.5, 0.75]))
    assert (stopping.best, stopping.stopped_epoch) == (0.5, 1)
    assert drive(stopping, logs_of([0.875, 0.75, 0.625])).epochs == 3
    assert stopping.best == 0.625


# --- the learning rate -------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("reference_kernels")
def test_the_learning_rate_in_the_logs_is_that_of_the_epoch(data):
    """Whatever changes it: the plateau after an epoch, the schedule before one; the history shows what was in force."""
    model = compiled(optimizer=optimizers.SGD(0.8))
    plateau = ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=100.0)
    history = model.fit(*data, epochs=4, verbose=0, callbacks=[plateau])
    assert history.history.get("learning_rate") == [0.8, 0.8, 0.4, 0.2]
    assert model.optimizer.learning_rate == 0.1


@pytest.mark.parametrize(("options", "values", "halvings"), [
    ({"patience": 2}, [8, 8, 8, 8, 8], [0, 0, 1, 1, 2]),               # two epochs without a better one, and two more
    ({"patience": 1}, [8, 7, 7, 6, 6], [0, 0, 1, 1, 2]),
    ({"patience": 1, "min_delta": 2}, [8, 7, 5.5, 5, 3], [0, 1, 1, 2, 2]),
    ({"patience": 1, "min_delta": 0}, [8, 7.99995, 8], [0, 0, 1]),
    ({"patience": 1}, [8, 7.99995, 8], [0, 1, 2]),                     # 1e-4 unless given
    ({"patience": 1, "cooldown": 2}, [8] * 6, [0, 1, 1, 2, 2, 3]),
    ({"patience": 2, "cooldown": 3}, [8] * 8, [0, 0, 1, 1, 1, 1, 2, 2]),
    ({"patience": 1, "cooldown": 1, "mode": "max"}, [4, 4, 5, 5, 3], [0, 1, 1, 2, 3]),
])
def test_when_the_learning_rate_is_reduced(options, values, halvings):
    model = drive(ReduceLROnPlateau(factor=0.5, **options), logs_of(values))
    assert model.rates == [0.5**count for count in halvings]


def test_the_reduction_is_said_and_ends_at_the_least(capsys):
    plateau = ReduceLROnPlateau(factor=0.25, patience=1, min_lr=0.125, verbose=1)
    model = drive(plateau, logs_of([0.5] * 5), learning_rate=1.0)
    assert model.rates == [1.0, 0.25, 0.125, 0.125, 0.125]
    said = "Epoch {}: ReduceLROnPlateau reducing learning rate to {}.\n"
    assert capsys.readouterr().out == said.format(2, 0.25) + said.format(3, 0.125)


@pytest.mark.parametrize("schedule", [min, lambda epoch, rate, factor=0.5: epoch**rate, lambda *known: sum(known)])
def test_schedules_of_two_arguments_however_they_say_so(schedule):
    callback = LearningRateScheduler(schedule)
    callback.set_model(Recording(0.5))
    callback.on_epoch_begin(4)
    assert callback.model.optimizer.learning_rate == schedule(4, 0.5)


# --- checkpoints -------------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("reference_kernels")
def test_checkpoints_are_models_or_weights_in_files_named_by_epoch_and_logs(data, tmp_path):
    path = str(tmp_path / "made" / "{epoch:02d}-{val_loss:.2f}.safetensors")
    model = compiled()
    digests = []
    digest = LambdaCallback(on_epoch_end=lambda epoch, logs: digests.append(model.weights_sha256()))
    history = model.fit(*data, epochs=3, validation_split=0.4, verbose=0, callbacks=[ModelCheckpoint(path), digest])
    names = [f"{epoch:02d}-{loss:.2f}.safetensors" for epoch, loss in enumerate(history.history["val_loss"], 1)]
    assert sorted(file.name for file in (tmp_path / "made").iterdir()) == names
    assert [load_model(tmp_path / "made" / name).weights_sha256() for name in names] == digests
    weights = tmp_path / "weights.safetensors"
    model.fit(*data, verbose=0, callbacks=[ModelCheckpoint(weights, save_weights_only=True)])
    twin = small_dense(seed=1)
    twin.load_weights(weights)
    assert twin.weights_sha256() == model.weights_sha256()


def test_checkpoints_say_what_they_do(capsys):
    drive(ModelCheckpoint("{epoch}.safetensors", save_best_only=True, verbose=1), logs_of([0.75, 0.5, 0.625]))
    drive(ModelCheckpoint("m.safetensors", verbose=1), logs_of([0.75]))
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 1: val_loss improved from None to 0.75000, saving model to 1.safetensors",
        "Epoch 1: finished saving model to 1.safetensors",
        "Epoch 2: val_loss improved from 0.75000 to 0.50000, saving model to 2.safetensors",
        "Epoch 2: finished saving model to 2.safetensors",
        "Epoch 3: val_loss did not improve from 0.50000", "Epoch 1: saving model to m.safetensors",
        "Epoch 1: finished saving model to m.safetensors"]


@pytest.mark.parametrize(("options", "saved"), [
    ({}, [1, 2, 3, 4, 5]),
    ({"save_best_only": True}, [1, 3, 5]),
    ({"save_best_only": True, "mode": "max"}, [1, 2]),
    ({"save_best_only": True, "initial_value_threshold": 0.5}, [3, 5]),
    ({"save_freq": 2}, ["1-2", "2-1", "2-3", "3-2", "4-1", "4-3", "5-2"]),      # counted through
    ({"save_freq": 5}, ["2-2", "4-1", "5-3"]),
    ({"save_weights_only": True, "save_best_only": True}, ["1", "3", "5"]),
])
def test_when_a_checkpoint_is_written(options, saved):
    name = "{epoch}-{batch}" if "save_freq" in options else "{epoch}"
    checkpoint = ModelCheckpoint(name + ".safetensors", **options)
    model = drive(checkpoint, logs_of([0.625, 0.75, 0.375, 0.5, 0.25]), batches=3)
    weights = " (weights)" * ("save_weights_only" in options)
    assert model.saved == [f"{number}.safetensors{weights}" for number in saved]


def test_the_best_of_an_earlier_training_is_not_forgotten():
    checkpoint = ModelCheckpoint("{epoch}.safetensors", save_best_only=True)
    drive(checkpoint, logs_of([0.5]))
    assert drive(checkpoint, logs_of([0.75, 0.375])).saved == ["2.safetensors"]


def test_checkpoints_refuse_what_cannot_be_a_name():
    with pytest.raises(ArgumentError, match=r"ModelCheckpoint got the path 'best.pkl'; .* \.safetensors"):
        ModelCheckpoint("best.pkl")
    with pytest.raises(ArgumentError, match=r"'val_acc' is not logged\. Did you mean 'val_accuracy'\? Known: epoch"):
        drive(ModelCheckpoint("{val_acc:.2f}.safetensors"), logs_of([0.5], "val_accuracy"))
    with pytest.raises(ArgumentError, match="'batch' is not logged"):
        drive(ModelCheckpoint("{batch}.safetensors"), logs_of([0.5]))


# --- the others --------------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("reference_kernels")
@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_ends_training(data, loss, capsys):
    spoils = LambdaCallback(on_train_batch_end=lambda batch, logs: batch == 1 and logs.update(loss=loss))
    model = compiled()
    model.fit(*data, batch_size=4, epochs=3, verbose=0, callbacks=[spoils, TerminateOnNaN()])
    assert model.updates == 2
    assert capsys.readouterr().out == "Batch 1: Invalid loss, terminating training\n"
    with pytest.raises(TrainingError, match=rf"The loss became {loss} in batch 1; expected a finite number"):
        model.fit(*data, batch_size=4, verbose=0, callbacks=[spoils, TerminateOnNaN(raise_error=True)])
    assert issubclass(TrainingError, RuntimeError)                               # what Keras raises
    model.fit(*data, epochs=2, verbose=0, callbacks=[TerminateOnNaN()])
    assert model.updates == 6


def test_lambda_callback_takes_every_event_and_no_other():
    events = [name for name in vars(Callback) if name.startswith("on_")]
    called = []
    callback = LambdaCallback(**{name: lambda *given, name=name: called.append((name, given)) for name in events})
    for name in events:
        getattr(callback, name)(name, None)
    assert called == [(name, (name, None)) for name in events]
    assert len(events) == 16
    with pytest.raises(ArgumentError, match=r"'on_epoch_ends', which never happens. Did you mean 'on_epoch_end'"):
        LambdaCallback(on_epoch_ends=print)
    with pytest.raises(ArgumentError, match=r"got on_train_end=3; expected a function"):
        LambdaCallback(on_train_end=3)


@pytest.mark.usefixtures("reference_kernels")
def test_the_other_names_of_the_batch_events_are_called(data):
    called = []

    class Old(Callback):
        def on_batch_begin(self, batch, logs=None):
            called.append(batch)

        def on_batch_end(self, batch, logs=None):
            called.append(sorted(logs))

    compiled().fit(*data, batch_size=6, verbose=0, callbacks=Old())
    assert called == [0, ["accuracy", "loss"], 1, ["accuracy", "loss"]]


@pytest.mark.usefixtures("reference_kernels")
def test_a_history_of_ones_own_is_the_one_returned_and_grows_on(data):
    own = History()
    model = compiled()
    for first in (0, 2):
        assert model.fit(*data, initial_epoch=first, epochs=first + 2, verbose=0, callbacks=[own]) is own
    assert model.history is own
    assert own.epoch == [2, 3]
    assert len(own.history["loss"]) == 4


def test_a_class_in_place_of_an_object_is_told_so(data):
    with pytest.raises(ArgumentError, match=r"callbacks holds .*EarlyStopping.* Perhaps write EarlyStopping\(\.\.\.\)"):
        compiled().fit(*data, verbose=0, callbacks=[EarlyStopping])


@pytest.mark.parametrize(("make", "words"), [
    (lambda: EarlyStopping(patience=-1), "EarlyStopping: patience is -1"),
    (lambda: EarlyStopping(min_delta="a"), "EarlyStopping: min_delta is 'a'"),
    (lambda: ReduceLROnPlateau(factor=1.0), "factor is 1.0; expected a number of at least 0 and less than 1"),
    (lambda: ReduceLROnPlateau(min_lr=-1), "min_lr is -1"),
    (lambda: ModelCheckpoint("m.safetensors", save_freq="batch"), "save_freq is 'batch'"),
    (lambda: ModelCheckpoint("m.safetensors", initial_value_threshold="low"), "initial_value_threshold is 'low'")])
def test_settings_that_make_no_sense_are_refused(make, words):
    with pytest.raises(ArgumentError, match=words):
        make()


def test_every_name_is_there():
    assert set(callbacks.__all__) >= {
        "Callback", "History", "EarlyStopping", "ReduceLROnPlateau", "ModelCheckpoint", "LearningRateScheduler",
        "CSVLogger", "LambdaCallback", "TerminateOnNaN"}
    assert all(getattr(callbacks, name).__doc__ for name in callbacks.__all__ if name != "Logs")

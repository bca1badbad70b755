"""The callbacks beside Keras' own: the same logs, told to both, have the same consequences.

Values lie on a grid of eighths: Keras compares in float32, we in float64.
"""

from __future__ import annotations

import re
import warnings

import numpy as np

from callback_runs import drive
from keras_models import COMPILED, NEEDS_KERAS, STILL, dense, pair_of_models
from minicnn import callbacks
from networks import draw_images

pytestmark = NEEDS_KERAS


def both(name, *args, **options):
    """Return the callback of a name from Keras and from here."""
    import keras
    return getattr(keras.callbacks, name)(*args, **options), getattr(callbacks, name)(*args, **options)


def draw_logs(rng, epochs, monitor="val_loss"):
    """Return logs on a grid; now and then the monitored value is missing."""
    return [{"loss": 1.0, "accuracy": 0.25, monitor: None if rng.random() < 0.05 else float(rng.integers(0, 9)) / 8}
            for _ in range(epochs)]


def told_alike(theirs, ours, logs, **options):
    """Tell both the same; return the models, whose records must agree."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)         # of values that are missing
        models = [drive(callback, logs, **options) for callback in (theirs, ours)]
    for name in ("epochs", "rates", "saved"):
        assert getattr(models[0], name) == getattr(models[1], name), name
    assert [array.tolist() for array in models[0].restored] == [array.tolist() for array in models[1].restored]
    return models


def printed(capsys):
    """Return what was printed since the last call, without the empty lines Keras begins with."""
    return [line for line in capsys.readouterr().out.splitlines() if line]


def test_early_stopping(rng, capsys):
    stopped = 0
    for _ in range(60):
        mode = str(rng.choice(["min", "max", "auto"]))
        theirs, ours = both(
            "EarlyStopping", min_delta=float(rng.choice([0, 0.125, -0.25])), patience=int(rng.integers(0, 7)),
            mode=mode, verbose=int(rng.integers(2)), baseline=rng.choice([None, 0.5]),
            restore_best_weights=bool(rng.integers(2)), start_from_epoch=int(rng.choice([0, 0, 2])))
        logs = draw_logs(rng, 10)
        told_alike(theirs, ours, logs)
        for name in ("wait", "stopped_epoch", "best", "best_epoch"):
            assert getattr(theirs, name) == getattr(ours, name), name
        stopped += ours.stopped_epoch > 0
    assert 12 < stopped < 55
    printed(capsys)


def test_what_early_stopping_says(rng, capsys):
    theirs, ours = both("EarlyStopping", patience=2, verbose=1, restore_best_weights=True)
    logs = [{"val_loss": value} for value in (0.5, 0.25, 0.5, 0.75)]
    drive(theirs, logs)
    said = printed(capsys)
    drive(ours, logs)
    assert printed(capsys) == said
    assert len(said) == 2


def test_reduce_lr_on_plateau(rng, capsys):
    reduced = 0
    for _ in range(60):
        theirs, ours = both(
            "ReduceLROnPlateau", factor=0.5, patience=int(rng.integers(0, 4)), mode=str(rng.choice(["min", "max"])),
            min_delta=float(rng.choice([0, 1e-4, 0.25])), cooldown=int(rng.integers(0, 3)),
            min_lr=float(rng.choice([0, 0.375])), verbose=1)
        logs = draw_logs(rng, 10)
        told_alike(theirs, ours, logs)
        lines = printed(capsys)
        assert lines[:len(lines) // 2] == lines[len(lines) // 2:]
        for name in ("wait", "cooldown_counter", "best"):
            assert getattr(theirs, name) == getattr(ours, name), name
        reduced += len(lines) > 2
    assert reduced > 12


def test_the_default_of_min_delta_counts():
    """1e-4: half of it is no improvement."""
    for gain, reductions in ((5e-5, 3), (2e-4, 0)):
        theirs, ours = both("ReduceLROnPlateau", patience=1, factor=0.5)
        logs = [{"val_loss": 0.5 - gain * epoch * (gain > 1e-4) - gain * (epoch > 0)} for epoch in range(4)]
        _, model = told_alike(theirs, ours, logs)
        assert model.rates[-1] == 0.5**reductions


def test_model_checkpoint(rng, capsys):
    saved = 0
    for _ in range(60):
        weights = bool(rng.integers(2))
        by_batch = bool(rng.integers(2))
        path = "{epoch:02d}-{loss:.2f}" + "-{batch}" * by_batch + (".weights.h5" if weights else ".keras")
        theirs, ours = both(
            "ModelCheckpoint", path, save_weights_only=weights, save_freq=int(rng.integers(1, 6)) if by_batch else
            "epoch", verbose=int(not by_batch), mode=str(rng.choice(["min", "max"])),
            save_best_only=not by_batch and bool(rng.integers(4)),
            initial_value_threshold=rng.choice([None, 0.5]))
        logs = draw_logs(rng, 8)
        if None in [values["val_loss"] for values in logs]:
            theirs.verbose = ours.verbose = 0                    # Keras then saves without a word
        _, model = told_alike(theirs, ours, logs, batches=int(rng.integers(1, 5)))
        lines = printed(capsys)
        assert lines[:len(lines) // 2] == lines[len(lines) // 2:]
        assert theirs.best == ours.best
        saved += 0 < len(model.saved) < 8
    assert saved > 12


def test_csv_logger(rng, tmp_path):
    """Byte for byte: with and without validation, other separators, appended, and values that are lists."""
    validated = [{"loss": loss, "accuracy": 0.5, "val_loss": loss / 3} for loss in rng.random(3).tolist()]
    plain = [{"loss": loss, "f1": np.arange(3), "note": "a, b"} for loss in rng.random(2).tolist()]
    for number, (logs, options) in enumerate([(validated, {}), (plain, {"separator": ";"}),
                                              (validated, {"append": True}), ([*plain, *validated], {})]):
        paths = [tmp_path / f"{library}-{number}.csv" for library in ("keras", "minicnn")]
        theirs, _ = both("CSVLogger", str(paths[0]), **options)
        ours = callbacks.CSVLogger(paths[1], **options)
        for _ in range(2):                                                       # over the first file, or behind it
            told_alike(theirs, ours, logs)
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert paths[1].read_text().count("epoch") == 1


def test_learning_rate_scheduler(capsys):
    theirs, ours = both("LearningRateScheduler", lambda epoch, rate: rate / 2 if epoch % 2 else rate, verbose=1)
    told_alike(theirs, ours, [{"loss": 1.0}] * 5)
    lines = printed(capsys)
    assert lines[:5] == [re.sub(r"to 1\.$", "to 1.0.", line) for line in lines[5:]]


def test_terminate_on_nan():
    for values in ([0.5, 0.25], [0.5, float("nan"), 0.5], [float("inf")]):
        theirs, ours = both("TerminateOnNaN")
        told_alike(theirs, ours, [{"loss": value} for value in values], batches=2)


# --- in a training of each ---------------------------------------------------------------------------------------

def recorder(base, calls):
    """Return a callback of either library that writes down what it is told."""
    def method(event):
        def told(self, *given, logs=None):
            *number, logs = given if given and (given[-1] is None or isinstance(given[-1], dict)) else (*given, logs)
            calls.append((event, *number, *sorted(logs or {})))
        return told

    events = [name for name in dir(base) if name.startswith("on_") and not name.startswith("on_batch")]
    return type("Recorder", (base,), {event: method(event) for event in events})()


def test_the_events_of_fit_evaluate_and_predict(kernel_set, rng):
    """Their order, their numbers, and what is in their logs."""
    import keras
    x, y = draw_images(rng, 11, (4,))
    ours, theirs = pair_of_models(rng, dense, (4,), **COMPILED)
    calls = []
    for model, base in ((theirs, keras.callbacks.Callback), (ours, callbacks.Callback)):
        calls.append([])
        own = recorder(base, calls[-1])
        model.fit(x, y, epochs=2, batch_size=4, validation_split=0.4, verbose=0, callbacks=[own])
        model.evaluate(x, y, batch_size=3, verbose=0, callbacks=[own])
        model.predict(x, batch_size=8, verbose=0, callbacks=[own])
    assert calls[0] == calls[1]
    assert len({call[0] for call in calls[1]}) == 14


def test_evaluations_and_predictions_can_be_stopped(kernel_set, rng):
    import keras
    x, y = draw_images(rng, 11, (4,))
    ours, theirs = pair_of_models(rng, dense, (4,), **STILL)
    results = []
    for model, base in ((theirs, keras.callbacks.Callback), (ours, callbacks.Callback)):
        class Stop(base):
            def on_test_batch_end(self, batch, logs=None):
                self.model.stop_evaluating = batch == 1

            def on_predict_batch_end(self, batch, logs=None):
                self.model.stop_predicting = batch == 1

        results += [model.evaluate(x, y, batch_size=4, verbose=0, callbacks=[Stop()]),
                    model.predict(x, batch_size=4, verbose=0, callbacks=[Stop()])]
        whole = model.evaluate(x, y, batch_size=4, verbose=0)
    np.testing.assert_allclose(results[2], results[0], rtol=1e-5)
    assert results[2] != whole
    assert results[1].shape == results[3].shape == (8, 3)


def test_the_lines_of_verbose_2(kernel_set, rng, capsys):
    """Two epochs with a learning rate, one without a title, an evaluation, a prediction; but for the times."""
    import keras
    x, y = draw_images(rng, 23, (4,))
    ours, theirs = pair_of_models(rng, dense, (4,), **STILL)
    shown = []
    for model, own in ((theirs, keras.callbacks), (ours, callbacks)):
        halved = own.LearningRateScheduler(lambda epoch, rate: 0.0005)
        model.fit(x, y, epochs=2, batch_size=2, shuffle=False, verbose=2, validation_split=0.5, callbacks=[halved])
        model.fit(x, y, batch_size=9, shuffle=False, verbose=2)
        model.evaluate(x, y, verbose=2)
        model.predict(x, verbose=2)
        shown.append(re.sub(r"- \d+s - +\d+(s|ms|us)/step", "- TIME", capsys.readouterr().out))
    assert shown[1] == shown[0]
    assert len(shown[0].splitlines()) == 7


def test_what_is_printed_of_learning_rates_that_are_small(kernel_set, rng, capsys):
    ours, _ = pair_of_models(rng, dense, (4,), **STILL)
    ours.fit(*draw_images(rng, 5, (4,)), verbose=2, callbacks=[callbacks.LearningRateScheduler(lambda epoch: 2e-5)])
    assert capsys.readouterr().out.endswith(" - learning_rate: 2.0000e-05\n")

"""Callbacks, told what happens in training and able to stop it; and what fit prints."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from minicnn.callbacks import Callback, LearningRateScheduler, progress
from minicnn.callbacks.base import announce
from minicnn.layers import BatchNormalization, Dense
from minicnn.models import Sequential
from networks import CLASSES, compiled, draw_images, small_cnn, small_dense

# --- callbacks ---------------------------------------------------------------------------------------------------

def recorder(calls: list, name: str) -> Callback:
    class Recorder(Callback):
        pass

    def method(event):
        return lambda self, *arguments: calls.append((name, event, *arguments[:-1]))

    for event in vars(Callback):
        if event.startswith("on_"):
            setattr(Recorder, event, method(event))
    return Recorder()


@pytest.mark.usefixtures("reference_kernels")
def test_the_order_of_the_calls(data):
    calls: list[tuple] = []
    compiled().fit(*data, epochs=2, batch_size=6, validation_split=0.2, verbose=0, callbacks=[recorder(calls, "a")])
    batches = [(event, batch) for batch in range(2) for event in ("on_train_batch_begin", "on_train_batch_end")]
    validation = [("on_test_begin",), ("on_test_batch_begin", 0), ("on_test_batch_end", 0), ("on_test_end",)]
    epochs = [[("on_epoch_begin", epoch), *batches, *validation, ("on_epoch_end", epoch)] for epoch in range(2)]
    assert [call[1:] for call in calls] == [("on_train_begin",), *epochs[0], *epochs[1], ("on_train_end",)]


@pytest.mark.usefixtures("reference_kernels")
def test_callbacks_are_called_in_the_order_given_and_before_the_history(data):
    calls: list[tuple] = []

    class Adds(Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["mine"] = 10.0 + epoch

    history = compiled().fit(*data, epochs=2, verbose=0, callbacks=[recorder(calls, "a"), recorder(calls, "b"), Adds()])
    assert [call[0] for call in calls] == ["a", "b"] * (len(calls) // 2)
    assert history.history["mine"] == [10.0, 11.0]


@pytest.mark.usefixtures("reference_kernels")
def test_what_callbacks_are_told(data):
    told = {}

    class Listener(Callback):
        def on_train_begin(self, logs=None):
            told.update(self.params, model=self.model)

    model = compiled()
    model.fit(*data, epochs=3, batch_size=4, verbose=0, callbacks=Listener())
    assert told == {"epochs": 3, "steps": 3, "images": 11, "verbose": 0, "model": model}


@pytest.mark.usefixtures("reference_kernels")
@pytest.mark.parametrize(("event", "epochs", "updates"), [("on_train_batch_end", 1, 1), ("on_epoch_end", 1, 3),
                                                          ("on_epoch_begin", 1, 1)])
def test_stop_training(event, epochs, updates, data):
    class Stop(Callback):
        pass

    setattr(Stop, event, lambda self, number, logs=None: setattr(self.model, "stop_training", True))
    model = compiled()
    history = model.fit(*data, batch_size=4, epochs=4, verbose=0, callbacks=[Stop()])
    assert len(history.epoch) == epochs
    assert model.optimizer.iterations == updates
    assert len(model.fit(*data, epochs=2, verbose=0).epoch) == 2                 # the next fit is not stopped


@pytest.mark.usefixtures("reference_kernels")
def test_an_interruption_ends_training_in_order(data):
    calls: list[tuple] = []

    class Interrupt(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*data, epochs=5, verbose=0, callbacks=[recorder(calls, "a"), Interrupt()])
    assert calls[-1][1] == "on_train_end"
    assert model.history.epoch == [0]
    model.fit(*data, verbose=0)


# --- what is printed ---------------------------------------------------------------------------------------------

LINE = r"Epoch {0}/2 - \d+\.\d s - [\d,]+ images/s - loss \d\.\d{{4}} - accuracy \d\.\d{{4}}"


@pytest.mark.usefixtures("reference_kernels")
def test_verbose_0_prints_nothing(data, capsys):
    model = compiled(small_cnn())
    x, y = draw_images(np.random.default_rng(0), 6)
    model.fit(x, y, epochs=2, validation_split=0.4, verbose=0)
    model.evaluate(x, y)
    model.predict(x)
    model.train_on_batch(x, y)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("reference_kernels")
def test_one_plain_line_an_epoch_where_the_output_is_no_terminal(data, capsys):
    compiled().fit(*data, epochs=2)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 2
    for number, line in enumerate(lines, 1):
        assert re.fullmatch(LINE.format(number), line), line
    assert err == ""
    compiled().fit(*data, validation_split=0.2)
    assert re.search(r"accuracy \d\.\d{4} - val_loss \d\.\d{4} - val_accuracy \d\.\d{4}$", capsys.readouterr().out)


KERAS_LINE = r"\d+s - \d+(s|ms|us)/step - accuracy: {accuracy:.4f} - loss: {loss:.4f}"


@pytest.mark.usefixtures("reference_kernels")
def test_verbose_2_prints_lines_as_keras_does(data, capsys):
    """Two an epoch, one for an evaluation or prediction; ``test_callbacks_keras.py`` holds them beside Keras' own."""
    model = compiled()
    history = model.fit(*data, epochs=2, batch_size=5, verbose=2).history
    lines = capsys.readouterr().out.splitlines()
    for epoch in range(2):
        assert lines[2 * epoch] == f"Epoch {epoch + 1}/2"
        numbers = {name: history[name][epoch] for name in ("accuracy", "loss")}
        assert re.fullmatch("3/3 - " + KERAS_LINE.format(**numbers), lines[2 * epoch + 1]), lines
    for verbose in (1, 2):
        values = model.evaluate(*data, batch_size=3, verbose=verbose, return_dict=True)
        model.predict(data[0], batch_size=3, verbose=verbose)
        evaluated, predicted = capsys.readouterr().out.splitlines()
        assert re.fullmatch("4/4 - " + KERAS_LINE.format(**values), evaluated)
        assert re.fullmatch(r"4/4 - \d+s - \d+(s|ms|us)/step", predicted)
    model.fit(iter([data, data]), verbose=2)                                    # nobody knows how many there will be
    assert capsys.readouterr().out.startswith("2/2 - ")


@pytest.mark.parametrize(("seconds", "words"), [(2.4, "2s"), (1.0, "1s"), (0.0124, "12ms"), (0.0009, "900us")])
def test_the_time_of_a_step(seconds, words):
    assert progress._step_time(seconds) == words


@pytest.mark.usefixtures("reference_kernels")
def test_the_line_says_what_the_history_says(data, capsys):
    history = compiled().fit(*data, callbacks=[LearningRateScheduler(lambda epoch, rate: 0.005)])
    line = capsys.readouterr().out
    assert f"loss {history.history['loss'][0]:.4f} - accuracy {history.history['accuracy'][0]:.4f}" in line
    assert "learning_rate 0.005" in line


@pytest.mark.usefixtures("reference_kernels")
def test_the_bar_shows_loss_accuracy_and_images_per_second(data, capsys, monkeypatch):
    from tqdm import auto
    bar = auto.tqdm
    monkeypatch.setattr(auto, "tqdm", lambda **options: bar(**options | {"mininterval": 0}))     # draw every batch
    compiled().fit(*data, epochs=2, batch_size=4, verbose=1)
    out, err = capsys.readouterr()
    drawn = [part for part in re.split(r"[\r\n]", out) if "%|" in part]
    assert drawn
    assert any(re.search(r"loss \d\.\d{4} - accuracy \d\.\d{4}", part) for part in drawn)
    assert any("images/s" in part for part in drawn)
    assert all(part.startswith("Epoch ") for part in drawn)
    assert err == ""


@pytest.mark.usefixtures("reference_kernels")
def test_what_callbacks_say_stands_above_the_bar(data, capsys):
    schedule = LearningRateScheduler(lambda epoch: 0.25, verbose=1)

    class Speaks(Callback):
        def on_train_batch_end(self, batch, logs=None):
            announce(f"batch {batch}")

    compiled().fit(*data, batch_size=6, verbose=1, callbacks=[schedule, Speaks()])
    *said, last, end = [line.rpartition("\r")[2] for line in capsys.readouterr().out.split("\n")]
    assert said == ["Epoch 1: LearningRateScheduler setting learning rate to 0.25.", "batch 0", "batch 1"]
    assert re.match(r"Epoch 1/1 - \d", last)
    assert end == ""


@pytest.mark.usefixtures("reference_kernels")
def test_an_interrupted_bar_is_closed(data, capsys):
    class Interrupt(Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compiled().fit(*data, verbose=1, callbacks=[Interrupt()])
    from tqdm import tqdm
    assert not getattr(tqdm, "_instances", None)
    capsys.readouterr()


@pytest.mark.usefixtures("reference_kernels")
@pytest.mark.parametrize(("highest", "warned"), [(1.0, False), (1.5, False), (1.51, True), (255, True)])
def test_inputs_above_one_and_a_half_are_warned_about_once(highest, warned, rng):
    x, y = draw_images(rng, 5, (4,))
    x[2, 3] = highest
    model = compiled()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, y, epochs=2, batch_size=2, verbose=0)
        model.fit(x, y, verbose=0)
    assert len(caught) == warned
    if warned:
        assert f"reach {highest:g}" in str(caught[0].message)
        assert "/ 255" in str(caught[0].message)
        assert caught[0].filename == __file__


@pytest.mark.usefixtures("reference_kernels")
def test_unsettled_moving_averages_are_mentioned_once(capsys):
    x, y = draw_images(np.random.default_rng(0), 6)
    model = compiled(small_cnn())
    model.fit(x, y, verbose=0, validation_split=0.4)
    assert capsys.readouterr().out == ""
    model.fit(x, y, epochs=2, verbose=2)
    assert "settled" not in capsys.readouterr().out                              # no validation, nothing to say
    model.fit(x, y, epochs=2, verbose=2, validation_data=(x, y))
    model.fit(x, y, verbose=2, validation_data=(x, y))
    out = capsys.readouterr().out
    assert out.count("have not settled") == 1
    assert "after 4 updates" in out


@pytest.mark.usefixtures("reference_kernels")
@pytest.mark.parametrize("case", ["no batch normalization", "500 updates"])
def test_settled_moving_averages_are_not_mentioned(case, data, capsys):
    model = compiled(small_dense() if case == "no batch normalization" else Sequential(
        [BatchNormalization(input_shape=(4,)), Dense(CLASSES, activation="softmax")]))
    if case == "500 updates":
        model.updates = 499                                         # the epoch's one update makes it 500
    model.fit(*data, verbose=2, validation_data=data)
    assert "settled" not in capsys.readouterr().out

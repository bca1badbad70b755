"""Rough treatment: Ctrl-C wherever Python can be interrupted, two threads at once, models without number."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest

import endurance
import interrupts
import kills
from minicnn.kernels.fast import parallel
from networks import compiled, draw_images, small_cnn

# --- Ctrl-C ------------------------------------------------------------------------------------------------------

DELICATE = ("kernels/fast/parallel.py", "kernels/fast/memory.py", "step.py", "files.py")


def few(places):
    """Choose the places where something is taken that has to be given back, and some of the others."""
    delicate = [place for place in places if place[0].co_filename.endswith(DELICATE)]
    return [*delicate[::4], *[place for place in places if place not in delicate][::20]]


def test_ctrl_c_at_any_place_leaves_all_as_it_should_be(kernel_set, threads, tmp_path):
    """Files whole, locks free, the model usable, and a training that goes on to the same bits."""
    threads(2)
    tried, faults = interrupts.measure(tmp_path, few)
    assert faults == []
    assert tried >= 30


@pytest.mark.parametrize("place", ["begin", "wait", "put"])
def test_helpers_that_are_interrupted_with_are_waited_for(threads, place, monkeypatch):
    """Ctrl-C as work is handed over, or waited for: nobody works on afterwards, nobody waits for ever."""
    threads(3)
    parallel.run(lambda chunk: None, 3)    # starts the helpers
    done, begun = np.zeros(3, int), threading.Event()
    original = parallel._Helper.begin if place != "wait" else parallel._Helper.wait

    def interrupted(self, *work):
        monkeypatch.undo()
        if place == "put":
            original(self, *work)
        raise KeyboardInterrupt

    def task(chunk):
        begun.set()
        done[chunk] += 1

    monkeypatch.setattr(parallel._Helper, "wait" if place == "wait" else "begin", interrupted)
    with pytest.raises(KeyboardInterrupt):
        parallel.run(task, 3)
    seen = done.copy()
    for _ in range(3):
        assert not parallel._pool.holder
        parallel.run(lambda chunk: None, 3)
    np.testing.assert_array_equal(done, seen)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system sends no signal to a thread")
def test_ctrl_c_while_a_helper_is_waited_for(threads):
    """It is waited for to the end all the same, and then the interruption is reported."""
    threads(2)
    caller, taken, ended = threading.get_ident(), threading.Event(), []

    def task(chunk):
        if threading.get_ident() == caller:
            taken.wait()
            return
        taken.set()
        time.sleep(0.05)    # by then the caller waits, most likely
        signal.pthread_kill(caller, signal.SIGINT)
        time.sleep(0.05)
        ended.append(chunk)

    with pytest.raises(KeyboardInterrupt):
        parallel.run(task, 2)
    assert len(ended) == 1
    assert not parallel._pool.holder


def test_ctrl_c_in_processes_of_their_own(tmp_path, reference_kernels):
    """At random moments, some of them while it starts; experiments/kills.py --by ctrl-c tries more."""
    figures = kills.measure(3, tmp_path, by=kills.CTRL_C)
    assert (figures.survived, figures.tried, figures.ends) == (3, 3, 1)


# --- two threads at once -----------------------------------------------------------------------------------------

def at_once(*functions):
    """Run functions in threads of their own, begun together; return what they gave."""
    results, start = [None] * len(functions), threading.Barrier(len(functions))

    def run(number):
        start.wait()
        results[number] = functions[number]()

    users = [threading.Thread(target=run, args=(number,)) for number in range(len(functions))]
    for user in users:
        user.start()
    for user in users:
        user.join()
    return results


ROUNDS = 1 if interrupts.NO_JIT else 25


def repeated(function, rounds=ROUNDS):
    return lambda: [function() for _ in range(rounds)]


@pytest.fixture
def seen():
    """A trained model, and images of several batches."""
    x, y = draw_images(np.random.default_rng(0), 9 if interrupts.NO_JIT else 37)
    model = compiled(small_cnn(), "adam")
    model.fit(x, y, batch_size=8, verbose=0)
    return model, x, y


def test_two_threads_predict_on_one_model_at_once(kernel_set, threads, seen):
    threads(2)
    model, x, _ = seen
    alone = [model.predict(part, batch_size=size, verbose=0) for part, size in ((x, 5), (x[::-1], 32), (x[:1], 1))]
    found = at_once(*(repeated(lambda part=part, size=size: model.predict(part, batch_size=size, verbose=0))
                      for part, size in ((x, 5), (x[::-1], 32), (x[:1], 1))))
    for many, one in zip(found, alone, strict=True):
        assert len(many) == ROUNDS
        for each in many:
            np.testing.assert_array_equal(each, one)


def test_one_thread_predicts_while_another_evaluates(kernel_set, threads, seen):
    threads(2)
    model, x, y = seen
    predicted, judged = model.predict(x, batch_size=5, verbose=0), model.evaluate(x, y, batch_size=8, verbose=0)
    ours, theirs = at_once(repeated(lambda: model.predict(x, batch_size=5, verbose=0)),
                           repeated(lambda: model.evaluate(x, y, batch_size=8, verbose=0)))
    for each in ours:
        np.testing.assert_array_equal(each, predicted)
    assert theirs == [judged] * ROUNDS


def test_two_models_are_trained_at_once(kernel_set, threads, seen):
    """Each comes to the bits it comes to alone."""
    threads(2)
    _, x, y = seen

    def train(seed):
        model = compiled(small_cnn(seed=seed), "adam")
        history = model.fit(x, y, batch_size=8, epochs=min(ROUNDS, 3), verbose=0, validation_split=0.2)
        return model.weights_sha256(), history.history
    alone = [train(seed) for seed in (1, 2)]
    assert at_once(lambda: train(1), lambda: train(2)) == alone


# --- without end -------------------------------------------------------------------------------------------------

def test_models_built_and_dropped_leave_nothing(kernel_set):
    """Experiments of this kind by the ten thousand: tests/endurance.py."""
    growth, left = endurance.models(20 if interrupts.NO_JIT else 150, warm=50)
    assert left == 0
    assert growth.traced < 2**18


def test_training_without_end_takes_no_more_memory(kernel_set):
    count, warm = (5, 5) if interrupts.NO_JIT else (250, 50)
    assert endurance.steps(count, warm, trace=True).traced < 2**18


def test_what_the_script_says_of_endurance(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["endurance.py", "--models", "20", "--steps", "20", "--kernels", "reference"])
    assert endurance.main() == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("20 models built and dropped, 0 of them still there: resident set +")
    assert second.startswith("20 training steps: resident set +")

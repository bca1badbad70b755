"""Helpers that wait in compiled code: who does what, also when they are late, asleep, or wanted elsewhere."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from minicnn.kernels.fast import crew, parallel
from minicnn.kernels.fast.compile import jit
from minicnn.kernels.fast.counter import take
from minicnn.kernels.fast.crew import dismiss, invite

compiled = pytest.mark.no_jit_excluded("helpers wait in compiled code only")
LONG = 20_000  # rounds of a loop that keeps a thread busy for some microseconds


@jit(keep=False)
def _who(seat, crew_, counter, seats, rounds, sink):
    """Write into each chunk's place who has done it."""
    invite(seat, crew_)
    chunk = take(counter, seat)
    while chunk < seats.size:
        total = 0.0
        for k in range(rounds):
            total += np.sqrt(k + total)
        sink[chunk] = total
        seats[chunk] = seat
        chunk = take(counter, seat)
    dismiss(seat, crew_)


def who(chunks: int, rounds: int = 1) -> np.ndarray:
    """Return who did each chunk; -1 where nobody did."""
    seats = np.full(chunks, -1)
    parallel.share(_who, chunks, seats, rounds, np.zeros(chunks))
    return seats


@pytest.mark.parametrize("number", [1, 2, 3, 8])
def test_every_chunk_is_done_once_by_somebody_with_a_seat(threads: Callable, number: int) -> None:
    threads(number)
    for _ in range(50):
        seats = who(17)
        assert seats.min() >= 0
        assert seats.max() < number


def test_no_more_threads_than_the_arguments_have_room_for(threads: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may call set_threads between the call that makes room for each seat and the one that works."""
    threads(8)
    asked = []
    original = parallel._pool.helpers
    monkeypatch.setattr(parallel._pool, "helpers", lambda count: (asked.append(count), original(count))[1])
    seats = np.full(50, -1)
    parallel.share(_who, 50, seats, 2000, np.zeros(50), rooms=1)
    assert asked == []
    assert seats.tolist() == [0] * 50
    parallel.share(_who, 50, seats, 2000, np.zeros(50), rooms=3)
    assert asked == [2]
    assert set(seats.tolist()) <= {0, 1, 2}


def test_no_more_helpers_than_chunks_need(threads: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    threads(8)
    asked = []
    original = parallel._pool.helpers
    monkeypatch.setattr(parallel._pool, "helpers", lambda count: (asked.append(count), original(count))[1])
    assert who(3).min() >= 0
    assert who(1).tolist() == [0]
    assert who(0).size == 0
    assert set(asked) == {2}


@compiled
def test_helpers_help(threads: Callable) -> None:
    threads(2)
    end = time.monotonic() + 60  # a busy machine may leave the helper without a core for a while
    seats = who(64, LONG)
    while seats.max() == 0 and time.monotonic() < end:
        seats = who(64, LONG)
    assert set(seats) == {0, 1}


@compiled
def test_a_helper_falls_asleep_and_is_woken_again(threads: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    threads(2)
    monkeypatch.setattr(crew, "PATIENCE", 10)
    monkeypatch.setattr(parallel, "_pool", parallel._Pool())
    for _ in range(5):
        assert who(64, LONG).min() >= 0
        state = parallel._pool._crew
        end = time.monotonic() + 60
        while state[crew.place_of(1)] != crew.ASLEEP and time.monotonic() < end:
            time.sleep(0.001)
        assert state[crew.place_of(1)] == crew.ASLEEP


def test_helpers_serve_python_and_kernels_by_turns(threads: Callable) -> None:
    threads(3)
    for round_ in range(200):
        done: list[int] = []
        parallel.run(done.append, 5)
        assert sorted(done) == list(range(5))
        assert who(5 + round_ % 3).min() >= 0


def test_two_python_threads_at_once(threads: Callable) -> None:
    threads(2)
    wrong = []

    def work() -> None:
        for _ in range(100):
            if who(9, 100).min() < 0:
                wrong.append(1)

    both = [threading.Thread(target=work) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert not wrong


@compiled
def test_a_kernel_with_too_many_arguments_is_refused() -> None:
    @jit(keep=False)
    def much(seat, crew_, a, b, c, d):
        invite(seat, crew_)
        dismiss(seat, crew_)

    many = tuple(np.zeros(1) for _ in range(64))
    with pytest.raises(Exception, match="there is room for"):
        much(np.int64(0), crew.ALONE, many, many, many, many)


BESIDE = """
import numpy as np
from minicnn.kernels.threads import set_threads
from minicnn.kernels.fast import parallel
from minicnn.kernels.fast.compile import jit
from minicnn.kernels.fast.counter import take
from minicnn.kernels.fast.crew import dismiss, invite

@jit(keep=False)
def beside(seat, crew, counter, out):
    invite(seat, crew)
    chunk = take(counter, seat)
    while chunk < 200_000:
        if seat > 0:
            out[out.size + chunk] = 1
        chunk = take(counter, seat)
    dismiss(seat, crew)

set_threads(2)
for _ in range(1000):
    try:
        parallel.share(beside, 200_000, np.zeros(1))
    except IndexError as error:
        print(error)
        break
"""


@compiled
def test_an_index_outside_an_array_is_an_error_on_a_helper_too(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "MINICNN_CACHE_DIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", BESIDE], env=environment, capture_output=True, text=True,
                            timeout=600)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "beside: an index outside an array, on a helper thread\n"


@compiled
def test_who_wakes_helpers_waits_until_they_are_there() -> None:
    crew_ = crew.new_crew(1)
    place = crew.place_of(1)
    crew_[crew.HELPERS] = 1
    crew.serve(crew_, np.int64(0), 10)                      # nobody comes: not for ever
    crew_[place] = crew.WAITING
    thread = threading.Thread(target=crew.serve, args=(crew_, np.int64(1), 10**15))
    thread.start()
    crew.serve(crew_, np.int64(0), 10**15)
    assert crew_[place + crew.HERE] == 1
    crew_[place] = crew.RECALLED
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert crew_[place + crew.HERE] == 0


@compiled
def test_helpers_that_are_awake_are_not_waited_for(threads: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    threads(2)
    waited = []
    original = crew.serve
    monkeypatch.setattr(crew, "serve", lambda state, seat, patience: (
        waited.append(1) if seat == 0 else None, original(state, seat, patience))[1])
    monkeypatch.setattr(crew, "PATIENCE", 10**15)           # it does not fall asleep, however busy the machine is
    monkeypatch.setattr(parallel, "_pool", parallel._Pool())
    try:
        who(2)
        assert waited
        waited.clear()
        for _ in range(20):
            who(2)
        assert not waited
    finally:
        parallel.run(lambda chunk: None, 2)                 # recalls it

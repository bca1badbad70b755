"""The counter that threads share: each number goes to one of them."""

from __future__ import annotations

import threading

import numpy as np

from minicnn.kernels.fast.compile import jit
from minicnn.kernels.fast.counter import new_counter, take


@jit
def take_all(counter, end, taken):
    """Set taken[number] for each number below the end that this thread gets, and count the others' too."""
    number = take(counter)
    while number < end:
        taken[number] += 1
        number = take(counter)
    return number


def test_numbers_count_up_from_zero():
    counter = new_counter()
    assert [take(counter) for _ in range(3)] == [0, 1, 2]
    assert take_all(counter, 7, np.zeros(7, np.int64)) == 7
    assert counter.tolist() == [8]


def test_threads_that_take_at_the_same_time_get_different_numbers():
    end, threads = 20_000, 4
    counter, taken, together = new_counter(), np.zeros((threads, end), np.int64), threading.Barrier(threads)

    def work(own):
        together.wait()
        take_all(counter, end, own)

    workers = [threading.Thread(target=work, args=(own,)) for own in taken]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (taken.sum(axis=0) == 1).all()
    assert counter.tolist() == [end + threads]

"""The counters that threads share: each chunk goes to one of them, and each of them has its own part first."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from minicnn.kernels.fast.compile import jit
from minicnn.kernels.fast.counter import new_counter, take


@jit
def take_all(counter, seat, end, taken):
    """Set taken[chunk] for each chunk below the end that this seat gets."""
    chunk = take(counter, seat)
    while chunk < end:
        taken[chunk] += 1
        chunk = take(counter, seat)
    return chunk


def test_chunks_of_one_seat_count_up_from_zero():
    counter = new_counter(3)
    assert [take(counter, 0) for _ in range(5)] == [0, 1, 2, 3, 3]


@pytest.mark.parametrize(("chunks", "seats"), [(7, 2), (5, 3), (1, 2), (0, 2), (2, 4)])
def test_a_seat_has_its_own_part_first_and_then_what_others_have_left(chunks, seats):
    for seat in range(seats):
        counter = new_counter(chunks, seats)
        begin = seat * chunks // seats
        order = [take(counter, seat) for _ in range(chunks)]
        assert order == [(begin + k) % chunks for k in range(chunks)]  # its part and, after it, the others' in turn
        assert take(counter, seat) == chunks


def test_counters_made_one_after_the_other_begin_anew():
    for _ in range(2):
        taken = np.zeros(7, np.int64)
        assert take_all(new_counter(7, 3), np.int64(1), 7, taken) == 7
        assert taken.tolist() == [1] * 7


def test_threads_that_take_at_the_same_time_get_different_chunks():
    end, threads = 20_000, 4
    counter, taken = new_counter(end, threads), np.zeros((threads, end), np.int64)
    together = threading.Barrier(threads)

    def work(seat):
        together.wait()
        take_all(counter, np.int64(seat), end, taken[seat])

    workers = [threading.Thread(target=work, args=(seat,)) for seat in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (taken.sum(axis=0) == 1).all()

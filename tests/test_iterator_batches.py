"""Batches from a reader's own iterable: how many there are, and where an epoch ends."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.batches import Epochs, IteratorBatches, length

BATCHES = [(np.full((2, 3), n), np.full(2, n)) for n in range(3)]


def numbers(epochs):
    return [int(batch.x[0, 0]) for batch in epochs.next_epoch()]


def test_the_number_of_batches_is_that_of_the_iterable_if_it_has_one():
    assert length(IteratorBatches(tuple(BATCHES))) == 3
    assert Epochs(IteratorBatches(tuple(BATCHES)), None).steps == 3
    assert length(IteratorBatches(iter(BATCHES))) is None
    with pytest.raises(TypeError, match="no length"):
        len(IteratorBatches(iter(BATCHES)))


def test_steps_join_passes_end_to_end():
    epochs = Epochs(IteratorBatches(tuple(BATCHES)), 2)
    assert [numbers(epochs) for _ in range(4)] == [[0, 1], [2, 0], [1, 2], [0, 1]]


def test_steps_end_with_what_cannot_be_repeated():
    epochs = Epochs(IteratorBatches(iter(BATCHES)), 2)
    assert [numbers(epochs) for _ in range(3)] == [[0, 1], [2], []]

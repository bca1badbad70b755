"""Building a model when its inputs are known, and what its summary says of sizes."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn import Sequential
from minicnn.layers import Dense, Flatten
from minicnn.summary import summary_table


def test_a_layer_that_cannot_be_built_leaves_none_built():
    calls = []

    def fails_once(shape, rng):
        calls.append(shape)
        if len(calls) == 1:
            raise MemoryError
        return np.ones(shape)

    model = Sequential([Flatten(), Dense(5), Dense(2, kernel_initializer=fails_once)])
    with pytest.raises(MemoryError):
        model.build((None, 4, 3))
    assert [layer.built for layer in model.layers] == [False, False, False]
    model.build((None, 6, 1))    # another shape: nothing of the first attempt is left
    assert calls == [(5, 2), (5, 2)]
    assert model.output_shape == (None, 2)


def test_building_again_without_a_shape_changes_nothing():
    model = Sequential([Dense(2, input_shape=(3,))])
    digest = model.weights_sha256()
    model.build()
    assert model.weights_sha256() == digest


@pytest.mark.parametrize(("shape", "size"), [
    ((3, 2), "24.00 B"), ((3, 512), "6.00 KB"), ((3, 2**19), "6.00 MB"), ((3, 2**30), "12.00 GB"),
    ((3, 2**40), "12288.00 GB")])
def test_sizes_are_given_in_the_largest_fitting_unit(shape, size):
    layer = Dense(2, use_bias=False)
    layer.build((3,))
    layer.params["kernel"] = np.broadcast_to(np.float32(0), shape)    # takes no memory
    table = summary_table("large", [layer], "utf-8")
    assert f" Total params: {shape[0] * shape[1]:,} ({size})" in table

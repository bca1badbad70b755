"""The ladder: every rung is a convolution, in the memory it says; and each way to run a network gives the same."""

from __future__ import annotations

import json

import numpy as np
import pytest

import benchmark_ladder as ladder
import benchmark_loops as loops
import benchmark_processes
import recipes
from minicnn import kernels
from minicnn.kernels.fast import im2col, memory
from minicnn.layers import BatchNormalization, Conv2D, Dense, Flatten, Input, MaxPooling2D
from minicnn.models import Sequential

SHAPE = (3, 7, 6, 2)  # N, H, W, C


def tiny(input_shape, classes, seed):
    return Sequential([Input(input_shape), Conv2D(16, 3, padding="same", activation="relu"), BatchNormalization(),
                       Conv2D(16, 3, padding="same", activation="relu"), MaxPooling2D(2), Flatten(),
                       Dense(classes, activation="softmax")], name="tiny", seed=seed)


@pytest.fixture(autouse=True)
def _small(monkeypatch, use_kernels, threads):
    use_kernels("fast")
    monkeypatch.setattr(benchmark_processes, "PAUSE", 0)
    monkeypatch.setattr(recipes, "cnn", tiny)
    for name, value in {"SHAPE": SHAPE, "FILTERS": 3, "STEP_BATCH": 4, "EXACT_IMAGES": 2, "IMAGE": (8, 10, 1)}.items():
        monkeypatch.setattr(ladder, name, value)


def test_every_rung_gives_what_float64_gives_nearly():
    found = ladder.measure(2)
    json.dumps(found)
    rungs = found["convolution"]["rungs"]
    assert [rung["title"] for rung in rungs] == [rung.title for rung in ladder.rungs()]
    for rung in rungs:
        assert max(rung["error"].values()) < 1e-5, rung["title"]
        assert min(rung["error"].values()) > 0, rung["title"]  # float32, and not float64 with itself
    assert [len(rung["forward"]["milliseconds"]) for rung in rungs] == [
        ladder.SLOW_CALLS if rung.slow else 2 * ladder.CALLS for rung in ladder.rungs()]
    products = 3 * 7 * 6 * 3 * 25 * 2
    assert found["convolution"]["operations"] == {"forward": 2 * products, "backward": 4 * products}
    for network in found["step"]["rungs"]:
        assert 0 < network["error"] < 1e-5, network["title"]
        assert len(network["train"]["milliseconds"]) == len(network["infer"]["milliseconds"]) == 2 * ladder.CALLS
    assert kernels.active() == "fast"


def test_a_wrong_rung_shows_in_its_error(monkeypatch):
    def forgets_a_column(x, w, out):
        loops.sum_forward(x, w, out)
        out[:, :, -1] = 0

    rung = ladder.Rung("wrong", *ladder._by_loops(forgets_a_column, loops.sum_backward, lambda w: w))
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(SHAPE, np.float32), rng.standard_normal((5, 5, 2, 3), np.float32)
    dout = rng.standard_normal((3, 7, 6, 3), np.float32)
    errors = ladder.Climber(rung, dout, x, w).errors(ladder.exact_convolution(dout, x, w))
    assert errors["out"] > 0.1
    assert max(errors["dx"], errors["dw"]) < 1e-5


def test_memory_is_plain_only_where_it_is_said_to_be():
    own = memory.empty, memory.zeros, memory.empty, memory.empty

    def used():
        return ladder.conv2d.empty, ladder.conv2d.zeros, im2col.empty, memory.empty

    assert used() == own
    with ladder.plain_memory():
        assert used() == (np.empty, np.zeros, np.empty, np.empty)
    assert used() == own
    seen = []

    def forward(x, w):
        seen.append(ladder.conv2d.empty)
        return x

    for plain in (True, False):
        climber = ladder.Climber(ladder.Rung("", forward, forward, plain), *(np.ones((9, 500), np.float32),) * 3)
        climber.ask("time", "forward", 1)
        if not plain:
            assert [array.ctypes.data % 64 for array in climber.arrays] == [0, 0, 0]
    assert seen == [np.empty, np.empty, own[0], own[0]]


def test_the_ways_to_run_a_network_are_those_they_are_called():
    plain = tiny((8, 10, 1), 10, 0)
    x, y = np.zeros((2, 8, 10, 1), np.float32), np.zeros(2, int)
    for way in ladder.NETWORKS:
        runner = ladder.Runner(way, ladder.description(plain), plain.get_weights(), x, y)
        assert {layer.algorithm for layer in runner.model.layers if isinstance(layer, Conv2D)} == {way.algorithm}
        assert runner.model.fuse is way.fuse
        assert (runner.model._current_plan() is not None) is way.fuse
    assert [way.kernels for way in ladder.NETWORKS] == ["reference", *["fast"] * 5]
    assert [way.plain for way in ladder.NETWORKS] == [False] * 4 + [True, False]

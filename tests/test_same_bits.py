"""Weights, optimizer state and history have the same SHA-256 on any number of threads, twice, with any kernel cache."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minicnn import saving
from minicnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, MaxPooling2D
from minicnn.models import Sequential
from minicnn.optimizers import SGD, Adam, RMSprop
from minicnn.preprocessing.image import ImageDataGenerator
from networks import SPARSE, draw_images

OPTIMIZERS = {"adam": lambda: Adam(), "momentum": lambda: SGD(0.01, momentum=0.9),
              "rmsprop": lambda: RMSprop(centered=True, momentum=0.5)}


def digest(model):
    """Return one SHA-256 over weights, what the optimizer remembers, and history."""
    slots = {f"{name}/{slot}": array for name, own in model.optimizer.slots.items() for slot, array in own.items()}
    series = {name: np.array(values) for name, values in model.history.history.items()}
    return hashlib.sha256("".join(map(saving.sha256_of, (model.named_weights(), slots, series))).encode()).hexdigest()


def train(model, x, y, optimizer="adam", moved=False):
    model.compile(OPTIMIZERS[optimizer](), SPARSE, metrics=["accuracy"])
    data = {"x": x, "y": y, "batch_size": 37}
    if moved:
        data = {"x": ImageDataGenerator(rotation_range=10, zoom_range=0.1).flow(x, y, batch_size=37, seed=2)}
    model.fit(**data, epochs=2, verbose=0, validation_data=(x[:20], y[:20]))
    return digest(model)


def convolutional():
    return Sequential([Input((14, 12, 1)), Conv2D(8, 5, padding="same", activation="relu"), BatchNormalization(),
                       Conv2D(16, 3, activation="relu"), MaxPooling2D(2), Dropout(0.3), Flatten(),
                       Dense(24, activation="relu"), BatchNormalization(), Dense(5, activation="softmax")], seed=8)


@pytest.mark.no_jit_excluded("plain Python takes minutes for arrays large enough to be cut into chunks for threads")
@pytest.mark.parametrize(("optimizer", "moved"), [("adam", True), ("momentum", False), ("rmsprop", False)])
def test_any_number_of_threads_and_every_repeat_give_the_same_bits(kernel_set, threads, optimizer, moved):
    x, y = draw_images(np.random.default_rng(1), 100, (14, 12, 1), 5)
    found = {}
    for n in (1, 2, 3, 4, 8, 2):
        threads(n)
        found.setdefault(n, []).append(train(convolutional(), x, y, optimizer, moved))
    assert len({one for several in found.values() for one in several}) == 1, found


@pytest.mark.no_jit_excluded("there is nothing to compile")
def test_a_cold_and_a_warm_cache_give_the_same_bits(tmp_path, use_kernels):
    program = ("from minicnn import kernels; from minicnn.kernels.fast import compile; kernels.use('fast'); "
               "import test_same_bits as t; cold = compile.cold(); print(t.of_dense(), cold)")
    environment = os.environ | {"MINICNN_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(
        [str(Path(__file__).parent), str(Path(__file__).parents[1])])}
    said = [subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True,
                           check=True).stdout.split() for _ in range(2)]
    use_kernels("fast")
    own = of_dense()
    assert said == [[own, "True"], [own, "False"]]


def of_dense():
    """Train one layer: a product, the loss and Adam are compiled in seconds, all kernels in a minute."""
    x, y = draw_images(np.random.default_rng(1), 100, (37,))
    return train(Sequential([Input((37,)), Dense(3, activation="softmax")], seed=4), x, y)

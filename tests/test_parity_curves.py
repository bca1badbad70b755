"""Training curves beside Keras': fifty steps on the same batches from the same weights, the loss of every step.

A step's loss depends on all updates before it, so the curves part as soon as an update differs by more than rounding.
Nothing is random: no dropout, batches in a fixed order. What is left:

- Keras computes Adam's ``1 - 0.999**step`` in float32; that makes its first steps wrong by 8e-6 of their size (see
  ``test_ten_updates_with_fixed_gradients``), and the losses here by up to 4e-6.
- A ReLU whose argument is within rounding of zero may be open in one library and closed in the other; from there on
  they train different networks, and a normalization of small batches magnifies that. Of 96 trainings like those below,
  but with ReLUs, 10 parted by more than 1e-4 (up to 8e-2) when computed by us in float32 and in float64; of 32 with
  tanh none, the largest difference being 1e-5. So in the normalized network all activations are smooth.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from conftest import NO_JIT
from keras_models import NEEDS_KERAS, OURS, pair_of_models
from minicnn.models import Sequential
from networks import CLASSES, IMAGE, draw_images
from proof import record
from test_parity_sweep import one_thread_of_torch  # noqa: F401

pytestmark = [*NEEDS_KERAS, pytest.mark.usefixtures("one_thread_of_torch")]

STEPS = 10 if NO_JIT else 50
LIMIT = 1e-4
N = 8 if NO_JIT else 32


def normalized(library) -> list:
    """Return blocks as in the recipe ``cnn``, without dropout."""
    return [library.Conv2D(3, (5, 3), padding="same", activation="tanh"), library.BatchNormalization(),
            library.Conv2D(4, (2, 3), strides=(1, 2), activation="tanh", use_bias=False),
            library.BatchNormalization(), library.MaxPooling2D((2, 1)), library.Flatten(),
            library.Dense(6, activation="tanh"), library.BatchNormalization(momentum=0.8),
            library.Dense(CLASSES, activation="softmax")]


def plain(library) -> list:
    """Return a network without batch normalization."""
    return [library.Conv2D(4, (3, 2), strides=(2, 1), activation="tanh"), library.MaxPooling2D((1, 2)),
            library.Conv2D(3, 2, padding="same", activation="relu"), library.Flatten(),
            library.Dense(8, activation="sigmoid"), library.Dense(CLASSES, activation="softmax")]


OPTIMIZERS = {
    "Adam": lambda library: library.optimizers.Adam(0.002),
    "SGD with momentum": lambda library: library.optimizers.SGD(0.01, momentum=0.9),
    "SGD with Nesterov momentum": lambda library: library.optimizers.SGD(0.02, momentum=0.8, nesterov=True),
    "RMSprop": lambda library: library.optimizers.RMSprop(0.002),
}
NETWORKS = {"normalized": normalized, "plain": plain}


@functools.cache
def curves(network: str, optimizer: str) -> tuple[Sequential, list[tuple[np.ndarray, np.ndarray]], list[float]]:
    """Return our untrained model, the batches, and Keras' losses."""
    rng = np.random.default_rng(11)
    ours, theirs = pair_of_models(rng, NETWORKS[network], IMAGE, optimizer=OPTIMIZERS[optimizer],
                                  loss="sparse_categorical_crossentropy")
    batches = [draw_images(rng, N) for _ in range(5)]
    return ours, batches, [float(theirs.train_on_batch(*batches[step % 5])) for step in range(STEPS)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_fifty_steps_give_the_same_losses(network, optimizer, kernel_set):
    ours, batches, expected = curves(network, optimizer)
    weights = ours.get_weights()
    ours.compile(OPTIMIZERS[optimizer](OURS), "sparse_categorical_crossentropy")     # the other set started from here
    losses = [ours.train_on_batch(*batches[step % 5]) for step in range(STEPS)]
    ours.set_weights(weights)
    assert np.ptp(expected) > 0.1, "a curve that hardly moves proves nothing"
    np.testing.assert_allclose(losses, expected, rtol=0, atol=LIMIT)
    record("training curves", worst=np.max(np.abs(np.subtract(losses, expected))))

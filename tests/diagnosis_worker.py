"""Diagnoses layers of a minicnn with a mistake in its source: ``python diagnosis_worker.py 2`` answers a list of them.

stdin holds a JSON list of ``{"module", "path", "source", "topic"}``; each line of stdout is, for one of them, a JSON
list with, for every layer that was refused, the kinds named in its rows. Where processes can be forked each mistake
gets a fork of this process, which has loaded nothing of minicnn; elsewhere it gets a process of its own. The argument
says how many run at a time.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import subprocess
import sys
from collections import deque
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

# What every fork needs, loaded once.
import threadpoolctl  # noqa: E402, F401
import tqdm.auto  # noqa: E402, F401

from mistakes.worker import EditedModule, compile_once, start_fork  # noqa: E402

SEED = 31337
IN_BLOCKS, BLOCK_ENTRIES = (10, 8, 3), 1000     # images that the reference convolution takes three at a time


def layers_of(topic):
    """Return (layer, shape of one input); no geometry that a hypothesis was written with."""
    from minicnn.layers import Activation, BatchNormalization, Conv2D, Dense, Dropout, Flatten, MaxPooling2D
    if topic == "batch norm":
        return [(drawn(BatchNormalization(epsilon=0.02), shape), shape) for shape in [(4, 6, 2), (8,)]] + [
            (drawn(BatchNormalization(trainable=False), (3, 5, 4)), (3, 5, 4))]
    return {
        "conv": [(Conv2D(3, (4, 4), padding="same"), (5, 7, 2)),    # square: some mistakes crash on others
                 (Conv2D(2, (2, 5), strides=(1, 2), padding="same", activation="relu"), (5, 8, 3)),
                 (Conv2D(2, (4, 3), strides=(3, 2)), IN_BLOCKS)],
        "pooling": [(MaxPooling2D((2, 4)), (6, 9, 2)),
                    (MaxPooling2D((4, 3), strides=(1, 2), padding="same"), (7, 6, 3)),
                    (MaxPooling2D((3, 5), strides=(2, 3), padding="same"), (8, 10, 1))],
        "dropout": [(Dropout(0.35), (5, 8, 3)), (Dropout(0.55), (13,))],
        "dense": [(Dense(9, activation="relu"), (8,)), (Dense(7), (7,))],
        "initial weights, loaders, training": [(Flatten(), (3, 5, 2))],
        "activations": [(Activation(name), (11,)) for name in ("relu", "sigmoid", "tanh", "softmax")],
    }[topic]


def models():
    """Return (model, inputs, targets): with a softmax, which the loss takes over, and without; no row sums to 1."""
    from minicnn.layers import Dense
    from minicnn.models import Sequential
    rng = np.random.default_rng(SEED)
    for activation in ("softmax", "sigmoid"):
        model = Sequential([Dense(4, activation=activation, input_shape=(7,))])
        model.compile("sgd", loss="categorical_crossentropy")
        yield model, rng.standard_normal((5, 7)), rng.uniform(0.1, 0.9, (5, 4))


def checks_of(topic):
    """Return a call for each report to be made: on layers, or on models where the topic is the loss."""
    from minicnn.gradcheck import check_layer, check_model
    if topic == "softmax cross-entropy":
        return [functools.partial(check_model, *model, seed=SEED) for model in models()]
    return [functools.partial(check_layer, layer, shape, batch_size=5, seed=SEED) for layer, shape in layers_of(topic)]


def drawn(layer, shape):
    """Return a built layer whose weights are all drawn: at 0 and 1 much cannot be seen."""
    layer.build(shape)
    rng = np.random.default_rng(SEED)
    for array in (*layer.params.values(), *layer.state.values()):
        array[...] = rng.uniform(0.5, 2, array.shape)
    return layer


def kinds_named(request):
    """Import minicnn with the mistake; return the kinds named for each layer that was refused."""
    sys.meta_path.insert(0, EditedModule(request["module"], request["path"], request["source"]))
    np.seterr(all="ignore")
    from minicnn import kernels
    kernels.use("reference")
    convolution = sys.modules["minicnn.kernels.reference.conv2d"]
    one_block = convolution.BLOCK_ENTRIES
    named = []
    for check in checks_of(request["topic"]):
        convolution.BLOCK_ENTRIES = BLOCK_ENTRIES if any(given is IN_BLOCKS for given in check.args) else one_block
        try:
            report = check()
        except Exception:  # a crash is no wrong gradient
            continue
        if not report.ok:
            named.append([row.diagnosis.kind for row in report.rows if row.diagnosis])
    return named


def start(request):
    """Start to answer a request; return what waits for the answer."""
    if hasattr(os, "fork"):
        return start_fork(lambda answer: answer(kinds_named(request)))
    process = subprocess.Popen([sys.executable, __file__, "once"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process.stdin:
        process.stdin.write(json.dumps(request).encode())

    def wait():
        with process:
            return process.stdout.read().decode().strip()

    return wait


def main():
    if sys.argv[1:] == ["once"]:
        print(json.dumps(kinds_named(json.load(sys.stdin))))
        return
    if hasattr(os, "fork"):
        compile_once()
        gc.freeze()
    running = deque()
    for request in json.load(sys.stdin):
        if len(running) == int(sys.argv[1]):
            print(running.popleft()())
        running.append(start(request))
    for answer in running:
        print(answer())


if __name__ == "__main__":
    main()

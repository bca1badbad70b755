"""On a processor with smaller vectors the kernels give the same results: compiled for AVX2, and for any of the kind.

The compiler is told to know less than this machine can do; each way in a process, and a kernel cache, of its own.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import pytest

from fast_processes import finish, start
from sharing import processes

ROOT = Path(__file__).resolve().parents[1]
X86 = platform.machine().lower() in ("x86_64", "amd64")
# What LLVM calls a processor, and registers that code for it does not use.
KINDS = {"haswell": ["zmm"], "generic": ["zmm", "ymm"]} if X86 else {"generic": []}

PROGRAM = """
import importlib, json
import numpy as np
from minicnn import Input, Sequential, kernels
from minicnn.kernels import reference
from minicnn.kernels.fast import dense, direct, fused, memory, parallel, winograd
from minicnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from minicnn.optimizers import SGD, Adam, RMSprop
conv2d = importlib.import_module("minicnn.kernels.fast.conv2d")
rng = np.random.default_rng(3)
PADDING, EPSILON = (1, 0, 2, 1), 1e-3


def errors(algorithm, r):
    \"\"\"Of convolution, ReLU, sums, normalization and pooling, as they ride in it, forward and backward.\"\"\"
    shapes = (2, 9, 8, 18), (r, r, 18, 17), (17,), (18,), (18,)
    a, w, b, gamma, beta = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    exactly = [array.astype(np.float64) for array in (a, w, b, gamma, beta)]
    n, mean, variance = reference.batch_norm(exactly[0], *exactly[3:], EPSILON)
    pooled, winner = reference.max_pool2d(n, (2, 2), (2, 2), (0, 0, 0, 0))
    out = reference.relu(reference.conv2d(pooled, *exactly[1:3], (1, 1), PADDING))
    norm = fused.normalization(gamma, beta, mean, variance, EPSILON, a.dtype)
    largest = memory.empty(pooled.shape, a.dtype)
    g = conv2d.geometry(pooled.shape, w.shape, (1, 1), PADDING, algorithm)
    result, moments, _ = conv2d.convolve(g, fused.source_of(a, norm, largest), w, b, relu=True, measure=True)
    dout = rng.standard_normal(out.shape).astype(np.float32)
    right = reference.conv2d_backward(reference.relu_backward(dout.astype(np.float64), out), pooled, exactly[1], (1, 1),
                                      PADDING)
    *gradients, sums = conv2d.convolve_backward(g, fused.source_of(largest, norm),
                                                fused.gradient_of(dout, result, True), w, True)
    pairs = zip((result, *moments, *gradients, sums[0]),
                (out, out.mean(axis=(0, 1, 2)), out.var(axis=(0, 1, 2)), *right, right[0].sum(axis=(0, 1, 2))))
    return [float(np.linalg.norm(actual - expected) / np.linalg.norm(expected)) for actual, expected in pairs]


def trained(kernel_set, dtype, optimizer, images):
    \"\"\"Train a network with a layer of every kind; return its weights and what it predicts.\"\"\"
    kernels.use(kernel_set)
    model = Sequential([
        Input(images.shape[1:]), Conv2D(18, 3, padding="same", activation="relu", dtype=dtype),
        BatchNormalization(dtype=dtype), MaxPooling2D(2, dtype=dtype), Dropout(0.25, dtype=dtype),
        Conv2D(20, 5, padding="same", dtype=dtype), Flatten(dtype=dtype), Dense(37, activation="relu", dtype=dtype),
        BatchNormalization(dtype=dtype), Dense(10, activation="softmax", dtype=dtype)], seed=1)
    model.compile(optimizer(), "sparse_categorical_crossentropy")
    for step in range(3):
        model.train_on_batch(images, np.arange(len(images)) % 10)
    return [*model.get_weights(), model.predict(images, verbose=0), model(images[:1])]


def networks(dtype, optimizer):
    \"\"\"Return how far apart the two kernel sets are after three steps, the largest of all weights and outputs.\"\"\"
    parallel.SMALL, fused.CHUNK, dense.SMALL = 0, 64, 0  # two threads share what one would do alone
    images = rng.standard_normal((37, 10, 8, 3)).astype(dtype)
    found, exact = (trained(name, dtype, optimizer, images) for name in ("fast", "reference"))
    return max(float(np.linalg.norm(one - other) / np.linalg.norm(other)) for one, other in zip(found, exact))


print(json.dumps({
    "single": networks("float32", lambda: SGD(0.01, momentum=0.9)),
    "double": [networks("float64", optimizer) for optimizer in (SGD, Adam, RMSprop)],
    "errors": [error for algorithm, r in (("winograd", 3), ("winograd", 5), ("direct", 3))
               for error in errors(algorithm, r)],
    "code": [register for module in (winograd, direct) for function in (module.forward, module.backward)
             for code in function.inspect_asm().values() for register in ("zmm", "ymm", "xmm") if register in code]}))
"""


@pytest.mark.no_jit_excluded("nothing is compiled")
def test_results_do_not_need_the_vectors_of_this_machine(tmp_path):
    def begin(name):
        return start(ROOT, tmp_path / name, PROGRAM, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES="", MINICNN_THREADS="2")

    running = {name: begin(name) for name in KINDS if processes() > 1}
    for name, unused in KINDS.items():
        report = json.loads(finish(running.get(name) or begin(name), patience=600))
        assert len(report["errors"]) == 21
        assert max(report["errors"]) <= 2e-5, (name, report["errors"])
        assert np.isfinite(report["errors"]).all()
        assert report["single"] <= 2e-5, (name, report["single"])
        assert max(report["double"]) <= 1e-10, (name, report["double"])
        assert set(unused).isdisjoint(report["code"]), name  # else the compiler was not restricted
        assert report["code"] or not X86

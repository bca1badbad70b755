"""From the naive loop to the fused plan: one convolution, then a whole step, each rung timed and held against float64.

The convolution is the second of `cnn`, 5x5 from 32 to 32 channels on 28x28 pixels, 62 % of the network's
multiplications. All rungs run on the same threads; BLAS as many as the rest.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from threadpoolctl import threadpool_limits

import benchmark_loops as loops
import machine
import recipes
from benchmark_peers import LOSS
from benchmark_processes import by_turns, medians
from benchmark_worker import timed
from benchmark_workloads import CLASSES, IMAGE, description, random_weights
from minicnn import Input, Sequential, kernels
from minicnn.kernels import reference
from minicnn.kernels.fast import memory
from minicnn.kernels.fast.parallel import chunk_bounds, run
from minicnn.kernels.threads import get_threads
from minicnn.layers import LAYERS

conv2d: Any = importlib.import_module("minicnn.kernels.fast.conv2d")  # in its package, the name is the function

SHAPE = (128, 28, 28, 32)  # N, H, W, C
FILTERS, KERNEL = 32, 5
STEP_BATCH = 128
EXACT_IMAGES = 8  # at a time, and of a network's outputs in all
CALLS, SLOW_CALLS = 3, 2
STRIDE, MARGINS = (1, 1), (2, 2, 2, 2)

Gradients = tuple[np.ndarray, np.ndarray]


class Rung(NamedTuple):
    """One way to convolve. ``plain`` has its arrays where NumPy puts them; ``slow`` takes seconds."""

    title: str
    forward: Callable[[np.ndarray, np.ndarray], np.ndarray]
    backward: Callable[[np.ndarray, np.ndarray, np.ndarray], Gradients]  # of dout, x, w: dx and dw
    plain: bool = False
    slow: bool = False


def measure(repeats: int) -> dict[str, Any]:
    """Climb both ladders; return them as they go into the file."""
    with threadpool_limits(get_threads(), "blas"):
        return {"kind": "ladder", "machine": machine.machine(), "versions": machine.versions(), "repeats": repeats,
                "convolution": convolution_ladder(repeats), "step": step_ladder(repeats)}


# --- one convolution ---------------------------------------------------------------------------------------------

def rungs() -> list[Rung]:
    """Return the ways to convolve, the slowest first."""
    tiles = _library(conv2d, "im2col")
    return [
        Rung("loops, as in the definition", *_by_loops(loops.sum_forward, loops.sum_backward, lambda w: w), slow=True),
        Rung("loops, filters innermost", *_by_loops(loops.row_forward, loops.row_backward, _turned), slow=True),
        Rung("im2col and one matrix product (NumPy)", *_library(reference, "im2col"), plain=True),
        Rung("im2col by tiles that fit the cache", *tiles, plain=True),
        Rung("the same in aligned memory that is used again", *tiles),
        Rung("direct: micro-kernel on explicit vectors", *_library(conv2d, "direct")),
        Rung("Winograd in memory as NumPy gives it", *_library(conv2d, "winograd"), plain=True),
        Rung("Winograd", *_library(conv2d, "winograd")),
    ]


def convolution_ladder(repeats: int) -> dict[str, Any]:
    """Time every rung, forward and backward, and compare its results with float64."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(SHAPE, dtype=np.float32)
    limit = np.sqrt(6 / (KERNEL**2 * (SHAPE[3] + FILTERS)))
    w = rng.uniform(-limit, limit, (KERNEL, KERNEL, SHAPE[3], FILTERS)).astype(np.float32)
    dout = rng.standard_normal((*SHAPE[:3], FILTERS), dtype=np.float32)
    exact = exact_convolution(dout, x, w)
    steps = [Climber(rung, dout, x, w) for rung in rungs()]
    rows = []
    for step in steps:
        print(f"{step.rung.title} ...", flush=True)
        rows.append({"title": step.rung.title, "error": step.errors(exact)})
    fast = {str(k): step for k, step in enumerate(steps) if not step.rung.slow}
    for work in ("forward", "backward"):
        times = by_turns(fast, work, CALLS, repeats)
        for k, step in enumerate(steps):
            if step.rung.slow:  # compiled already, and nothing else would be in the caches
                times[str(k)] = step.ask("time", work, SLOW_CALLS, warm_up=0)
            rows[k][work] = {"milliseconds": times[str(k)], "median": medians(times)[str(k)]}
    operations = 2 * dout.size * KERNEL**2 * SHAPE[3]
    return {"shape": list(SHAPE), "kernel": list(w.shape), "operations": {"forward": operations,
            "backward": 2 * operations}, "rungs": rows}


class Climber:
    """A rung with its arrays; answers like a side of a comparison."""

    def __init__(self, rung: Rung, dout: np.ndarray, x: np.ndarray, w: np.ndarray) -> None:
        self.rung = rung
        place = np.empty if rung.plain else memory.empty
        self.arrays = []
        for array in (dout, x, w):
            self.arrays.append(place(array.shape, array.dtype))
            self.arrays[-1][...] = array

    def ask(self, do: str, work: str, calls: int, warm_up: int = 1) -> list[float]:
        """Return the milliseconds of calls of ``forward`` or ``backward``."""
        with plain_memory() if self.rung.plain else contextlib.nullcontext():
            return timed(getattr(self, work), calls, warm_up)

    def forward(self) -> np.ndarray:
        """Return out."""
        return self.rung.forward(*self.arrays[1:])

    def backward(self) -> Gradients:
        """Return dx and dw."""
        return self.rung.backward(*self.arrays)

    def errors(self, exact: dict[str, np.ndarray]) -> dict[str, float]:
        """Return the relative error of out, dx and dw, in the 2-norm."""
        dx, dw = self.backward()
        return {name: normwise(array, exact[name]) for name, array in (("out", self.forward()), ("dx", dx), ("dw", dw))}


def normwise(found: np.ndarray, exact: np.ndarray) -> float:
    """Return ``||found - exact|| / ||exact||``."""
    return float(np.linalg.norm((found - exact).ravel()) / np.linalg.norm(exact.ravel()))


def exact_convolution(dout: np.ndarray, x: np.ndarray, w: np.ndarray) -> dict[str, np.ndarray]:
    """Return out, dx and dw by the reference kernels in float64, a few images at a time."""
    dout, x, w = (array.astype(np.float64) for array in (dout, x, w))
    outs, dxs, dw = [], [], np.zeros_like(w)
    for n in range(0, len(x), EXACT_IMAGES):
        part = slice(n, n + EXACT_IMAGES)
        outs.append(reference.conv2d(x[part], w, None, STRIDE, MARGINS))
        dx, part_dw, _ = reference.conv2d_backward(dout[part], x[part], w, STRIDE, MARGINS)
        assert dx is not None
        dxs.append(dx)
        dw += part_dw
    return {"out": np.concatenate(outs), "dx": np.concatenate(dxs), "dw": dw}


def _library(kernel: Any, algorithm: str) -> tuple[Callable[..., np.ndarray], Callable[..., Gradients]]:
    """Return forward and backward of the library's kernels."""
    return (lambda x, w: kernel.conv2d(x, w, None, STRIDE, MARGINS, algorithm),
            lambda dout, x, w: kernel.conv2d_backward(dout, x, w, STRIDE, MARGINS, algorithm)[:2])


def _by_loops(forward: Callable[..., None], backward: Callable[..., None], order: Callable[[np.ndarray], np.ndarray],
              ) -> tuple[Callable[..., np.ndarray], Callable[..., Gradients]]:
    """Return forward and backward by compiled loops, the batch in chunks; ``order`` is how backward wants w."""
    top, bottom, left, right = MARGINS

    def padded(x: np.ndarray) -> np.ndarray:
        return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))

    def convolve(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        x = padded(x)
        out = np.empty((len(x), x.shape[1] - w.shape[0] + 1, x.shape[2] - w.shape[1] + 1, w.shape[3]), x.dtype)
        bounds = list(itertools.pairwise(chunk_bounds(len(x))))
        run(lambda chunk: forward(x[slice(*bounds[chunk])], w, out[slice(*bounds[chunk])]), len(bounds))
        return out

    def gradients(dout: np.ndarray, x: np.ndarray, w: np.ndarray) -> Gradients:
        x, turned = padded(x), order(w)
        dx, bounds = np.zeros_like(x), list(itertools.pairwise(chunk_bounds(len(x))))
        dw = np.zeros((len(bounds), *w.shape), w.dtype)

        def task(chunk: int) -> None:
            part = slice(*bounds[chunk])
            backward(dout[part], x[part], turned, dx[part], dw[chunk])

        run(task, len(bounds))
        return dx[:, top:-bottom, left:-right], dw.sum(axis=0)

    return convolve, gradients


def _turned(w: np.ndarray) -> np.ndarray:
    """Return w (KH, KW, C, F) as (KH, KW, F, C)."""
    return np.ascontiguousarray(w.transpose(0, 1, 3, 2))


@contextlib.contextmanager
def plain_memory() -> Iterator[None]:
    """Let all fast kernels take their arrays from NumPy, 16 bytes past a cache line if large."""
    own = {"empty": (memory.empty, np.empty), "zeros": (memory.zeros, np.zeros)}
    with contextlib.ExitStack() as stack:
        for path, module in list(sys.modules.items()):
            if path.startswith("minicnn.kernels.fast."):
                for name, (aligned, plain) in own.items():
                    if getattr(module, name, None) is aligned:
                        stack.enter_context(mock.patch.object(module, name, plain))
        yield


# --- a whole step ------------------------------------------------------------------------------------------------

class Network(NamedTuple):
    """One way to run `cnn`."""

    title: str
    kernels: str
    algorithm: str = "auto"
    fuse: bool = False
    plain: bool = False


NETWORKS = (
    Network("im2col and one matrix product (NumPy)", "reference"),
    Network("im2col by tiles, layer by layer", "fast", "im2col"),
    Network("direct, layer by layer", "fast", "direct"),
    Network("Winograd where it pays, layer by layer", "fast"),
    Network("the same, neighbours fused, in memory as NumPy gives it", "fast", fuse=True, plain=True),
    Network("the same in aligned memory that is used again", "fast", fuse=True),
)


def step_ladder(repeats: int) -> dict[str, Any]:
    """Time a training step and inference of `cnn` with each, and compare its outputs with float64."""
    plain = recipes.cnn(IMAGE, CLASSES, 0)
    weights = random_weights(plain)
    rng = np.random.default_rng(0)
    x, y = rng.random((STEP_BATCH, *IMAGE), dtype=np.float32), rng.integers(0, CLASSES, STEP_BATCH)
    runners = {str(k): Runner(network, description(plain), weights, x, y) for k, network in enumerate(NETWORKS)}
    exact = Runner(Network("", "reference"), description(plain), weights, x, y, dtype="float64").outputs()
    rows: list[dict[str, Any]] = []
    for runner in runners.values():
        print(f"cnn: {runner.network.title} ...", flush=True)
        rows.append({"title": runner.network.title, "error": normwise(runner.outputs(), exact)})
    for work in ("train", "infer"):
        times = by_turns(runners, work, CALLS, repeats)
        for k, row in enumerate(rows):
            row[work] = {"milliseconds": times[str(k)], "median": medians(times)[str(k)]}
    return {"network": "cnn", "batch_size": STEP_BATCH, "rungs": rows}


class Runner:
    """A network run one way; answers like a side of a comparison."""

    def __init__(self, network: Network, layers: list[dict[str, Any]], weights: list[np.ndarray], x: np.ndarray,
                 y: np.ndarray, dtype: str = "float32") -> None:
        self.network, self.x, self.y = network, x, y
        made = []
        for layer in layers:
            changed = {"algorithm": network.algorithm} if layer["class"] == "Conv2D" else {}
            made.append(LAYERS[layer["class"]](**layer["config"] | changed | {"dtype": dtype}))
        self.model = Sequential([Input(x.shape[1:]), *made], seed=0)
        self.model.set_weights(weights)
        self.model.compile(optimizer="adam", loss=LOSS, metrics=["accuracy"], fuse=network.fuse)

    def ask(self, do: str, work: str, calls: int) -> list[float]:
        """Return the milliseconds of calls of ``train`` or ``infer``."""
        with kernel_set(self.network.kernels), plain_memory() if self.network.plain else contextlib.nullcontext():
            return timed(getattr(self, work), calls)

    def train(self) -> Any:
        """Do one training step."""
        return self.model.train_on_batch(self.x, self.y)

    def infer(self) -> np.ndarray:
        """Return the outputs of the batch."""
        return self.model.predict(self.x, batch_size=len(self.x), verbose=0)

    def outputs(self) -> np.ndarray:
        """Return the outputs of a few images."""
        with kernel_set(self.network.kernels):
            return self.model.predict(self.x[:EXACT_IMAGES], verbose=0)


@contextlib.contextmanager
def kernel_set(name: str) -> Iterator[None]:
    """Use a kernel set for a while."""
    before = kernels.active()
    kernels.use(name)
    try:
        yield
    finally:
        kernels.use(before)
